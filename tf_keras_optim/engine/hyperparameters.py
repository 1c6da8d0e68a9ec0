"""Declared arguments: one line each, from which everything follows.

An optimizer, a schedule and the LossScaleOptimizer name their hyperparameters as class
attributes. The signature, the check of every value, the error for an unknown argument and
`get_config` are all derived from that one declaration; see `declarations`.
"""

import difflib
import inspect
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

REQUIRED: Any = inspect.Parameter.empty  # the default of an argument that must be given
_NOT_SET = object()


def plain_number(value: Any) -> Any:
    """Turns a 0-d eager tensor, variable or NumPy value into a Python scalar.

    Args:
      value: anything. Values that are not 0-d arrays come back unchanged.

    Returns:
      A Python scalar, or `value` itself.
    """
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if hasattr(value, "numpy") and getattr(value, "shape", None) == ():
        value = value.numpy()
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        return value.item()
    return value


def plain_copy(value: Any) -> Any:
    """Returns Python's own dicts, lists and tuples for those that TensorFlow tracks."""
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_copy(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(plain_copy(item) for item in value)
    return value


def nearest(name: str, known: Any) -> str:
    """Returns " Did you mean 'x'?" for the closest known name, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


class SetByInit:
    """An attribute that `__init__` sets; reading it before says what was forgotten."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        raise AttributeError(
            f"{type(instance).__name__} was not initialized: call `super().__init__(...)`, "
            "first of all, in its `__init__`."
        )


class Hyperparameter:
    """A declared argument: its default, kind and range.

    Example:
    ```python
    class Lion(tko.Optimizer):
        beta_1 = tko.Hyperparameter(0.9, minimum=0.0, below=1.0)
    ```

    Assigning to the attribute of an optimizer checks the value in the same way.
    A step that this optimizer traced by itself is traced anew after the change;
    a function of yours that is already traced keeps the value it was traced
    with, as with any Python number, and a warning says so.

    Args:
      default: value when the argument is not given; `REQUIRED` for none.
      kind: `float`, `int`, `bool`, `str`, `dict`, `list`, `tuple` or another class. Taken from
        `default` if omitted.
      minimum: smallest value allowed (inclusive), or `None`.
      maximum: largest value allowed (inclusive), or `None`.
      above: bound that the value must exceed (exclusive), or `None`.
      below: bound that the value must stay under (exclusive), or `None`.
      choices: allowed values, or `None` for any.
      optional: whether `None` is allowed. True if `default` is `None`.
      position: index among the arguments, counted from `learning_rate` at 0.
        Without it the order of declaration holds.
      keyword_only: whether it must be given by name.
      schedulable: whether a schedule may stand in place of the number. The rule
        then finds its value at this step, a 0-d tensor, in its scalars.
      until_built: whether it may change only as long as there are no slots, as where it decides
        what these mean.
      doc: what it is, for the documentation of the class. Range, schedules and
        "Keyword-only." are added to it; the first two only if it does not end with a period.
    """

    def __init__(
        self,
        default: Any,
        *,
        kind: type | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
        above: float | None = None,
        below: float | None = None,
        choices: tuple | None = None,
        optional: bool | None = None,
        position: int | None = None,
        keyword_only: bool = False,
        schedulable: bool = False,
        until_built: bool = False,
        doc: str = "",
    ):
        self.default = default
        self.kind = kind or type(default)
        self.minimum, self.maximum = minimum, maximum
        self.above, self.below = above, below
        self.choices = choices
        self.optional = default is None if optional is None else optional
        self.position = position
        self.keyword_only = keyword_only
        self.schedulable = schedulable
        self.until_built = until_built
        self.doc = doc
        self.name = self._kept_as = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        # An attribute of its own, as a class may have any descriptor named `__dict__`: one
        # that was made from the `__dict__` of another class has that class' descriptor.
        self._kept_as = f"_tko_{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            return object.__getattribute__(instance, self._kept_as)
        except AttributeError:
            raise AttributeError(
                f"{type(instance).__name__}.{self.name} is not set yet: call "
                "`super().__init__(...)` first in your `__init__`."
            ) from None

    def __set__(self, instance: Any, value: Any) -> None:
        owner = type(instance).__name__
        if self.schedulable and instance.tko.keras.is_schedule(value):
            with tf.init_scope():
                self.check(value(0), owner)
        else:
            value = self.check(value, owner)
        before = getattr(instance, self._kept_as, _NOT_SET)
        is_new = before is not _NOT_SET and before != value
        if is_new and self.until_built and instance.tko.store.is_built:
            raise ValueError(
                f"{owner}: argument `{self.name}` decides what is kept for variables, so it "
                f"cannot become {value!r} once the optimizer is built; it is {before!r}. Make "
                "a new one with it."
            )
        object.__setattr__(instance, self._kept_as, value)
        if before is _NOT_SET or before == value:
            return
        accepted = False
        try:
            instance.tko_check_change()
            accepted = True
        finally:
            if not accepted:
                object.__setattr__(instance, self._kept_as, before)
        instance.tko_changed(self.name)

    def patterns(self, value: Any) -> Sequence[str]:
        """Returns regular expressions in a value that must each be found in some path."""
        return ()

    def _expectation(self) -> str:
        if self.choices is not None:
            choices = ", ".join(repr(choice) for choice in self.choices)
            return f"one of {choices}{' or None' * self.optional}"
        names = {float: "a finite number", int: "an integer", bool: "a bool"}
        text = names.get(self.kind, f"a {self.kind.__name__}")
        if self.minimum is not None:
            text += f", at least {self.minimum}"
        if self.maximum is not None:
            text += f", at most {self.maximum}"
        if self.above is not None:
            text += f", above {self.above}"
        if self.below is not None:
            text += f", below {self.below}"
        text += ", a schedule of such numbers" if self.schedulable else ""
        return text + (" or None" if self.optional else "")

    def _converted(self, value: Any) -> Any:
        """Returns the value as `kind`, or `None` when it is of another kind."""
        is_bool = isinstance(value, bool)
        if self.choices is not None:
            same = [c for c in self.choices if c is value or (c == value and not is_bool)]
            return same[0] if same else None
        if self.kind is float and isinstance(value, numbers.Real) and not is_bool:
            return float(value) if math.isfinite(value) else None
        if self.kind is int and isinstance(value, numbers.Real) and not is_bool:
            return int(float(value)) if float(value).is_integer() else None
        is_kind = isinstance(value, self.kind) and (self.kind is bool or not is_bool)
        return plain_copy(value) if is_kind else None

    def check(self, value: Any, owner: str) -> Any:
        """Returns `value` converted to the declared kind.

        Args:
          value: what was given.
          owner: name of the optimizer's class, for the message.

        Raises:
          ValueError: the value is of another kind or out of range.
        """
        if hasattr(value, "assign"):
            raise ValueError(
                f"{owner}: argument `{self.name}` takes the value that a variable has now, and "
                f"would not follow it. Received: {value!r}. Give a number, "
                + (
                    "or a schedule that returns the variable."
                    if self.schedulable
                    else "and assign it again when it changes."
                )
            )
        given, value = value, plain_number(value)
        if value is None and self.optional:
            return None
        value = self._converted(value)
        in_range = value is not None and not (
            (self.minimum is not None and value < self.minimum)
            or (self.maximum is not None and value > self.maximum)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )
        if not in_range:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be {self._expectation()}. "
                f"Received: {self.name}={given!r} (of type {type(given).__name__})."
            )
        return value


