"""What the engine sees of an optimizer whose class has members of its own under our names.

As a rule that is the optimizer itself. Where a class of a user's has an attribute that is
called as an option or a hook of this package and is something else, it is a `Seen`.
"""

from collections.abc import Mapping, Set
from typing import Any


class Seen:
    """An optimizer with its options and hooks as this package means them.

    Args:
      owner: the optimizer.
      options: those options whose names the class has for itself, with their values.
      hooks: the names of hooks that the class has for itself.
      users: the classes of the user's.

    Attributes:
      tko_itself: the optimizer.
      tko_options: as given, by name.
      tko_hooks: as given.
      tko_class: the class of this package that the optimizer's is derived from.
    """

    def __init__(
        self, owner: Any, options: Mapping[str, Any], hooks: Set[str], users: Set[type]
    ):
        self.tko_itself = owner
        self.tko_options = dict(options)
        self.tko_hooks = hooks
        self.tko_class = next(c for c in type(owner).__mro__ if c not in users)
        self._owners = [c for c in type(owner).__mro__ if c not in users]

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "tko_")):
            raise AttributeError(name)
        if name in self.tko_options:
            return self.tko_options[name]
        if name not in self.tko_hooks:
            return getattr(self.tko_itself, name)
        found = next(vars(cls)[name] for cls in self._owners if name in vars(cls))
        cls = type(self.tko_itself)
        return found.__get__(self.tko_itself, cls) if hasattr(found, "__get__") else found


def itself(seen: Any) -> Any:
    """Returns the optimizer that is seen."""
    return seen.tko_itself if isinstance(seen, Seen) else seen


def class_of(seen: Any) -> type:
    """Returns the class of the optimizer that is seen."""
    return type(itself(seen))


def class_for(seen: Any, *hooks: str) -> Any:
    """Returns the class that says what hooks are: the optimizer's, or one of this package's."""
    own = isinstance(seen, Seen) and any(hook in seen.tko_hooks for hook in hooks)
    return seen.tko_class if own else class_of(seen)


def owns(seen: Any, option: str) -> bool:
    """Whether an option's name is one that the class has for itself."""
    return isinstance(seen, Seen) and option in seen.tko_options
