"""What an algorithm says of single variables: their slots, and in what they differ."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.seen import class_for, class_of
from tf_keras_optim.engine.state.slots import Slot, slot_declarations
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution

# Options with a meaning of their own; see `VariableHooks.options_for`.
RATE_FACTOR = "learning_rate_factor"
DECAY_NAME = "weight_decay_name"
NOT_SPARSE = "not_sparse"
REFRESHES = "refreshes"
WEIGHT_DECAY = "weight_decay"  # the hyperparameter, where nothing else is said
_FACTOR = Hyperparameter(1.0, minimum=0.0)
_FACTOR.name = RATE_FACTOR
_OLDER = {"slots_for": "slots_of", "options_for": "traits_of"}


@dataclasses.dataclass(frozen=True)
class VariableInfo:
    """Properties of a model variable, on which an algorithm may base its decisions.

    Attributes:
      path: its path, e.g. "dense/kernel".
      shape: its shape.
      dtype: the name of its dtype, e.g. "float32".
      decays: whether weight decay is on and the variable not excluded from it.
      place: its place among the variables that the optimizer keeps, in model order, from 0.
      is_last_kernel: whether it was the last of them with two or more dimensions (the kernel
        of the head, often) when the optimizer was first built with it. That stays as it is
        where others are added later.
      device: the device of its value here, e.g. "/job:localhost/replica:0/task:0/device:GPU:0".
    """

    path: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    decays: bool = False
    place: int = 0
    is_last_kernel: bool = False
    device: str = dataclasses.field(default="", compare=False)

    @property
    def rank(self) -> int:
        """The number of its dimensions."""
        return len(self.shape)


@dataclasses.dataclass(frozen=True)
class VariableOptions:
    """In what the update of one variable differs from that of others.

    Attributes:
      traits: what the algorithm's `update` is told of it, by name.
      rate_factor: factor on its learning rate.
      decay_name: the hyperparameter that is its weight decay.
      not_sparse: why it takes no sparse gradient, and what to do; `None` where it takes them.
    """

    traits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate_factor: float = 1.0
    decay_name: str = WEIGHT_DECAY
    not_sparse: str | None = None


class VariableHooks:
    """The part of an algorithm that decides about single variables."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check(cls)

    @property
    def slots(self) -> Sequence[Slot | str]:
        """The slots of the algorithm: declarations, or names of slots that start at 0.

        Overridden by a class attribute, or by a property where options decide.
        """
        return ()

    def slots_for(self, variable: VariableInfo) -> Sequence[Slot | str]:
        """Says which slots are kept for one variable; by default `slots` for each.

        It is asked when the slots are made and when an option changes. With equal options it
        must give equal slots for equal variables, as saved state is compared with them.

        Args:
          variable: what is known of the variable.
        """
        return self.slots

    def slots_of(self, shape: tuple[int, ...]) -> Sequence[Slot | str]:
        """The older form of `slots_for`, which sees the shape alone."""
        return self.slots_for(of_shape(shape))

    @property
    def step_slots(self) -> Sequence[Slot]:
        """Scalars that the algorithm carries from step to step, kept with the state.

        `prepare` finds each as a scalar of that name and returns its new value under the
        same name; `update` sees the new value.
        """
        return ()

    def options_for(self, variable: VariableInfo) -> Mapping[str, Any]:
        """Returns per-variable settings for `update`.

        Args:
          variable: what is known of the variable.

        Returns:
          Mapping from name to a Python value that can be hashed; `update` finds them in
          its `scalars`. Variables with equal ones share a compiled kernel. Four names have a
          meaning: "learning_rate_factor", by which the learning rate of that variable is
          multiplied in `prepare`, in `update` and in decoupled weight decay;
          "weight_decay_name", the name of the hyperparameter that is its weight decay, where
          that is not `weight_decay`; "not_sparse", a sentence that says why it takes no
          sparse gradient and what to do, or `None`: such gradients are refused with it; and,
          where the algorithm has a `refresh`, "refreshes": whether that is run for the
          variable, by default True.
        """
        return {}

    def traits_of(self, path: str, decays: bool) -> Mapping[str, Any]:
        """The older form of `options_for`, which sees path and decay alone."""
        return self.options_for(VariableInfo(path, (), decays=decays))


