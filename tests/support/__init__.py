"""What the tests share: which Keras runs what, models and data, steps, state to look at."""
