"""What every optimizer does, whatever its algorithm; imports TensorFlow, no Keras."""
