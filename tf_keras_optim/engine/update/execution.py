"""What runs an algorithm: an executor for each kind of plan, and numbers over all variables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import first_updates
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import kernel_choice, measures, plans, purity, turns
from tf_keras_optim.engine.update.kernels import Kernels, Scalars
from tf_keras_optim.engine.update.plans import Executor, UpdateInputs, UpdatePlan
from tf_keras_optim.engine.update.rows import Rows
from tf_keras_optim.engine.update.stateful import UpdateSteps

Job = tuple[VariableState, UpdatePlan, UpdateInputs]  # one update of one variable
ScalarsOf = Callable[[tf.DType], Mapping[str, tf.Tensor]]


class Execution:
    """Runs the algorithm of one optimizer, with its hyperparameters as they are.

    Args:
      algorithm: whose `update` is run.
      update_step: what is run where it has none; called with gradient, variable and rate.
      static: gives the declared hyperparameters by name.
      jit_compile: "auto", True or False.
      has_measure: whether the algorithm measures and concludes.
      has_refresh: whether it refreshes slots every few updates.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        update_step: Callable[[Any, Any, Any], None],
        static: Callable[[], dict[str, Any]],
        jit_compile: str | bool,
        *,
        has_measure: bool,
        has_refresh: bool,
    ):
        self._algorithm = algorithm
        self._static = static
        self.has_measure = has_measure
        self.has_refresh = has_refresh
        self.kernels = Kernels(algorithm, static)
        self._rows = Rows(algorithm, static)
        self._update_steps = UpdateSteps(update_step, static, jit_compile)

    @property
    def used(self) -> set[bool]:
        """Whether updates so far were compiled, of each kind that there was."""
        return self.kernels.used | self._update_steps.used

    def run(self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> None:
        """Updates a variable, or the rows that the gradient names."""
        executor: Executor = self._rows if plan.gradient == plans.ROWS else self.kernels
        if plan.kernel == plans.UPDATE_STEP:
            executor = self._update_steps
        if plan.kernel in (kernel_choice.FUSED, kernel_choice.XLA):
            executor.run(entry, plan, inputs)  # what updates locks it
            return
        tensors = [*inputs.options().values(), *inputs.scalars.values()]
        tensors += tf.nest.flatten(inputs.gradient, expand_composites=True)
        variable = distribution.local(entry.variable)
        turns.alone(variable, tensors, lambda: executor.run(entry, plan, inputs))

    def prepare(
        self,
        jobs: Sequence[Job],
        gathered: Mapping[int, tf.Tensor],
        scalars_of: ScalarsOf,
    ) -> dict[str, tf.Tensor]:
        """Does what comes before any variable moves.

        Slots that start from their variables take their first values.

        Args:
          jobs: the updates that are to come.
          gathered: by the ids of their entries, whether variables take part.
          scalars_of: returns the optimizer's own scalars in a dtype.

        Returns:
          What the algorithm concludes from all variables, by name.
        """
        entries = [entry for entry, _, _ in jobs if entry.started]
        if entries:
            first_updates.begin(entries, gathered)
        if not (jobs and self.has_measure):
            return {}
        parts = []
        for entry, plan, inputs in jobs:
            executor = self._rows if plan.gradient == plans.ROWS else self.kernels
            part = executor.measure(entry, plan, inputs)
            taken = gathered.get(id(entry))
            if taken is not None:
                part = {n: tf.where(taken, v, tf.zeros_like(v)) for n, v in part.items()}
            parts.append(part)
        title = class_of(self._algorithm).__name__
        sums = measures.summed(parts, f"{title}.measure")
        widest = max((entry.dtype for entry, _, _ in jobs), key=lambda dtype: dtype.size)
        scalars = Scalars(self._static(), scalars_of(widest))
        with purity.watched(self._algorithm, "conclude"):
            result = self._algorithm.conclude(sums, scalars)
        return measures.checked(result, f"{title}.conclude")
