"""What is kept for model variables: how it is made, named, saved and restored."""
