"""Taking over state by the names of variables and slots."""

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import (
    assigning,
    evaluation,
    late,
    named_state,
    partial,
    rest,
    scalar_checks,
    skipping,
)
from tf_keras_optim.engine.state.load_report import LoadReport
from tf_keras_optim.engine.state.waiting import Pending, Waiting


class StateByName:
    """Loads state whose arrays have names.

    Args:
      context: what the optimizer's parts share.
      pending: where state waits for its slots.
    """

    def __init__(self, context: Context, pending: Pending):
        self._context = context
        self._pending = pending

    def take(self, given: Waiting, strict: bool = True, patient: bool = False) -> LoadReport:
        """Loads named state now, or as soon as the variables for it exist.

        Args:
          given: the state.
          strict: raise if it does not fit exactly.
          patient: wait for the next use if it would fit other values of the weights.
        """
        assert given.state is not None
        keep_rates = bool(given.options.get("keep_hyperparameters"))
        scalar_checks.check(self._context, given.state["scalars"], keep_rates)
        if not (self._context.store.is_built or named_state.was_not_built(given.state)):
            self._pending.let_wait(given)
            return LoadReport(waiting=True)
        evaluating = bool(given.state.get(evaluation.EVALUATING))
        if evaluating and evaluation.has_weights(self._context):
            evaluation.make_all(self._context)
        plan = named_state.plan(self._context, given.state, **given.options)
        if patient and given.skips and not given.accepts(plan):
            # What fits is told by the weights, which may come after the optimizer.
            self._pending.let_wait(given)
            return LoadReport(waiting=True)
        if patient and not given.accepts(plan):
            # Keras may load the optimizer before the weights that tell who is who.
            later = named_state.plan(
                self._context, given.state, compare_values=False, **given.options
            )
            if given.accepts(later) or (given.lenient and not later.apart.is_sure):
                self._pending.let_wait(given)
                return LoadReport(waiting=True)
        fits = not strict or given.accepts(plan, guessed=not patient)
        if not (fits or given.skips):
            raise ValueError(
                f"{self._context.title}: the saved state does not fit; nothing was changed.\n"
                f"{plan.report.differences()}\n"
                "Create the optimizer and the model as they were, or take over what fits "
                "with `load_state_dict(state, strict=False)`. If only names differ, give "
                "the layers names, pass `names=`, or load the weights before the state."
            )
        dropped = self._pending.drop()
        # Scalars that were set at once may have been changed since: by a callback, say.
        done = {id(variable) for variable, _ in given.before}
        ages = late.ages(self._context, [*given.before, *(dropped.before if dropped else ())])
        assigning.assign(
            self._context, [(v, value) for v, value in plan.assignments if id(v) not in done]
        )
        late.note_loaded(self._context, ages, plan.begun)
        self._pending.rest = rest.of(self._context, given.state, given.options, plan)
        evaluation.set_mode(self._context, evaluating)
        if not self._context.keras.averages_from_zero:
            # The weights may be loaded after the optimizer.
            self._context.store.begin_averages(plan.starting, self._context.counter.calls())
        if not fits:
            skipping.warn(self._context.title, plan.report.differences())
        elif strict and not plan.report.fits:
            partial.tell(self._context.title, plan.apart)
        if plan.left_out:
            tf.get_logger().info("%s: %s.", self._context.title, plan.left_out)
        return plan.report
