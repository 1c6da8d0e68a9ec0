"""The methods of an optimizer that Keras and users call; they delegate to its parts."""
