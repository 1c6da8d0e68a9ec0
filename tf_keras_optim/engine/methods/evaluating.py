"""What users call to put the evaluation weights of an optimizer in place."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.state import evaluation


class Evaluating(Composed):
    """The part of an optimizer that exchanges trained weights and evaluation weights."""

    @property
    def has_evaluation_weights(self) -> bool:
        """Whether the variables hold the evaluation weights now; for use outside functions.

        For an optimizer that was restored from a checkpoint it is known once it has its slots.
        """
        waiting = self.tko.state.waits_with_evaluation()
        return evaluation.is_on(self.tko.context) if waiting is None else waiting

    @tf.autograph.experimental.do_not_convert
    def use_evaluation_weights(self) -> None:
        """Puts the evaluation weights into the variables.

        These are the averages (`use_ema`), the slow weights (`lookahead_steps`), or what the
        algorithm computes. The trained weights are kept exactly meanwhile. That takes the
        memory of the weights once more, except where there are master copies. A second call
        changes nothing. A step that is taken meanwhile puts the trained weights back first,
        although its gradient belongs to the evaluation weights. Files record which weights
        they hold. Whole models in HDF5 (`.h5`) hold arrays alone; training then continues
        from the weights in the file.

        Raises:
          ValueError: the optimizer has no evaluation weights.
        """
        context = self.tko.context
        if not evaluation.has_weights(context):
            raise ValueError(
                f"{self.tko.title} has no weights for evaluation beside those that it trains. "
                "Create it with `use_ema=True` or `lookahead_steps=5`, or use an algorithm "
                "that has such weights, ScheduleFreeAdamW for one."
            )
        self.tko.state.check_weights()
        if not self.tko.state.waits_with_evaluation():
            evaluation.switch(context, True)

    @tf.autograph.experimental.do_not_convert
    def use_training_weights(self) -> None:
        """Puts the trained weights back, bit for bit; changes nothing if they are in place.

        A variable that was set to something else meanwhile (weights that were loaded, or the
        best ones that EarlyStopping restores) stays as it is, and training continues from
        there.

        Raises:
          ValueError: the optimizer is not built, and its loaded state was saved while the
            evaluation weights were in place: the trained ones follow from its slots.
          RuntimeError: steps were taken meanwhile by functions that had been traced before
            there were evaluation weights.
        """
        self.tko.state.check_weights()
        if self.tko.state.waits_with_evaluation():
            raise ValueError(
                f"{self.tko.title} is not built, and waits with a state that was saved while "
                "the weights for evaluation were in place; what the trained ones are follows "
                "from its slots. Call `optimizer.build(model.trainable_variables)` first."
            )
        evaluation.switch(self.tko.context, False)

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Returns a context in which the variables hold the evaluation weights.

        ```python
        with optimizer.evaluation_weights():
            model.evaluate(data)
        ```

        On exit the variables have the weights that they had on entry; contexts may be nested.
        """
        was_on = self.has_evaluation_weights
        self.use_evaluation_weights()
        try:
            yield
        finally:
            if not was_on:
                self.use_training_weights()
