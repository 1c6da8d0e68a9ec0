"""Pickles and deep copies of an optimizer, for which Keras 2 has no way of its own."""

from typing import Any


class Copyable:
    """Is pickled and copied as its arguments and its state, as in Keras 3.

    The copy is made where it is asked for: in a strategy's scope it belongs to that strategy.
    Its slots wait, as those from a file do, until the copy is built.
    """

    def __reduce__(self: Any) -> tuple:
        return _made, (type(self), self.get_config(), self.state_dict())


def _made(cls: type, config: dict[str, Any], state: dict[str, Any]) -> Any:
    optimizer: Any = cls.from_config(config)  # type: ignore[attr-defined]
    optimizer.load_state_dict(state)
    return optimizer
