"""Whether what does not fit is skipped, as Keras' `load_weights(skip_mismatch=True)` does."""

import contextlib
import contextvars
import warnings
from collections.abc import Iterator

_SKIPS: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tf_keras_optim_skips_mismatches", default=False
)


def mismatches_are_skipped() -> bool:
    """Says whether Keras loads a file now and skips what does not fit."""
    return _SKIPS.get()


@contextlib.contextmanager
def skip_mismatches() -> Iterator[None]:
    """Says that what does not fit is skipped, while a file is loaded."""
    token = _SKIPS.set(True)
    try:
        yield
    finally:
        _SKIPS.reset(token)


def warn(title: str, what: str) -> None:
    """Warns that not all of a saved state was taken over.

    Args:
      title: the optimizer.
      what: what was left out, as lines of text.
    """
    warnings.warn(
        f"{title}: the saved state fits in part. What fits was taken over, as "
        f"skip_mismatch=True asks for; what is new starts fresh.\n{what}",
        stacklevel=2,
    )
