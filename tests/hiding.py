"""Takes names of TensorFlow's and Keras' away from the package alone.

The libraries need most of them for themselves, so they stay there for everyone else.
"""

import functools
import importlib
import sys
import types

PACKAGE = "tf_keras_optim"


def _asked_by_the_package(depth=2):
    frame = sys._getframe(depth)
    # Tensors look an attribute up again in `__getattr__`; distributed variables ask `_get`.
    while (
        frame.f_code.co_name == "__getattr__" and "distribute" not in frame.f_code.co_filename
    ):
        frame = frame.f_back
    name = frame.f_globals.get("__name__", "")
    return name.split(".")[0] == PACKAGE


class _Hidden:
    """An attribute of a class that code of the package does not find."""

    def __init__(self, name, plain):
        self.name, self.plain = name, plain

    def __get__(self, instance, owner=None):
        if _asked_by_the_package():
            raise AttributeError(f"{self.name} is taken away")
        if hasattr(type(self.plain), "__get__"):
            return self.plain.__get__(instance, owner)
        if instance is not None and self.name in vars(instance):
            return vars(instance)[self.name]
        if self.plain is None:
            raise AttributeError(self.name)
        return self.plain

    def __set__(self, instance, value):
        if _asked_by_the_package():
            return  # an attribute that nothing reads
        if hasattr(type(self.plain), "__set__"):
            self.plain.__set__(instance, value)
        else:
            vars(instance)[self.name] = value

    def __delete__(self, instance):
        vars(instance).pop(self.name)


class _Module(types.ModuleType):
    """A module of which code of the package does not find some names."""

    def __getattribute__(self, name):
        hidden = types.ModuleType.__getattribute__(self, "__dict__").get("_hidden_names", ())
        if name in hidden and _asked_by_the_package():
            raise AttributeError(f"{name} is taken away")
        return types.ModuleType.__getattribute__(self, name)


def hide(holder, *names):
    """Hides attributes of a module (or its name) or a class; returns what undoes it."""
    undo = []
    if not isinstance(holder, type):
        module = importlib.import_module(holder) if isinstance(holder, str) else holder
        before = module.__class__, vars(module).get("_hidden_names", ())
        module._hidden_names = (*before[1], *names)
        module.__class__ = _Module

        def reset(module=module, before=before):
            module.__class__, module._hidden_names = before

        return reset
    for name in names:
        owner = next((cls for cls in holder.__mro__ if name in vars(cls)), holder)
        plain = vars(owner).get(name)
        setattr(owner, name, _Hidden(name, plain))
        if plain is None:
            undo.append(functools.partial(delattr, owner, name))
        else:
            undo.append(functools.partial(setattr, owner, name, plain))

    def back():
        for one in undo:
            one()

    return back
