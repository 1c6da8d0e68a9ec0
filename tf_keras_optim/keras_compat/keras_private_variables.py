"""Private API of both Kerases about single variables and about the stores that Keras writes.

What needs the running Keras is in `keras_private`. A name that is missing fails no import.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import tensorflow as tf

from tf_keras_optim.engine.tensorflow import missing


def inside_autocast(variable: Any) -> Any:
    """Returns the variable inside one that tf_keras casts under a mixed precision policy.

    Needs `AutoCastVariable._variable`. Without it the one attribute that is a variable is
    taken. Anything else comes back as it is.

    Raises:
      RuntimeError: there is no such attribute.
    """
    if not hasattr(variable, "true_dtype"):
        return variable
    attributes = vars(variable)
    parts = [v for v in attributes.values() if isinstance(v, tf.Variable)]
    found = attributes.get("_variable")
    if found is None and len(parts) == 1:
        found = parts[0]
    if found is None:
        consequence = (
            "variables under a mixed precision policy cannot be updated. Use the policy "
            '"float32".'
        )
        raise missing.error_of(variable, "_variable", consequence)
    return found


class Entry:
    """A store of Keras 3 in an HDF5 file that shows the group which it stands for.

    Needs `H5IOStore._h5_entry_group`. Without it the one attribute that is a group, and no
    file, is taken.

    Args:
      store: what Keras hands to `save_own_variables` and `load_own_variables`.
    """

    def __init__(self, store: Any):
        self._store = store

    def keys(self) -> Iterable[str]:
        """Returns the names of the arrays."""
        return self._store.keys()

    def __getitem__(self, name: str) -> Any:
        return self._store[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._store[name] = value

    @property
    def group(self) -> Any:
        """The group as it is now: it changes while Keras writes. Empty if there is none yet.

        Raises:
          RuntimeError: there are arrays, and no group can be told.
        """
        found = getattr(self._store, "_h5_entry_group", None)
        if found is None:
            groups = [v for v in vars(self._store).values() if isinstance(v, h5py.Group)]
            groups = [group for group in groups if not isinstance(group, h5py.File)]
            found = groups[0] if len(groups) == 1 else None
        if found is None and len(list(self._store.keys())):
            consequence = (
                "the notes on an optimizer's arrays cannot be written to Keras' files, or "
                "read. Use `tko.save_state` and `tko.load_state` for its state."
            )
            raise missing.error_of(self._store, "_h5_entry_group", consequence)
        return {} if found is None else found


def opened(store: Any) -> Any:
    """Returns a store with its HDF5 group in sight, if it is one of Keras 3 in such a file."""
    is_plain = isinstance(store, (Mapping, h5py.Group)) or hasattr(store, "group")
    is_keras = type(store).__module__.split(".")[0] == "keras"
    return Entry(store) if is_keras and not is_plain else store
