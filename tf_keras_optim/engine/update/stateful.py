"""Running an optimizer that is written the Keras 3 way, with an `update_step`."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import rows
from tf_keras_optim.engine.update.kernels import Scalars, average_only, compiles
from tf_keras_optim.engine.update.plans import (
    ACCUMULATED,
    DECOUPLED,
    L2,
    UpdateInputs,
    UpdatePlan,
)


class UpdateSteps:
    """Runs a user-written `update_step`, variable by variable.

    Such a step reads and assigns variables of its own, so it cannot share a trace
    between variables. "auto" leaves it to the step's graph; True compiles it once
    for each variable.

    Args:
      update_step: called with gradient, variable and learning rate.
      static: gives the declared hyperparameters by name.
      jit_compile: "auto", True or False.
    """

    def __init__(
        self,
        update_step: Callable[[Any, Any, Any], None],
        static: Callable[[], dict[str, Any]],
        jit_compile: str | bool,
    ):
        self._step = update_step
        self._static = static
        self._compiled = jit_compile is True
        self._functions: dict[int, Any] = {}
        self.used: set[bool] = set()

    def run(self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> None:
        """Updates one variable as a plan says."""
        compiled = self._compiled and compiles()
        self.used.add(compiled)
        variable = distribution.local(entry.variable)
        scalars, gradient = Scalars(self._static(), inputs.scalars), inputs.gradient
        if plan.gradient == ACCUMULATED:
            accumulator = distribution.local(entry.accumulator)
            gradient = accumulator.read_value()
            accumulator.assign(tf.zeros_like(gradient))
        gradient = _conditioned(tf.cast(gradient, entry.dtype), plan, inputs)
        with placement.beside(variable):
            value = tf.cast(variable.read_value(), entry.dtype) if plan.decay else None
            if plan.decay == DECOUPLED:
                value = formulas.decayed(
                    value, getattr(scalars, plan.decay_name), scalars.learning_rate
                )
                variable.assign(tf.cast(value, variable.dtype))
            elif plan.decay == L2:
                if isinstance(gradient, tf.IndexedSlices):
                    gradient = rows.dense(gradient, variable.shape[0])
                gradient = formulas.penalized(
                    gradient, value, getattr(scalars, plan.decay_name)
                )
            self._update_step(variable, compiled)(
                tf.cast(gradient, variable.dtype), scalars.learning_rate
            )
            if plan.averages:
                average_only(entry, inputs)

    def _update_step(self, variable: tf.Variable, compiled: bool) -> Callable[..., None]:
        def update(gradient: tf.Tensor, learning_rate: tf.Tensor) -> None:
            self._step(gradient, variable, learning_rate)

        if not compiled:
            return update
        if id(variable) not in self._functions:
            self._functions[id(variable)] = tf.function(
                update, jit_compile=True, autograph=False
            )
        return self._functions[id(variable)]


def _conditioned(gradient: Any, plan: UpdatePlan, inputs: UpdateInputs) -> Any:
    """Returns a gradient, or slices of one, scaled and clipped."""
    if not isinstance(gradient, tf.IndexedSlices):
        return formulas.conditioned(gradient, inputs.scale, plan.clipvalue)
    values = formulas.conditioned(gradient.values, inputs.scale, plan.clipvalue)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
