"""The error about private API that a version of TensorFlow or Keras no longer has."""

import sys
from typing import Any

TESTED = "TensorFlow 2.21, Keras 3.15 and tf_keras 2.21"


class PrivateApiError(RuntimeError):
    """Something cannot be done, as a library has changed where it promises nothing."""

    # AutoGraph raises errors as what they are only if they are made as `Exception` is.
    __init__ = Exception.__init__


def error(library: str, version: str, name: str, consequence: str) -> RuntimeError:
    """Returns the error to raise where no public way gives the same.

    Args:
      library: "TensorFlow", "Keras" or "tf_keras".
      version: its version.
      name: what is missing.
      consequence: what cannot be done, and what the user can do instead; a sentence.
    """
    return PrivateApiError(text(library, version, name, consequence))


def error_of(owner: Any, name: str, consequence: str) -> RuntimeError:
    """Returns the error about an attribute that an object of Keras' does not have.

    Args:
      owner: the object.
      name: the attribute.
      consequence: as for `error`.
    """
    library = type(owner).__module__.split(".")[0]
    version = getattr(sys.modules.get(library), "__version__", "")
    library = "Keras" if library == "keras" else library
    return error(library, version, f"{type(owner).__name__}.{name}", consequence)


def text(library: str, version: str, name: str, consequence: str) -> str:
    """Returns the sentences of `error`, which may also be a warning's."""
    return (
        f"{library} {version} has no `{name}`, which tf_keras_optim uses: {consequence} It is "
        f"tested with {TESTED}; install these, or a newer tf_keras_optim."
    )
