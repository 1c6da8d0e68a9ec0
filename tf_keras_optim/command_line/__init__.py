"""What `python -m tf_keras_optim` and `tf-keras-optim` run; importing the package does not."""
