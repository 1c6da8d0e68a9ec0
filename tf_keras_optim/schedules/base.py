"""The base class of all schedules, and the kinds of their arguments."""

import inspect
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import documentation, hyperparameters
from tf_keras_optim.engine.declarations import Declared
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.keras_compat import described
from tf_keras_optim.keras_compat.running import keras

PACKAGE = "tf_keras_optim"
KerasSchedule: Any = keras.optimizers.schedules.LearningRateSchedule


class Numbers(Hyperparameter):
    """An argument that is a list of finite numbers."""

    def __init__(self, increasing: bool = False, doc: str = ""):
        super().__init__(hyperparameters.REQUIRED, kind=list, doc=doc)
        self.increasing = increasing

    def check(self, value: Any, owner: str) -> list[int | float]:
        """Returns a list of Python numbers; integers stay integers."""
        try:
            numbers = [hyperparameters.plain_number(item) for item in value]
            for number in numbers:
                Hyperparameter(0.0).check(number, owner)
        except (TypeError, ValueError):
            numbers = None
        rising = numbers is None or all(a < b for a, b in itertools.pairwise(numbers))
        if numbers is None or (self.increasing and not rising):
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a list of finite numbers"
                f"{', each larger than the one before' if self.increasing else ''}. "
                f"Received: {self.name}={value!r}."
            )
        return numbers


class Inner(Hyperparameter):
    """An argument that is a schedule of the running Keras, or a constant number.

    Args:
      several: whether it is a list of such.
      doc: as for any hyperparameter.
    """

    def __init__(self, several: bool = False, doc: str = ""):
        super().__init__(hyperparameters.REQUIRED, kind=KerasSchedule, doc=doc)
        self.several = several

    def check(self, value: Any, owner: str) -> Any:
        """Returns the schedules and Python numbers that were given."""
        if not self.several:
            return self._one(value, owner)
        if not isinstance(value, Sequence) or not value:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a list of schedules or numbers. "
                f"Received: {self.name}={value!r}."
            )
        return [self._one(item, owner) for item in value]

    def _one(self, value: Any, owner: str) -> Any:
        if isinstance(value, KerasSchedule):
            return value
        try:
            return Hyperparameter(0.0).check(value, owner)
        except ValueError:
            raise ValueError(
                f"{owner}: argument `{self.name}` takes schedules of {keras.__name__} "
                f"{keras.__version__} (those of `tko.schedules` are) and finite numbers. "
                f"Received: {value!r} (of type {type(value).__name__})."
            ) from None


def value_of(source: Any, step: tf.Tensor) -> tf.Tensor:
    """Returns the float64 value of a schedule or a constant at a step."""
    if isinstance(source, Schedule):
        source = source.precise(step)
    elif isinstance(source, KerasSchedule):
        source = source(step)
    return tf.cast(source, tf.float64)


class Schedule(Declared, KerasSchedule):
    """Base class: a function of the number of updates so far.

    It works with every optimizer of the running Keras. A subclass declares its
    arguments and overrides `value`:

    ```python
    class Halving(tko.schedules.Schedule):
        start = tko.Hyperparameter(0.1, above=0.0)
        every = tko.Hyperparameter(1000, minimum=1)

        def value(self, step):
            return self.start * 0.5 ** tf.floor(step / self.every)
    ```

    The signature, the checks and the configuration follow from the declarations. A
    schedule never changes; create another one instead.

    `step` is a float32 tensor, in which integers are exact up to 2**24. A class with
    `step_dtype = tf.float64` gets it exact up to 2**53, one with `step_dtype = None` as an
    int64, or as the floating number that the caller gave.

    Raises:
      TypeError: an argument is unknown (the nearest known one is named) or missing.
      ValueError: a value is of another kind or out of range.
    """

    __signature__: ClassVar[inspect.Signature] = inspect.Signature()
    _takes_name = False
    step_dtype: ClassVar[tf.DType | None] = tf.float32
    _fixed = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = cls._signature

    def __init__(self, *args: Any, **kwargs: Any):
        for name, value in self._bound(args, kwargs).items():
            setattr(self, name, value)
        self.check()
        self._fixed = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._fixed:
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot be set: steps that have been traced "
                "would keep the earlier value. Create a new schedule."
            )
        super().__setattr__(name, value)

    def check(self) -> None:
        """Refuses invalid combinations of arguments; subclasses may override it."""

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """Computes the value. To be overridden; pure.

        Args:
          step: 0-d tensor of `step_dtype`, the number of updates so far, from 0.

        Returns:
          0-d floating tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override `value`.")

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the value at a step.

        Args:
          step: number of updates so far: a number, 0-d tensor or variable of any
            integer or floating dtype.

        Returns:
          0-d float32 tensor; float64 where that is Keras' `floatx`.
        """
        return tf.cast(self.precise(step), _result_dtype())

    def precise(self, step: Any) -> tf.Tensor:
        """Returns the value at a step in the precision in which it is computed.

        Args:
          step: as for a call.

        Returns:
          0-d floating tensor.
        """
        dtype = self.step_dtype
        if dtype is None:
            step = tf.convert_to_tensor(step)
            dtype = tf.int64
            if step.dtype.is_floating:
                dtype = step.dtype if step.dtype.size > 4 else tf.float32
        return self.value(tf.cast(step, dtype))

    def plot(self, steps: int, ax: Any = None) -> Any:
        """Draws the values over the first steps with matplotlib.

        Args:
          steps: number of steps, at least 1.
          ax: matplotlib axes; new ones by default.

        Returns:
          The axes.

        Raises:
          ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError(
                "`plot` needs matplotlib: pip install 'tf_keras_optim[plots]'."
            ) from None
        values = tf.map_fn(self, tf.range(steps), fn_output_signature=_result_dtype())
        if ax is None:
            ax = pyplot.subplots()[1]
        ax.plot(range(steps), values.numpy(), label=type(self).__name__)
        ax.set_xlabel("step")
        ax.set_ylabel("learning rate")
        return ax

    def get_config(self) -> dict[str, Any]:
        """Returns every argument by name; `from_config` makes an equal schedule."""
        return {name: _described(value) for name, value in self._values().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Makes a schedule from what `get_config` returned."""
        return cls(**{name: _made(value) for name, value in config.items()})

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({values})"


def _result_dtype() -> tf.DType:
    """Returns the dtype in which schedules give their values."""
    return tf.float64 if keras.backend.floatx() == "float64" else tf.float32


def _described(value: Any) -> Any:
    if isinstance(value, list):
        return [_described(item) for item in value]
    if isinstance(value, KerasSchedule):
        return keras.optimizers.schedules.serialize(value)
    return value


def _made(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_made(item) for item in value]
    if isinstance(value, dict):
        return deserialize(value)
    return value


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Makes a schedule from what `serialize` returned.

    Args:
      config: a dict with "class_name" and "config".
      custom_objects: further classes by name.

    Raises:
      ValueError: it names a class that is neither Keras' own, nor registered, nor among
        `custom_objects`.
    """
    return described.schedule(keras, config, custom_objects)


def registered(cls: Any) -> Any:
    """Registers a schedule with Keras as "tf_keras_optim>Name", and documents its arguments."""
    cls.__doc__ = documentation.filled(cls.__doc__, documentation.descriptions(cls._parameters))
    return keras.saving.register_keras_serializable(package=PACKAGE)(cls)
