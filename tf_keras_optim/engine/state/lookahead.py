"""The slow weights of Lookahead: a slot that the engine keeps beside those of an algorithm."""

from collections.abc import Sequence

from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.engine.state.slots import VALUE, Slot

SLOW = "slow_weights"
SLOT = Slot(SLOW, group=9, start=VALUE, meaning="lookahead.slow_weights", keeps_digits=True)


def with_slow(options: CommonOptions, slots: Sequence[Slot], title: str) -> tuple[Slot, ...]:
    """Returns the slots of a variable, with the slow weights where these are asked for.

    Args:
      options: the options of the optimizer.
      slots: the slots that the algorithm declares.
      title: the optimizer, for messages.

    Raises:
      ValueError: the algorithm has a slot of that name.
    """
    if not options.lookahead_steps:
        return tuple(slots)
    if any(slot.name == SLOW for slot in slots):
        raise ValueError(
            f"{title}: `lookahead_steps` keeps a slot {SLOW!r}, and the algorithm has one of "
            "that name. Call that one something else."
        )
    return (*slots, SLOT)
