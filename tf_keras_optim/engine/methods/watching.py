"""What users call to watch a run."""

import warnings

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.step import statistics


class Watching(Composed):
    """The part of an optimizer that tells what its last step did."""

    @tf.autograph.experimental.do_not_convert
    def statistics(self, per_variable: bool = False) -> dict[str, float]:
        """Returns numbers about the last update, by name.

        The first call turns measuring on, for steps that are traced from then on; before it,
        steps measure nothing and cost nothing more. So call it once before training. What was
        not measured in the last update is NaN: before the first update, and where a function
        took the step that had been traced before measuring began.

        - `update`: number of updates so far; the numbers are those of this one;
        - `learning_rate`: the rate that the update used;
        - `gradient_norm`: L2 norm of all gradients together, summed over replicas, unscaled,
          averaged over accumulated steps, and before they are clipped. It overflows where the
          squares of float32 do and nothing is clipped by norms (1e19);
        - `update_ratio`: L2 norm of what the update changed of all weights it updated, decay,
          constraints and averages included, over the norm of these weights before it; 0 where
          both are 0;
        - `clipped_updates`, `clipped_share` (with a clip): in how many updates since measuring
          began `clipnorm`, `global_clipnorm` or `clipvalue` limited anything, and the share;
        - `loss_scale` (in a LossScaleOptimizer), `skipped_steps`, `consecutive_skips` (where
          steps may be skipped): as they are now. A skipped step makes no update, and leaves the
          numbers of the one before;
        - `evaluation_weights` (where there are some): 1 while they are in place, else 0;
        - `accumulated_calls` (under accumulation): calls since the last update;
        - with `groups`: `learning_rate/groups/PATTERN` and `update_ratio/groups/PATTERN` of the
          variables of each group; "others" are those of none.

        Args:
          per_variable: add `gradient_norm/variables/PATH` and `update_ratio/variables/PATH`.

        Returns:
          The numbers as Python floats. Of a variable that is updated row by row
          (`sparse="lazy"`) the rows count that had a gradient.

        Raises:
          RuntimeError: it is called inside a function, whose numbers are not there yet.
          ValueError: the optimizer belongs to a group of another one, which has the numbers.
        """
        parts = self.tko
        if not tf.executing_eagerly():
            raise RuntimeError(
                f"{parts.title}: `statistics` reads numbers, which a function that is traced "
                "does not have yet. Call it outside of `tf.function`, after the step."
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
                "That function goes on without measuring until it is made anew: by "
                "`model.compile`, or `model.make_train_function(force=True)`. Call "
                "`statistics` once before training.",
                stacklevel=2,
            )
        return statistics.collected(parts.context, parts.scaling, per_variable=per_variable)
