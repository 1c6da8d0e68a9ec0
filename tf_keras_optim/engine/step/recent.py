"""A dict that forgets what has not been used for long."""

from collections.abc import Hashable
from typing import Any


class Recent(dict):
    """Values by key, of which only those used of late are kept.

    A value that is here is found as in any dict, which costs nothing more. When the dict is
    full, all that is in it becomes old; `recall` brings an old value back, and what has not
    been brought back until the dict is full again is forgotten.

    Args:
      size: how many values make it full; at most twice as many are kept.
    """

    def __init__(self, size: int):
        super().__init__()
        self._size = size
        self._old: dict[Hashable, Any] = {}

    def recall(self, key: Hashable) -> Any:
        """Returns the value of a key, `None` if there is none; an old one is new again."""
        found = self.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.keep(key, found)
        return found

    def keep(self, key: Hashable, value: Any) -> None:
        """Keeps a value."""
        if len(self) >= self._size:
            self._old = dict(self)
            super().clear()
        self[key] = value

    def clear(self) -> None:
        """Forgets everything."""
        super().clear()
        self._old = {}
