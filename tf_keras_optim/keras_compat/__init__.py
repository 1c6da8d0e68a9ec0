"""What each Keras generation expects of an optimizer, and which one is running."""
