"""One record for each optimizer: what everything else here knows about it."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from tf_keras_optim.engine import documentation
from tf_keras_optim.engine.declarations import parameters_of
from tf_keras_optim.engine.methods.views import SlotList
from tf_keras_optim.keras_compat.running import keras

PACKAGE = "tf_keras_optim"

# By slot, or `None` for an array that is not kept here, and shape, `None` where it does not
# matter: what Keras lists for one variable.
Listed = Iterable[tuple[str | None, tuple[int, ...] | None]]


@dataclasses.dataclass(frozen=True)
class InKeras:
    """Keras' optimizer of the same algorithm, as far as it differs from ours.

    Attributes:
      name: the name of the class in `keras.optimizers`; `None` where Keras has none.
      fixed: arguments of ours by which ours does what Keras' does with any of its own.
      only: arguments that Keras' has not, with the one value that can be converted.
      refused: arguments of Keras' that do something else than ours do; only without them can
        it be converted.
      scalars: by the names of our step slots, the attributes of Keras' that hold them.
      unsaved: by the names of our step slots that tf_keras does not save, a function from
        the arguments and the number of updates to their value.
      absent: the names of those among them that Keras 3 does not keep either.
      listed: what Keras lists for each variable, after all other state, where that is not
        our slots: a function from the optimizer, the variable's shape and the generation of
        Keras (3 or 2). `None` from it: our slots.
      may_be_empty: whether there are options under which Keras keeps nothing of a variable.
      lists: names that Keras gives to lists of slots, and the slots' names, beside the
        plurals (`_momentums` of "momentum"), which every optimizer has.
    """

    name: str | None = None
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    only: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    refused: Collection[str] = ()
    scalars: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unsaved: Mapping[str, Callable[[Mapping[str, Any], int], Any]] = dataclasses.field(
        default_factory=dict
    )
    absent: Collection[str] = ()
    listed: Callable[[Any, tuple[int, ...], int], Listed | None] | None = None
    may_be_empty: bool = False
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Record:
    """An optimizer of this package.

    Attributes:
      cls: the class.
      example: arguments with which it makes progress on small problems.
      keras: Keras' optimizer of the same algorithm.
      oracle: the name of its float64 reference in the tests.
    """

    cls: type
    example: Mapping[str, Any]
    keras: InKeras
    oracle: str

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__


_NOT_IN_KERAS = InKeras()
_RECORDS: dict[str, Record] = {}
_Class = TypeVar("_Class", bound=type)


def documented(cls: _Class) -> _Class:
    """Writes the arguments into a docstring, where it says `{{arguments}}`."""
    described = documentation.descriptions(parameters_of(cls))
    described["name"] = "name of the optimizer. Keyword-only."
    cls.__doc__ = documentation.filled(cls.__doc__, described)
    return cls


def registered(
    example: Mapping[str, Any], in_keras: InKeras = _NOT_IN_KERAS, *, oracle: str | None = None
) -> Callable[[Any], Any]:
    """Makes the record of an optimizer of this package, and registers it with Keras.

    The class is registered as "tf_keras_optim>Name", so that Keras finds it when a
    saved model is loaded or when that name is given to `model.compile`.

    Args:
      example: arguments with which it makes progress on small problems in 100 steps. The
        conformance kit and the tests make it with them.
      in_keras: Keras' optimizer of the same algorithm; without it there is none.
      oracle: the name of its float64 reference in the tests; by default the name of the
        class in lower case.
    """

    def register(cls: Any) -> Any:
        name = cls.__name__
        before = _RECORDS.get(name.lower())
        if before is not None and before.cls.__module__ != cls.__module__:  # no reloaded one
            raise ValueError(
                f"There is an optimizer of the name {name!r} already, in "
                f"{before.cls.__module__}. Names count in any case; give it another."
            )
        _RECORDS[name.lower()] = Record(cls, dict(example), in_keras, oracle or name.lower())
        keras.saving.register_keras_serializable(package=PACKAGE)(cls)
        plurals = {f"_{_plural(slot)}": slot for slot in cls.slot_meanings}
        for listed, slot in (plurals | dict(in_keras.lists)).items():
            setattr(cls, listed, SlotList(slot))
        return documented(cls)

    return register


def _plural(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def records() -> dict[str, Record]:
    """Returns the record of every optimizer of this package, by its name in lower case."""
    return dict(sorted(_RECORDS.items()))


def of(cls: type) -> Record | None:
    """Returns the record of a class, or of the nearest class above it that has one."""
    by_class = {record.cls: record for record in _RECORDS.values()}
    return next((by_class[base] for base in cls.__mro__ if base in by_class), None)


def keras_form(cls: type) -> InKeras:
    """Returns Keras' form of a class, or of the nearest class above it that has a record."""
    record = of(cls)
    return record.keras if record else _NOT_IN_KERAS


def known_to_keras() -> dict[str, type]:
    """Returns our classes by the names that Keras' optimizers of the same algorithm have."""
    return {r.keras.name: r.cls for r in records().values() if r.keras.name is not None}
