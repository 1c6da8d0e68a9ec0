"""All classes: the modules that add them to the list are imported here."""

from tests.own_classes import cases as _cases
from tests.own_classes import decays, hooks, names, slots, sparse, state, two, wrappers

MODULES = (decays, hooks, names, state, slots, sparse, two, wrappers)


def cases():
    """Returns all classes for the running Keras, by name."""
    known = _cases.known()
    return {
        name: found
        for module in MODULES
        for name, found in known.items()
        if found.make.__module__ == module.__name__
    }
