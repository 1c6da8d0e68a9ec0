"""What a class declares, as its signature, its checks and its configuration."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tf_keras_optim.engine.hyperparameters import Hyperparameter, nearest


class Declared:
    """A class whose hyperparameters are its arguments.

    Optimizers, schedules and the LossScaleOptimizer are such classes: what they declare is
    their signature, and the values are their configuration. Each is checked where it is
    assigned.
    """

    _parameters: ClassVar[dict[str, Hyperparameter]] = {}
    _signature: ClassVar[inspect.Signature] = inspect.Signature()
    _takes_name: ClassVar[bool] = True  # whether `name` is an argument too, by name only

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._parameters = cls._in_order()
        cls._signature = signature_of(cls._parameters, cls._takes_name)

    @classmethod
    def _in_order(cls) -> dict[str, Hyperparameter]:
        """Returns the hyperparameters in the order of the arguments."""
        return collected(cls)

    @classmethod
    def _bound(
        cls, args: Sequence[Any], kwargs: Mapping[str, Any], owner: str | None = None
    ) -> dict[str, Any]:
        """Returns every argument of a call, those that are not given with their defaults.

        Args:
          args: those by position.
          kwargs: those by name.
          owner: what messages name; the class by default.

        Raises:
          TypeError: an argument is unknown (the nearest known one is suggested), missing or
            given twice, or there are too many.
        """
        return bind(owner or cls.__name__, cls._signature, tuple(args), dict(kwargs))

    def _values(self) -> dict[str, Any]:
        """Returns every argument as it is now."""
        return {name: getattr(self, name) for name in self._parameters}


def bound(
    cls: type[Declared], args: Sequence[Any], kwargs: Mapping[str, Any], owner: str
) -> dict[str, Any]:
    """Returns every argument of a call of a class; see `bind` for what is refused."""
    return cls._bound(args, kwargs, owner)


def checked(cls: type[Declared], values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Returns arguments as they would be kept.

    Args:
      cls: the class that declares them.
      values: the arguments by name.
      owner: what messages name.

    Raises:
      ValueError: one is of another kind or out of range.
    """
    return {name: cls._parameters[name].check(v, owner) for name, v in values.items()}


def parameters_of(cls: Any) -> dict[str, Hyperparameter]:
    """Returns what a class declares, in the order of its arguments."""
    return cls._parameters


def values_of(options: Any, names: Iterable[str]) -> dict[str, Any]:
    """Returns arguments as they are now, but the learning rate, which is in a variable."""
    return {name: getattr(options, name) for name in names if name != "learning_rate"}


def set_plainly(instance: Any, name: str, value: Any) -> bool:
    """Assigns a declared argument, where the name is one, without TensorFlow's tracking.

    TensorFlow would put its own kind of dict in the place of one, and follow what is in it.
    The learning rate, which may be a variable, is not set here.

    Returns:
      Whether it was assigned.
    """
    is_declared = name in type(instance)._parameters and name != "learning_rate"
    if is_declared:
        object.__setattr__(instance, name, value)
    return is_declared


def collected(cls: type, apart_from: type = object) -> dict[str, Hyperparameter]:
    """Returns what a class and those above it declare, the topmost ones' first.

    Args:
      cls: any class.
      apart_from: a class; what it and those above it declare is left out.
    """
    return {
        name: value
        for base in reversed(cls.__mro__)
        if base not in apart_from.__mro__
        for name, value in vars(base).items()
        if isinstance(value, Hyperparameter)
    }


def with_common_last(cls: type, common_base: type) -> dict[str, Hyperparameter]:
    """Returns the hyperparameters of an optimizer in the order of its arguments.

    `learning_rate` comes first, then what the algorithm declares, then the
    options that `common_base` gives to every optimizer.
    """
    own, common = collected(cls, apart_from=common_base), collected(common_base)
    names = ["learning_rate", *(name for name in own if name != "learning_rate")]
    for name in list(names):
        position = own[name].position if name in own else None
        if position is not None:
            names.remove(name)
            names.insert(position, name)
    names += [name for name in common if name not in names]
    return {name: own[name] if name in own else common[name] for name in names}


def signature_of(parameters: Mapping[str, Hyperparameter], named: bool) -> inspect.Signature:
    """Builds the signature that help(), IDEs and the binding of arguments use.

    Args:
      parameters: the hyperparameters in the order of the arguments.
      named: whether there is an argument `name`.
    """
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    by_name = inspect.Parameter.KEYWORD_ONLY
    arguments = [
        inspect.Parameter(name, by_name if p.keyword_only else by_position, default=p.default)
        for name, p in parameters.items()
    ]
    arguments.sort(key=lambda argument: argument.kind)
    if named:
        arguments.append(inspect.Parameter("name", by_name, default=None))
    return inspect.Signature(arguments)


def bind(
    owner: str, signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Matches call arguments with the declared ones.

    Raises:
      TypeError: an argument is unknown (the nearest known one is suggested),
        given twice, or there are too many positional ones.
    """
    known = signature.parameters
    if "lr" in kwargs and "lr" not in known and "learning_rate" in known:
        if args or "learning_rate" in kwargs:
            raise TypeError(f"{owner}() got `lr` beside `learning_rate`, which it stands for.")
        kwargs = {**kwargs, "learning_rate": kwargs["lr"]}
        del kwargs["lr"]
    if "decay" in kwargs and "decay" not in known:
        raise TypeError(
            f"{owner}() takes no argument `decay`, which in older versions of Keras lowered "
            "the learning rate from step to step and has nothing to do with `weight_decay`. "
            "Give a schedule that does the same: `learning_rate=tko.schedules.InverseTimeDecay("
            f"learning_rate, decay_steps=1, decay_rate={kwargs['decay']!r})`."
        )
    for name in kwargs:
        if name not in known:
            raise TypeError(
                f"{owner}() got an unknown argument {name!r}.{nearest(name, known)} "
                f"Known arguments: {', '.join(known)}."
            )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{owner}(): {error}. Arguments: {', '.join(known)}.") from None
    bound.apply_defaults()
    return dict(bound.arguments)
