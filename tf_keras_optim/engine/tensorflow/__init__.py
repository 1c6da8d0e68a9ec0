"""TensorFlow's contexts, devices and private API."""
