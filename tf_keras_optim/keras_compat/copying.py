"""Pickles and deep copies of an optimizer, for which Keras 2 has no way of its own."""

from typing import Any


def reduced(optimizer: Any) -> tuple:
    """Returns what `pickle` and `copy` keep of an optimizer: its arguments and its state.

    The copy is made where it is asked for: in a strategy's scope it belongs to that strategy.
    Its slots wait, as those from a file do, until the copy is built.
    """
    return _made, (type(optimizer), optimizer.get_config(), optimizer.state_dict())


def _made(cls: Any, config: dict[str, Any], state: dict[str, Any]) -> Any:
    optimizer = cls.from_config(config)
    optimizer.load_state_dict(state)
    return optimizer
