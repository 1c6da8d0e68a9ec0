"""Callbacks for `fit`, `evaluate` and `predict`, under both generations of Keras."""

from typing import Any

from tf_keras_optim.compiled import optimizer_of
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.monitor import OptimizerMonitor
from tf_keras_optim.optimizers.base import Optimizer

__all__ = ["EvaluationWeights", "OptimizerMonitor"]


class EvaluationWeights(keras.callbacks.Callback):
    """Uses the optimizer's evaluation weights in everything around training.

    Validation, `evaluate` and `predict` use the evaluation weights. So do callbacks at the end
    of an epoch, such as ModelCheckpoint, EarlyStopping and BackupAndRestore. Each epoch
    continues from the trained weights, bit for bit. `fit` ends with the evaluation weights; the
    next `fit` continues from the trained weights.

    Put this callback first in the list: without validation, the callbacks before it see the
    trained weights at the end of an epoch. Files that are written meanwhile record which
    weights they hold. The callback cannot be used together with Keras' SwapEMAWeights, which
    exchanges the same weights.

    Raises:
      TypeError: when training begins, and the model's optimizer is not of this package.
      ValueError: when training begins, and the optimizer has no evaluation weights.

    Example:
      >>> model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
      >>> model.compile(ScheduleFreeAdamW(0.01), "mse")
      >>> _ = model.fit(tf.ones([8, 2]), tf.ones([8, 1]), verbose=0,
      ...               callbacks=[callbacks.EvaluationWeights()])
      >>> model.optimizer.has_evaluation_weights
      True
    """

    def __init__(self) -> None:
        super().__init__()
        self._of: Any = None
        self._trains = False
        self._was_on = False

    def set_model(self, model: Any) -> None:
        """Receives the model; Keras calls it."""
        super().set_model(model)
        self._of = model

    def on_train_begin(self, logs: Any = None) -> None:
        """Puts the trained weights in place."""
        optimizer = self._built()
        optimizer.use_evaluation_weights()  # also where it has none: that raises
        optimizer.use_training_weights()
        self._trains = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Puts the trained weights in place."""
        self._optimizer().use_training_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Puts the evaluation weights in place."""
        self._optimizer().use_evaluation_weights()

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the evaluation weights in place."""
        self._optimizer().use_evaluation_weights()
        self._trains = False

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the evaluation weights in place."""
        self._was_on = self._trains or self._built().has_evaluation_weights
        self._optimizer().use_evaluation_weights()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the trained weights back, except within `fit`, where the epoch ends next."""
        if not self._was_on:
            self._optimizer().use_training_weights()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Puts the evaluation weights in place."""
        self.on_test_begin()

    def on_predict_end(self, logs: Any = None) -> None:
        """Puts the trained weights back."""
        self.on_test_end()

    def _built(self) -> Optimizer:
        """Returns the optimizer, built if a state was loaded before it had slots."""
        optimizer = self._optimizer()
        if self._of.built and not optimizer.built:
            self._of.optimizer.build(self._of.trainable_variables)
        return optimizer

    def _optimizer(self) -> Optimizer:
        """Returns the model's optimizer, without a wrapper.

        Raises:
          TypeError: it is none of this package.
        """
        return optimizer_of(self._of, "EvaluationWeights")
