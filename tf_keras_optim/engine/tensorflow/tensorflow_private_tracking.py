"""TensorFlow's private API about checkpoints: what objects consist of, and what is restored.

As in `tensorflow_private`, a name that is missing fails no import. Without the methods that
checkpoints call on an object there is no public way to keep slots by their places, so making an
optimizer warns (`warn_of_checkpoints`); training and files of this package go on without them.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import missing
from tf_keras_optim.engine.tensorflow.tensorflow_private import error


def _of_tracking(name: str) -> Any:
    """Returns something of `tf.__internal__.tracking`, or `None`."""
    return getattr(getattr(getattr(tf, "__internal__", None), "tracking", None), name, None)


def _base_class(name: str, otherwise: Any) -> Any:
    """Returns a base class of trackable objects; without its name, from `tf.Module`'s bases."""
    found = _of_tracking(name)
    known = (cls for cls in tf.Module.__mro__ if cls.__name__ == name)
    return next(known, otherwise) if found is None else found


# The class of objects whose attributes checkpoints follow, and the one without attributes.
AutoTrackable: Any = _base_class("AutoTrackable", tf.Module)
Trackable: Any = _base_class("Trackable", AutoTrackable)

_METHODS = (
    "_trackable_children",
    "_lookup_dependency",
    "_serialize_to_tensors",
    "_restore_from_tensors",
    "_copy_trackable_to_cpu",
    "_track_trackable",
    "_delete_tracking",
    "_handle_deferred_dependencies",
)
_CONSEQUENCE = (
    "TensorFlow's checkpoints and SavedModel directories do not hold all of an optimizer's "
    "state, while training is as it was. Write it with `tko.save_state`, or with the model by "
    "`tko.save_model`."
)


def warn_of_checkpoints() -> None:
    """Warns where TensorFlow's checkpoints cannot hold what an optimizer keeps.

    Needs the methods of `Trackable` that checkpoints call, and those that this package calls.
    """
    lacking = [name for name in _METHODS if not hasattr(AutoTrackable, name)]
    if lacking:
        name = "`, `".join(f"Trackable.{name}" for name in lacking)
        warnings.warn(
            missing.text("TensorFlow", tf.__version__, name, _CONSEQUENCE), stacklevel=4
        )


