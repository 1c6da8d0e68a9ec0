"""Kernels: one small compiled function per kind of update, run variable by variable.

The variables are arguments of a kernel, so all variables of one shape and dtype
share one trace and one compilation.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.numerics import formulas, loops, precision, quantization
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import lookahead
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import kernel_choice, measures, purity
from tf_keras_optim.engine.update.calls import Calls
from tf_keras_optim.engine.update.plans import (
    ACCUMULATED,
    CAUTIOUS,
    DECOUPLED,
    L2,
    UpdateInputs,
    UpdatePlan,
)
from tf_keras_optim.engine.update.scalars import Scalars as Scalars

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


class Kernels:
    """The executor of a pure `update`: functions that XLA compiles, graphs, one operation.

    Args:
      algorithm: whose `update` is run.
      static: gives the declared hyperparameters by name.
    """

    def __init__(self, algorithm: Algorithm, static: Callable[[], dict[str, Any]]):
        self._algorithm = algorithm
        self._static = static
        self._functions: dict[tuple[UpdatePlan, str, bool], Any] = {}
        self._calls = Calls()
        self.used: set[bool] = set()

    def run(self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> None:
        """Updates one variable, its slots and its average as a plan says."""
        variable = distribution.local(entry.variable)
        slots = {name: distribution.local(slot) for name, slot in entry.slots.items()}
        self.used.add(plan.kernel == kernel_choice.XLA or distribution.in_xla())
        with placement.beside(variable):
            if plan.kernel == kernel_choice.FUSED:
                scalars = Scalars(self._static(), inputs.scalars)
                gradient = tf.cast(inputs.gradient, entry.dtype)
                self._algorithm.update_in_place(gradient, variable, slots, scalars)
                return
            function = self._function(plan, self._body)
            self._calls.call(function, _arguments(entry, plan, inputs))

    def measure(
        self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs
    ) -> dict[str, tf.Tensor]:
        """Returns what the algorithm's `measure` gives for one variable; changes nothing."""
        with placement.beside(distribution.local(entry.variable)):
            function = self._function(plan, self._measure)
            found: dict[str, tf.Tensor] = self._calls.call(
                function, _arguments(entry, plan, inputs)
            )
        return found

    def _function(self, plan: UpdatePlan, body: Callable[[UpdatePlan], Any]) -> Any:
        key = (plan, body.__name__, distribution.is_watched())
        if key not in self._functions:
            self._functions[key] = tf.function(
                body(plan), jit_compile=plan.kernel == kernel_choice.XLA, autograph=False
            )
        return self._functions[key]

    def _measure(self, plan: UpdatePlan) -> Callable[..., dict[str, tf.Tensor]]:
        static = self._static() | dict(plan.traits)

        def kernel(variable, slots, scales, beside, gradient, dynamic, options):
            scalars = Scalars(static, dynamic)
            inputs = UpdateInputs(_gradient(gradient, beside), dynamic, **options)
            value, before = read_before(variable, slots, scales, beside, scalars)
            return measured(self._algorithm, plan, scalars, inputs, value, before)

        return kernel

    def _body(self, plan: UpdatePlan) -> Callable[..., None]:
        static = self._static() | dict(plan.traits)

        def kernel(variable, slots, scales, beside, gradient, dynamic, options):
            scalars = Scalars(static, dynamic)
            average, accumulator, master = map(beside.get, ("average", "accumulator", "master"))
            inputs = UpdateInputs(_gradient(gradient, beside), dynamic, **options)
            value, before = read_before(variable, slots, scales, beside, scalars)
            value, after, new_average = advanced(
                self._algorithm,
                plan,
                scalars,
                inputs,
                value,
                before,
                None if average is None else average.read_value(),
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
            kept = kept_values(value, after, scalars, plan, inputs.seed)
            for number, (name, slot) in enumerate({"": variable, **slots}.items()):
                if name not in scales:
                    slot.assign(kept(name, slot.dtype))
                    continue
                seed = precision.seed_of(inputs.seed, number)
                codes, scale = quantization.encoded(after[name], slot.dtype, seed)
                slot.assign(codes)
                scales[name].assign(scale)

        return kernel


def _arguments(entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> tuple[Any, ...]:
    """Returns the variables and tensors of one update, as the kernels take them."""
    beside = {
        "average": entry.average if plan.averages else None,
        "accumulator": entry.accumulator if plan.gradient == ACCUMULATED else None,
        "master": entry.master,
    }
    return (
        distribution.local(entry.variable),
        {name: distribution.local(slot) for name, slot in entry.slots.items()},
        {name: distribution.local(scale) for name, scale in entry.scales.items()},
        {n: distribution.local(v) for n, v in beside.items() if v is not None},
        inputs.gradient,
        {n: v for n, v in inputs.scalars.items() if not n.startswith(formulas.OPERAND)},
        inputs.options(),
    )


def _gradient(gradient: tf.Tensor | None, beside: Mapping[str, tf.Variable]) -> tf.Tensor:
    """Returns the gradient, which may be the accumulated one."""
    return beside["accumulator"].read_value() if gradient is None else gradient


def read_before(
    variable: tf.Variable,
    slots: Mapping[str, tf.Variable],
    scales: Mapping[str, tf.Variable],
    beside: Mapping[str, tf.Variable],
    scalars: Scalars,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns a variable's value and its slots, decoded, before an update.

    Args:
      variable: the variable.
      slots: its slots, by name.
      scales: the scales of those in 8 bits.
      beside: under "master", the variable with all its digits, where that is kept.
      scalars: the numbers of this step, in the dtype of the arithmetic.
    """
    before = {name: slot.read_value() for name, slot in slots.items()}
    for name, scale in scales.items():
        before[name] = quantization.decoded(before[name], scale.read_value())
    master = beside.get("master")
    whole = None if master is None else master.read_value()
    return precision.widest(variable.read_value(), whole, scalars.learning_rate.dtype), before


def kept_values(
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
    scalars: Scalars,
    plan: UpdatePlan,
    seed: tf.Tensor | None,
) -> Callable[[str, tf.DType], tf.Tensor]:
    """Returns what gives new values in the dtypes in which they are kept.

    Args:
      value: the variable's new value; its name is "".
      slots: the new slots.
      scalars: the numbers of this step.
      plan: what the update does.
      seed: for stochastic rounding, int32 [2], or `None`.
    """
    by_chance = scalars.stochastic_rounding and not plan.keeps_master
    values = {"": value, **slots}
    order = list(values)

    def kept(name: str, dtype: tf.DType) -> tf.Tensor:
        own = precision.seed_of(seed, order.index(name))
        return precision.stored(values[name], dtype, own if name or by_chance else None)

    return kept


def advanced(
    algorithm: Algorithm,
    plan: UpdatePlan,
    scalars: Scalars,
    inputs: UpdateInputs,
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
    average: tf.Tensor | None,
) -> tuple[tf.Tensor, Mapping[str, tf.Tensor], tf.Tensor | None]:
    """One complete update: clipping, decay, the rule, averaging. Pure; every executor runs it.

    Args:
      algorithm: whose pure `update` is run.
      plan: what the update does.
      scalars: the numbers of this step, in the compute dtype.
      inputs: the raw gradient, of any floating dtype, and what the options need.
      value: the variable's value (or some rows of it), of any floating dtype.
      slots: the slots by name, of the same rows.
      average: the moving average of the same rows, or `None`.

    Returns:
      value: the new value, in the compute dtype.
      slots: every new slot.
      average: the new average, or `None`.
    """
    slots, slow = without_slow(slots) if plan.keeps_slow else (slots, None)
    gradient, value, slots = _conditioned(plan, scalars, inputs, value, slots)
    with purity.watched(algorithm, "update"):
        result = algorithm.update(gradient, value, slots, scalars)
    new, after = checked(result, value, slots)
    if plan.masks:
        new = formulas.masked(new, value, gradient)
    if plan.decay == CAUTIOUS:
        decay = getattr(scalars, plan.decay_name)
        new = formulas.decayed_where(new, value, decay, scalars.learning_rate)
    if slow is not None:
        slow = tf.cast(slow, new.dtype)
        if inputs.lookahead_due is not None:
            share = scalars.lookahead_share
            new, slow = formulas.looked_ahead(slow, new, share, inputs.lookahead_due)
        after = {**after, lookahead.SLOW: slow}
    if average is not None:
        new, average = _average(average, new, inputs)
    return new, after, average


def measured(
    algorithm: Algorithm,
    plan: UpdatePlan,
    scalars: Scalars,
    inputs: UpdateInputs,
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
) -> dict[str, tf.Tensor]:
    """Returns what `measure` gives for what `update` will be given; as for `advanced`."""
    own = without_slow(slots)[0] if plan.keeps_slow else slots
    given = _conditioned(plan, scalars, inputs, value, own)
    with purity.watched(algorithm, "measure"):
        result = algorithm.measure(*given, scalars)
    return measures.checked(result, f"{class_of(algorithm).__name__}.measure")


def without_slow(
    slots: Mapping[str, tf.Tensor],
) -> tuple[Mapping[str, tf.Tensor], tf.Tensor]:
    """Returns the slots of the algorithm, and the slow weights that are kept beside them."""
    own = {name: slot for name, slot in slots.items() if name != lookahead.SLOW}
    return own, slots[lookahead.SLOW]


def _conditioned(
    plan: UpdatePlan,
    scalars: Scalars,
    inputs: UpdateInputs,
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    """Returns gradient, value and slots as an algorithm is given them."""
    dtype = scalars.learning_rate.dtype
    gradient = formulas.conditioned(
        tf.cast(inputs.gradient, dtype), inputs.scale, plan.clipvalue
    )
    if plan.centralizes:
        gradient = formulas.centralized(gradient)
    value = tf.cast(value, dtype)
    if plan.decay == L2:
        gradient = formulas.penalized(gradient, value, getattr(scalars, plan.decay_name))
    elif plan.decay == DECOUPLED:
        value = formulas.decayed(
            value, getattr(scalars, plan.decay_name), scalars.learning_rate
        )
    return gradient, value, {name: tf.cast(slot, dtype) for name, slot in slots.items()}


def _average(
    average: tf.Tensor, value: tf.Tensor, inputs: UpdateInputs
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the value that the variable is to have, and the new average."""
    momentum, share = (
        tf.cast(number, average.dtype) for number in (inputs.ema_momentum, inputs.ema_share)
    )
    new = formulas.averaged(average, tf.cast(value, average.dtype), momentum, share)
    if inputs.ema_overwrite is None:
        return value, new
    return tf.where(inputs.ema_overwrite, tf.cast(new, value.dtype), value), new


def average_only(entry: VariableState, inputs: UpdateInputs) -> None:
    """Moves the average of a variable whose value is already in place."""
    if entry.average is None:
        return
    variable, average = distribution.local(entry.variable), distribution.local(entry.average)
    with placement.where(variable):
        value, new = _average(average.read_value(), variable.read_value(), inputs)
        average.assign(new)
        if inputs.ema_overwrite is not None:
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
