"""The methods of an optimizer that Keras and users call; they hand on to its parts."""
