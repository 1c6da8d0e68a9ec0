"""What users call to see the weights that an optimizer gives for evaluation."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.state import evaluation


class Evaluating(Composed):
    """The part of an optimizer that puts weights for evaluation into the model, and back."""

    @property
    def has_evaluation_weights(self) -> bool:
        """Whether the variables have weights for evaluation now, outside functions.

        It is not known yet if an optimizer without slots was restored from a checkpoint.
        """
        waiting = self.tko.state.waits_with_evaluation()
        return evaluation.is_on(self.tko.context) if waiting is None else waiting

    @tf.autograph.experimental.do_not_convert
    def use_evaluation_weights(self) -> None:
        """Puts the weights that are to be evaluated into the variables.

        These are the averages (`use_ema`), the slow weights (`lookahead_steps`), or what the
        algorithm says. The trained weights are kept exactly meanwhile, which takes the memory
        of the weights once more, but not where there are master copies. Called again, it
        changes nothing. A step that is taken meanwhile puts the trained weights back first;
        its gradient came from others. Files say which weights they hold, but for whole models
        in HDF5 (`.h5`), which hold arrays alone: training goes on from the weights there.

        Raises:
          ValueError: the optimizer has no weights for evaluation.
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
        """Puts the trained weights back, to the bit; changes nothing where they are in place.

        A variable that was set to something else meanwhile (weights that were loaded, or the
        best ones that EarlyStopping restores) stays as it is, and training goes on from there.

        Raises:
          ValueError: the optimizer is not built, and was given a state with the weights for
            evaluation in place: only its slots say what the trained ones are.
          RuntimeError: meanwhile steps were taken by functions that had been traced before
            there were weights for evaluation.
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
        """Returns a context in which the variables have the weights for evaluation.

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
