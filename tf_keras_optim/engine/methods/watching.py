"""What users call to watch a run."""

import warnings

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.step import statistics


class Watching(Composed):
    """The part of an optimizer that reports what its last step did."""

    @tf.autograph.experimental.do_not_convert
    def statistics(self, per_variable: bool = False) -> dict[str, float]:
        """Returns numbers about the last update, by name.

        The first call turns measuring on for steps that are traced afterwards, so call it
        once before training. Before that call, steps measure nothing and have no extra cost. A
        number is NaN if the last update did not measure it: before the first update, and
        after a step of a function that was traced before measuring began.

        - `update`: number of updates so far; the other numbers are those of the last one;
        - `learning_rate`: the rate that the update used;
        - `gradient_norm`: L2 norm of all gradients together, summed over replicas, unscaled,
          averaged over accumulated steps, before clipping. Without a clip by norm it
          overflows where squares of float32 do (above 1e19);
        - `update_ratio`: L2 norm of the change of all updated weights (with decay, constraints
          and averages) over the norm of these weights before the update; 0 where both are 0;
        - `clipped_updates`, `clipped_share` (with a clip): number and share of the updates,
          since measuring began, in which `clipnorm`, `global_clipnorm` or `clipvalue` limited
          anything;
        - `loss_scale` (in a LossScaleOptimizer), `skipped_steps`, `consecutive_skips` (where
          steps may be skipped): their current values. A skipped step is no update and leaves
          the other numbers as they were;
        - `evaluation_weights` (where there are such): 1 while they are in place, otherwise 0;
        - `accumulated_calls` (under accumulation): calls since the last update;
        - with `groups`: `learning_rate/groups/PATTERN` and `update_ratio/groups/PATTERN` of the
          variables of each group; "others" are the variables of no group.

        Args:
          per_variable: add `gradient_norm/variables/PATH` and `update_ratio/variables/PATH`.

        Returns:
          The numbers as Python floats. For a variable that is updated row by row
          (`sparse="lazy"`) only the rows with a gradient count.

        Raises:
          RuntimeError: it is called while a function is traced, which has no numbers yet.
          ValueError: the optimizer updates a group of another one, which has the numbers.
        """
        parts = self.tko
        if not tf.executing_eagerly():
            raise RuntimeError(
                f"{parts.title}: `statistics` was called while a function is traced, and there "
                "are no numbers yet. Call it outside of `tf.function`, after the step."
            )
        if parts.whole is not None:
            raise ValueError(
                f"{parts.title} updates a group of variables of another optimizer, whose steps "
                "measure. Call `statistics` of that one."
            )
        watch = parts.context.watch
        begins = not watch.is_on
        statistics.begin(parts.context, measures=parts.stepper.measures)
        if begins and watch.has_missed:
            warnings.warn(
                f"{parts.title}: a step was traced into a function before measuring began. "
                "That function does not measure until it is traced again: after "
                "`model.compile`, or `model.make_train_function(force=True)`. Call "
                "`statistics` once before training.",
                stacklevel=2,
            )
        return statistics.collected(parts.context, parts.scaling, per_variable=per_variable)