def keep_untracked(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute that no checkpoint follows; needs nothing private."""
    object.__setattr__(owner, name, value)


def attributes(owner: Any) -> dict[str, Any]:
    """Returns what is set on an object, by name; needs nothing private.

    Not by `vars`: a class that was made from the `__dict__` of another one has that one's
    descriptor under this name, which knows no objects of other classes.
    """
    found = (vars(cls).get("__dict__") for cls in reversed(type(owner).__mro__))
    return next(one for one in found if one is not None).__get__(owner)


def children(owner: Any, save_type: str, **kwargs: Any) -> dict[str, Any]:
    """Returns what hangs on an object by its attributes, by name.

    Needs `AutoTrackable._trackable_children`; without it nothing does, and
    `warn_of_checkpoints` has said so.
    """
    try:
        find = AutoTrackable._trackable_children
    except AttributeError:
        return {}
    return find(owner, save_type, **kwargs)


def looked_up(owner: Any, name: str, *cached: Any, **more: Any) -> Any:
    """Returns what hangs on an object under a name, `None` where there is nothing.

    Needs `AutoTrackable._lookup_dependency`; without it nothing is found, and
    `warn_of_checkpoints` has said so.
    """
    try:
        find = AutoTrackable._lookup_dependency
    except AttributeError:
        return None
    return find(owner, name, *cached, **more)


def look_up_by(cls: Any, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces a class' way to look up what hangs on it, by what `made` makes of its own."""
    cls._lookup_dependency = made(getattr(cls, "_lookup_dependency", looked_up))


def track(owner: Any, name: str, value: Any) -> None:
    """Hangs an object on another under a name; needs `Trackable._track_trackable`.

    Without it nothing is hung up, and `warn_of_checkpoints` has said so.
    """
    method = getattr(owner, "_track_trackable", None)
    if method is not None:
        method(value, name, overwrite=True)


def stop_tracking(owner: Any, name: str) -> None:
    """Takes away what hangs on an object; needs `AutoTrackable._delete_tracking`.

    Without it nothing is done, and `warn_of_checkpoints` has said so.
    """
    method = getattr(owner, "_delete_tracking", None)
    if method is not None:
        method(name)


def waiting(owner: Any) -> dict[str, Any]:
    """Returns the edges of checkpoints that found nothing on an object, by name.

    Needs `Trackable._deferred_dependencies`, a dict. Without it there are none, and a
    checkpoint that is read before the slots exist gives them nothing; TensorFlow's own
    `assert_consumed` tells.
    """
    return getattr(owner, "_deferred_dependencies", {})


def hand_over(owner: Any, name: str, value: Any) -> None:
    """Gives an object what checkpoints had for an edge of this name before it was there.

    Needs `Trackable._handle_deferred_dependencies`, as `waiting` needs its dict.
    """
    method = getattr(owner, "_handle_deferred_dependencies", None)
    if method is not None:
        method(name, value)


def checkpoint_of(position: Any) -> Any:
    """Returns the checkpoint that is being restored, from the position of an object in it.

    Needs `CheckpointPosition.checkpoint` with the file's name, the graph of objects, and the
    shapes and dtypes of what was saved.

    Raises:
      RuntimeError: something of that is missing.
    """
    needed = (
        "save_path_string",
        "object_graph_proto",
        "object_by_proto_id",
        "shape_map",
        "dtype_map",
        "restore_uid",
    )
    checkpoint = getattr(position, "checkpoint", None)
    lacking = [name for name in needed if not hasattr(checkpoint, name)]
    lacking += [n for n in ("proto_id", "object_proto") if not hasattr(position, n)]
    if lacking:
        consequence = (
            "slots cannot be restored from TensorFlow's checkpoints. `tko.load_state` reads "
            "their files too."
        )
        raise error("`, `".join(lacking), consequence)
    return checkpoint


def bind(position: Any, public: Any) -> bool:
    """Notes for TensorFlow what a slot is restored to; says whether it is still to be set.

    TensorFlow's own `position.restore` opens the file anew for each slot, which takes ten times
    as long.

    Needs `Trackable._maybe_initialize_trackable` and `_update_uid`, and `bind_object` of the
    position. Without them `position.restore` does all of it.
    """
    try:
        initialize, bind_object = public._maybe_initialize_trackable, position.bind_object
        initialize()
        latest = public._update_uid
    except AttributeError:
        position.restore(public)
        return False
    number = position.checkpoint.restore_uid
    if not bind_object(public) or latest >= number:
        return False  # a later checkpoint has been restored
    public._update_uid = number
    return True


# What tf_keras' classes are made of.


def wrapped(values: list) -> Any:
    """Returns a list that checkpoints follow; needs `tracking.wrap`.

    Without it the list is wrapped as an attribute of a module is.
    """
    wrap = _of_tracking("wrap")
    if wrap is not None:
        return wrap(values)
    module = tf.Module()
    module.values = values
    return module.values


def without_tracking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method within which attributes are set that no checkpoint follows.

    Needs `tracking.no_automatic_dependency_tracking`. Without it the flag that it sets is set
    here, `AutoTrackable._self_setattr_tracking`.
    """
    decorate = _of_tracking("no_automatic_dependency_tracking")
    if decorate is not None:
        return decorate(method)

    @functools.wraps(method)
    def untracked(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = getattr(self, "_self_setattr_tracking", True)
        object.__setattr__(self, "_self_setattr_tracking", False)
        try:
            return method(self, *args, **kwargs)
        finally:
            object.__setattr__(self, "_self_setattr_tracking", before)

    return untracked


def stand_for(owner: Any, other: Any) -> None:
    """Makes an object another one in checkpoints.

    Needs `tracking.DelegatingTrackableMixin`, which is to be among the owner's bases.

    Raises:
      RuntimeError: there is no such class.
    """
    name = "DelegatingTrackableMixin"
    known = (cls for cls in type(owner).__mro__ if cls.__name__ == name)
    mixin: Any = _of_tracking(name) or next(known, None)
    if mixin is None or not isinstance(owner, mixin):
        consequence = (
            "a LossScaleOptimizer cannot stand for the optimizer inside it. Train in float32 "
            "or bfloat16, or with `skip_nonfinite`."
        )
        raise error(f"tracking.{name}", consequence)
    mixin.__init__(owner, other)
