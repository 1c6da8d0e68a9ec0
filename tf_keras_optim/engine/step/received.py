"""What has been done to gradients on their way to the step, beside the public arguments."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Received:
    """What is known about the gradients of one call.

    Attributes:
      aggregate: whether they are still to be summed over the replicas.
      scaled: whether they carry the dynamic loss scale, if there is one.
      examined: whether it is known that all of them are finite.
    """

    aggregate: bool = True
    scaled: bool = True
    examined: bool = False


_AS_GIVEN = Received()
_current: contextvars.ContextVar[tuple[Any, Received]] = contextvars.ContextVar(
    "tf_keras_optim_received", default=(None, _AS_GIVEN)
)


def now(owner: object, default: Any = _AS_GIVEN) -> Any:
    """Returns what is known about the gradients that an optimizer's method was called with.

    A method that a subclass overrides has Keras' arguments and no others, so the rest passes
    by it: from the method that calls it to the one that it calls.

    Args:
      owner: the optimizer.
      default: what is returned where nothing was said; by default, what holds for gradients
        that a user gives.
    """
    whose, received = _current.get()
    return received if whose is owner else default


@contextlib.contextmanager
def known(owner: object, received: Received) -> Iterator[None]:
    """Says what is known about gradients while methods of an optimizer are called."""
    token = _current.set((owner, received))
    try:
        yield
    finally:
        _current.reset(token)