def by_name(default: Any, doc: str, **more: Any) -> Hyperparameter:
    """Returns a hyperparameter that is given by name only; arguments as for that."""
    return Hyperparameter(default, keyword_only=True, doc=doc, **more)


def decay(default: float | None, doc: str, *, by_name: bool = False) -> Hyperparameter:
    """Returns the declaration of the decay of a mean, in [0, 1), or a schedule of it.

    Args:
      default: value when the argument is not given.
      doc: what it is, for the documentation of the class.
      by_name: whether it must be given by name.
    """
    return Hyperparameter(
        default,
        kind=float,
        minimum=0.0,
        below=1.0,
        keyword_only=by_name,
        schedulable=True,
        doc=doc,
    )


class LearningRate(Hyperparameter):
    """The learning rate: a number kept in a variable, a schedule or a callable.

    Declaring it again in a subclass changes its default:
    `learning_rate = tko.LearningRate(0.01)`. A callable is asked at every eager step and at
    every call of a traced function.
    """

    def __init__(self, default: float = 0.001, *, doc: str = ""):
        doc = doc or f"number, 0-d tensor, schedule, or callable; default {default}."
        super().__init__(default, kind=float, position=0, doc=doc)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else instance.tko.rate.get()

    def __set__(self, instance: Any, value: Any) -> None:
        instance.tko.rate.set(value)

    def check(self, value: Any, owner: str) -> Any:
        """Returns a float, or what was given: a schedule, a callable, a tensor of a graph."""
        if callable(value) and not isinstance(value, tf.Variable):
            return value
        if tf.is_tensor(value) and not hasattr(value, "numpy") and value.shape.rank == 0:
            return value
        number = plain_number(value)
        is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
        if is_number and math.isfinite(number) and number >= 0.0:
            return float(number)
        raise ValueError(
            f"{owner}: argument `learning_rate` must be a finite number of at "
            "least 0, a 0-d tensor, a learning-rate schedule or a callable without arguments. "
            f"Received: learning_rate={value!r} (of type {type(value).__name__})."
        )


def check_callable_rate(value: Any, owner: str) -> None:
    """Refuses a callable learning rate that wants arguments.

    Raises:
      ValueError: it cannot be called without arguments, as a schedule of another
        Keras than the running one.
    """
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise ValueError(
            f"{owner}: argument `learning_rate` must be a schedule of the running Keras or a "
            f"callable without arguments. Received: {value!r}, which is neither ({error})."
        ) from None