def info_of(entry: VariableState, decays: bool) -> VariableInfo:
    """Returns what an algorithm may know of a variable that is kept.

    Args:
      entry: the variable.
      decays: whether weight decay is on and the variable not excluded from it.
    """
    variable = entry.variable
    return VariableInfo(
        entry.path,
        tuple(variable.shape),
        variable.dtype.name,
        decays,
        entry.place,
        entry.is_last_kernel,
        distribution.local(variable).device,
    )


def of_shape(shape: Sequence[int]) -> VariableInfo:
    """Returns what stands for any variable of a shape."""
    return VariableInfo("", tuple(shape))


def slots_for(algorithm: Any, variable: VariableInfo) -> tuple[Slot, ...]:
    """Returns the declarations of the slots of a variable.

    Raises:
      TypeError: the algorithm gives no list of names and declarations.
    """
    if method(algorithm, "slots_for") == "slots_of":
        return slot_declarations(algorithm.slots_of(variable.shape))
    if class_for(algorithm, "slots_for").slots_for is VariableHooks.slots_for:
        return slot_declarations(algorithm.slots)
    return slot_declarations(algorithm.slots_for(variable))


def options_for(algorithm: Any, variable: VariableInfo) -> VariableOptions:
    """Returns the per-variable settings of an algorithm.

    Raises:
      ValueError: the factor is no number of at least 0, the weight decay no hyperparameter, or
        the refusal of sparse gradients no text.
    """
    name = method(algorithm, "options_for")
    if name == "traits_of":
        traits = dict(algorithm.traits_of(variable.path, variable.decays))
    else:
        traits = dict(algorithm.options_for(variable))
    where = f"{class_of(algorithm).__name__}.{name}"
    factor = _FACTOR.check(traits.pop(RATE_FACTOR, 1.0), where)
    decay, refusal = traits.pop(DECAY_NAME, WEIGHT_DECAY), traits.pop(NOT_SPARSE, None)
    if not (isinstance(decay, str) and isinstance(_declared(algorithm, decay), Hyperparameter)):
        raise ValueError(
            f"{where}: `{DECAY_NAME}` must be the name of a hyperparameter. Received: "
            f"{decay!r}. Declare it as a `tko.Hyperparameter` of the class."
        )
    if not (refusal is None or isinstance(refusal, str)):
        raise ValueError(
            f"{where}: `{NOT_SPARSE}` must be a text, for the error, or None. Received: "
            f"{refusal!r}."
        )
    return VariableOptions(traits, factor, decay, refusal)


def _declared(algorithm: Any, name: str) -> Any:
    return getattr(class_of(algorithm), name, None)


def method(algorithm: Any, name: str) -> str:
    """Returns the name of the method that counts: that of a hook, or the older one."""
    older = _OLDER[name]
    # Only a class below the one with the new method may have the older one: see `_check`.
    overridden = getattr(class_for(algorithm, older), older) is not getattr(
        VariableHooks, older
    )
    return older if overridden else name


def _check(cls: type) -> None:
    """Refuses classes of which it could not be told which method counts.

    Raises:
      TypeError: a class has a hook, and it, or a class above it, the older form of that.
    """
    for name, older in _OLDER.items():
        new, old = (_owner(cls, attribute) for attribute in (name, older))
        if (
            new is not None
            and old is not None
            and cls.__mro__.index(new) <= cls.__mro__.index(old)
        ):
            raise TypeError(
                f"{new.__name__} overrides `{name}` and {old.__name__} its older form "
                f"`{older}`. Only one of them can count: make `{older}` of {old.__name__} part "
                f"of `{name}`."
            )
        if old is cls:
            warnings.warn(
                f"{cls.__name__} overrides `{older}`, which will go with the next release. "
                f"Override `{name}(self, variable)` instead; see `tko.VariableInfo`.",
                DeprecationWarning,
                stacklevel=4,
            )


def _owner(cls: type, name: str) -> type | None:
    """Returns the nearest class that overrides a method."""
    found = next((c for c in cls.__mro__ if name in vars(c)), VariableHooks)
    return None if found is VariableHooks else found
