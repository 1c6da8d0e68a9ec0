"""The error about private API that a version of TensorFlow or Keras no longer has."""

TESTED = "TensorFlow 2.21, Keras 3.15 and tf_keras 2.21"


def error(library: str, version: str, name: str, consequence: str) -> RuntimeError:
    """Returns the error to raise where no public way gives the same.

    Args:
      library: "TensorFlow", "Keras" or "tf_keras".
      version: its version.
      name: what is missing.
      consequence: what cannot be done, and what the user can do instead; a sentence.
    """
    return RuntimeError(text(library, version, name, consequence))


def text(library: str, version: str, name: str, consequence: str) -> str:
    """Returns the sentences of `error`, which may also be a warning's."""
    return (
        f"{library} {version} has no `{name}`, which tf_keras_optim uses: {consequence} It is "
        f"tested with {TESTED}; install these, or a newer tf_keras_optim."
    )
