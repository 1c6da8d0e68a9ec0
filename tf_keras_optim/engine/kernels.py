"""Kernels: one small compiled function per kind of update, run variable by variable.

The variables are arguments of a kernel, so all variables of one shape and dtype
share one trace and one compilation.
"""

import contextlib
import contextvars
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import (
    choices,
    distribution,
    formulas,
    loops,
    placement,
    precision,
    purity,
    quantization,
)
from tf_keras_optim.engine.store import Tracked

_uncompiled = contextvars.ContextVar("uncompiled", default=False)


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Traces steps without compiled kernels, whatever `jit_compile` says, in this block."""
    token = _uncompiled.set(True)
    try:
        yield
    finally:
        _uncompiled.reset(token)


def compiles() -> bool:
    """Says whether what is traced now may have compiled kernels."""
    return not _uncompiled.get() and not distribution.is_watched()


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

    def choice(
        self,
        entry: Tracked,
        options: Collection[str],
        *,
        accumulated: bool = False,
        decay: bool = False,
        traits: Mapping[str, Any] | None = None,
    ) -> str:
        """Returns how a variable is updated, as `choices` names it.

        Args:
          entry: the model variable.
          options: names of the options, as for `run`.
          accumulated: whether the gradient is the accumulated one.
          decay: as for `run`.
          traits: as for `run`.
        """
        device = distribution.local(entry.variable).device
        kind = tf.DeviceSpec.from_string(device).device_type if device else "CPU"
        kept = [entry.variable, *entry.slots.values()]
        simple = not (options or accumulated or decay or traits or self._clips_values)
        return choices.choose(
            self._jit_compile if compiles() else False,
            kind,
            in_xla=distribution.in_xla(),
            fused=simple
            and entry.master is None
            and self._optimizer._can_fuse
            and all(variable.dtype == entry.dtype for variable in kept),
        )

    @property
    def _clips_values(self) -> bool:
        return self._optimizer.clipvalue is not None

    def run(
        self,
        entry: Tracked,
        gradient: tf.Tensor | None,
        dynamic: Mapping[str, tf.Tensor],
        options: Mapping[str, tf.Tensor],
        *,
        decay: bool = False,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        """Updates one variable, its slots and its average.

        Args:
          entry: the model variable.
          gradient: its gradient; `None` takes the accumulated one and resets it.
          dynamic: scalars of the rule, in the entry's compute dtype.
          options: any of `scale` (as `formulas.conditioned` takes it), `ema_momentum`,
            `ema_overwrite` (bool: the variable takes the average over) and `rounding`
            (int32 [2]: seed for what is kept in a narrow dtype).
          decay: whether weight decay applies to this variable.
          traits: what the algorithm's `traits_of` said of it.
        """
        variable = distribution.local(entry.variable)
        average = entry.average if "ema_momentum" in options else None
        accumulator = entry.accumulator if gradient is None else None
        slots = {name: distribution.local(slot) for name, slot in entry.slots.items()}
        kernel = self.choice(
            entry, options, accumulated=gradient is None, decay=decay, traits=traits
        )
        self.used.add(kernel == choices.XLA or distribution.in_xla())
        with placement.beside(variable):
            if kernel == choices.FUSED:
                scalars = Scalars(self._static(), dynamic)
                gradient = tf.cast(gradient, entry.dtype)
                self._optimizer.update_in_place(gradient, variable, slots, scalars)
                return
            self._function(decay, traits or {}, kernel == choices.XLA)(
                variable,
                slots,
                {name: distribution.local(scale) for name, scale in entry.scales.items()},
                None if average is None else distribution.local(average),
                None if accumulator is None else distribution.local(accumulator),
                None if entry.master is None else distribution.local(entry.master),
                gradient,
                {n: v for n, v in dynamic.items() if not n.startswith(formulas.OPERAND)},
                dict(options),
            )

    def _function(self, decay: bool, traits: Mapping[str, Any], compiled: bool) -> Any:
        key = (decay, tuple(sorted(traits.items())), compiled, distribution.is_watched())
        if key not in self._functions:
            self._functions[key] = tf.function(
                self._body(decay, dict(traits)), jit_compile=compiled, autograph=False
            )
        return self._functions[key]

    def _body(self, decay: bool, traits: dict[str, Any]) -> Callable[..., None]:
        static = self._static() | traits

        def kernel(
            variable, slots, scales, average, accumulator, master, gradient, dynamic, options
        ):
            scalars = Scalars(static, dynamic)
            dtype = scalars.learning_rate.dtype
            if accumulator is not None:
                gradient = accumulator.read_value()
            whole = None if master is None else master.read_value()
            before = {name: slot.read_value() for name, slot in slots.items()}
            for name, scale in scales.items():
                before[name] = quantization.decoded(before[name], scale.read_value())
            value, after, new_average = advanced(
                self._optimizer,
                scalars,
                gradient,
                precision.widest(variable.read_value(), whole, dtype),
                before,
                None if average is None else average.read_value(),
                options,
                decay=decay,
            )
            if accumulator is not None:
                zero: Any = tf.zeros([], value.dtype)
                for new in (value, *after.values()):
                    zero = loops.after(new, zero)
                accumulator.assign(tf.fill(accumulator.shape, tf.cast(zero, accumulator.dtype)))
            if average is not None:
                average.assign(new_average)
            if master is not None:
                master.assign(value)
            kept = kept_values(value, after, scalars, options, master is not None)
            for number, (name, slot) in enumerate({"": variable, **slots}.items()):
                if name not in scales:
                    slot.assign(kept(name, slot.dtype))
                    continue
                seed = precision.seed_of(options.get("rounding"), number)
                codes, scale = quantization.encoded(after[name], slot.dtype, seed)
                slot.assign(codes)
                scales[name].assign(scale)

        return kernel


def kept_values(
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
    scalars: Scalars,
    options: Mapping[str, tf.Tensor],
    has_master: bool,
) -> Callable[[str, tf.DType], tf.Tensor]:
    """Returns what gives new values in the dtypes in which they are kept.

    Args:
      value: the variable's new value; its name is "".
      slots: the new slots.
      scalars: the numbers of this step.
      options: as for `Kernels.run`.
      has_master: whether the value is kept whole in a master copy as well.
    """
    rounding = options.get("rounding")
    by_chance = scalars.stochastic_rounding and not has_master
    values = {"": value, **slots}
    order = list(values)

    def kept(name: str, dtype: tf.DType) -> tf.Tensor:
        seed = precision.seed_of(rounding, order.index(name))
        return precision.stored(values[name], dtype, seed if name or by_chance else None)

    return kept


def advanced(
    optimizer: Any,
    scalars: Scalars,
    gradient: tf.Tensor,
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
    average: tf.Tensor | None,
    options: Mapping[str, tf.Tensor],
    *,
    decay: bool,
) -> tuple[tf.Tensor, Mapping[str, tf.Tensor], tf.Tensor | None]:
    """One update with all that stands around it. Pure; the body of every executor.

    Args:
      optimizer: the optimizer whose pure `update` is run.
      scalars: the numbers of this step, in the compute dtype.
      gradient: the raw gradient, of any floating dtype.
      value: the variable's value (or some rows of it), of any floating dtype.
      slots: the slots by name, of the same rows.
      average: the moving average of the same rows, or `None`.
      options: as for `Kernels.run`.
      decay: whether weight decay applies.

    Returns:
      value: the new value, in the compute dtype.
      slots: every new slot.
      average: the new average, or `None`.
    """
    dtype = scalars.learning_rate.dtype
    gradient = formulas.conditioned(
        tf.cast(gradient, dtype), options.get("scale"), scalars.clipvalue
    )
    value = tf.cast(value, dtype)
    slots = {name: tf.cast(slot, dtype) for name, slot in slots.items()}
    if decay and not scalars.decoupled_weight_decay:
        gradient = formulas.penalized(gradient, value, scalars.weight_decay)
    elif decay and not optimizer.decays_in_update:
        value = formulas.decayed(value, scalars.weight_decay, scalars.learning_rate)
    with purity.watched(optimizer, "update"):
        result = optimizer.update(gradient, value, slots, scalars)
    value, after = checked(result, value, slots)
    if average is not None:
        value, average = _average(average, value, options)
    return value, after, average


def _average(
    average: tf.Tensor, value: tf.Tensor, options: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the value that the variable is to have, and the new average."""
    momentum = tf.cast(options["ema_momentum"], average.dtype)
    new = formulas.averaged(average, tf.cast(value, average.dtype), momentum)
    if "ema_overwrite" not in options:
        return value, new
    return tf.where(options["ema_overwrite"], tf.cast(new, value.dtype), value), new


def average_only(entry: Tracked, options: Mapping[str, tf.Tensor]) -> None:
    """Moves the average of a variable whose value is already in place."""
    if entry.average is None:
        return
    variable, average = distribution.local(entry.variable), distribution.local(entry.average)
    value, new = _average(average.read_value(), variable.read_value(), options)
    average.assign(new)
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
        if not after.shape.is_compatible_with(expected.shape):
            raise ValueError(
                f"`update` must return a value of {name!r} with shape {expected.shape}. "
                f"Received: shape {after.shape}."
            )
    return new, slots
