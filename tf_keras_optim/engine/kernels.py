"""Kernels: one small compiled function per kind of update, run variable by variable.

The variables are arguments of a kernel, so all variables of one shape and dtype
share one trace and one compilation.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import distribution, formulas
from tf_keras_optim.engine.store import Tracked

_XLA_DEVICE_TYPES = frozenset({"CPU", "GPU", "TPU"})


class Scalars:
    """The numbers that a rule sees at one step, by name.

    Always there: `learning_rate` and `step` (counted from 1), 0-d tensors of the
    variable's compute dtype. Then every declared hyperparameter: as the Python
    number it was given, so that `1 - scalars.beta_2` is exact. Last, whatever the
    rule's own `prepare` returned.
    """

    def __init__(self, static: Mapping[str, Any], dynamic: Mapping[str, tf.Tensor]):
        self.__dict__.update(static)
        self.__dict__.update(dynamic)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"The scalars of this step have no {name!r}. They have: "
            f"{', '.join(sorted(self.__dict__))}. Declare it as a `tko.Hyperparameter`, "
            "or return it from `prepare`."
        )


def xla_supported(device: str) -> bool:
    """Says whether this TensorFlow can compile for a device, by its full name."""
    kind = tf.DeviceSpec.from_string(device).device_type if device else "CPU"
    return tf.test.is_built_with_xla() and kind in _XLA_DEVICE_TYPES


class Kernels:
    """The compiled updates of one optimizer.

    Args:
      optimizer: the optimizer whose pure `update` is run.
      static: gives the declared hyperparameters by name.
      jit_compile: "auto", True or False.
    """

    def __init__(
        self,
        optimizer: Any,
        static: Callable[[], dict[str, Any]],
        jit_compile: str | bool,
    ):
        self._optimizer = optimizer
        self._static = static
        self._jit_compile = jit_compile
        self._functions: dict[tuple, Any] = {}
        self.used: set[bool] = set()

    def use_xla(self, device: str) -> bool:
        """Says whether an update on a device is compiled by XLA."""
        compiled = xla_supported(device) if self._jit_compile == "auto" else self._jit_compile
        self.used.add(bool(compiled))
        return bool(compiled)

    def run(
        self,
        entry: Tracked,
        gradient: tf.Tensor | None,
        dynamic: Mapping[str, tf.Tensor],
        options: Mapping[str, tf.Tensor],
        *,
        decay: bool = False,
    ) -> None:
        """Updates one variable, its slots and its average.

        Args:
          entry: the model variable.
          gradient: its gradient; `None` takes the accumulated one and resets it.
          dynamic: scalars of the rule, in the entry's compute dtype.
          options: any of `scale` (factor on the gradient), `ema_momentum` and
            `ema_overwrite` (bool: the variable takes the average over).
          decay: whether weight decay applies to this variable.
        """
        variable = distribution.local(entry.variable)
        average = entry.average if "ema_momentum" in options else None
        accumulator = entry.accumulator if gradient is None else None
        with tf.device(variable.device):
            self._function(decay, self.use_xla(variable.device))(
                variable,
                {name: distribution.local(slot) for name, slot in entry.slots.items()},
                None if average is None else distribution.local(average),
                None if accumulator is None else distribution.local(accumulator),
                gradient,
                dict(dynamic),
                dict(options),
            )

    def _function(self, decay: bool, compiled: bool) -> Any:
        key = (decay, compiled)
        if key not in self._functions:
            self._functions[key] = tf.function(
                self._body(decay), jit_compile=compiled, autograph=False
            )
        return self._functions[key]

    def _body(self, decay: bool) -> Callable[..., None]:
        static = self._static()
        clipvalue = static.get("clipvalue")

        def kernel(variable, slots, average, accumulator, gradient, dynamic, options):
            scalars = Scalars(static, dynamic)
            dtype = dynamic["learning_rate"].dtype
            if accumulator is not None:
                gradient = accumulator.read_value()
                accumulator.assign(tf.zeros_like(gradient))
            gradient = formulas.conditioned(
                tf.cast(gradient, dtype), options.get("scale"), clipvalue
            )
            value = tf.cast(variable.read_value(), dtype)
            if decay:
                value = formulas.decayed(value, scalars.weight_decay, scalars.learning_rate)
            before = {name: slot.read_value() for name, slot in slots.items()}
            value, after = checked(
                self._optimizer.update(gradient, value, before, scalars), value, before
            )
            if average is not None:
                value = _average(average, value, options)
            for name, slot in slots.items():
                slot.assign(after[name])
            variable.assign(tf.cast(value, variable.dtype))

        return kernel


def _average(
    average: tf.Variable, value: tf.Tensor, options: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """Updates the average; returns the value that the variable is to have."""
    momentum = tf.cast(options["ema_momentum"], average.dtype)
    new = formulas.averaged(average.read_value(), tf.cast(value, average.dtype), momentum)
    average.assign(new)
    if "ema_overwrite" not in options:
        return value
    return tf.where(options["ema_overwrite"], tf.cast(new, value.dtype), value)


def average_only(entry: Tracked, options: Mapping[str, tf.Tensor]) -> None:
    """Moves the average of a variable whose value is already in place."""
    if entry.average is None:
        return
    variable = distribution.local(entry.variable)
    value = _average(distribution.local(entry.average), variable.read_value(), options)
    if "ema_overwrite" in options:
        variable.assign(value)


def checked(
    result: Any, value: tf.Tensor, before: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Returns what a rule returned, after refusing what it must not return.

    Args:
      result: what `update` returned.
      value: the value before, whose shape is the one expected.
      before: the slots before.

    Raises:
      TypeError: it is not a pair of a tensor and a dict.
      ValueError: a shape differs, or a slot is missing or unknown.
    """
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not (is_pair and tf.is_tensor(result[0]) and isinstance(result[1], Mapping)):
        raise TypeError(
            "`update` must return a pair: the new value (a tensor) and a dict with every "
            f"slot. Received: {result!r}."
        )
    new, slots = result
    if set(slots) != set(before):
        raise ValueError(
            f"`update` must return exactly the declared slots {sorted(before)}. "
            f"Received: {sorted(slots)}."
        )
    pairs = {"the variable": (new, value)} | {n: (slots[n], before[n]) for n in before}
    for name, (after, expected) in pairs.items():
        if after.shape != expected.shape:
            raise ValueError(
                f"`update` must return a value of {name!r} with shape {expected.shape}. "
                f"Received: shape {after.shape}."
            )
    return new, slots
