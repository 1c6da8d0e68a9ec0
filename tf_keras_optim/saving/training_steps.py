"""The steps of a compiled Keras model as functions from tensors to tensors, by name."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.step import ordering
from tf_keras_optim.saving.signature import WEIGHT, Specs, components, named

Tensors = dict[str, tf.Tensor]


class Steps:
    """The steps of a model.

    Args:
      model: a compiled Keras model.
      specs: its inputs.
      loss: function of labels and outputs to be used in place of the compiled loss and
        metrics, or `None`.

    Raises:
      ValueError: sample weights for several outputs, and a loss that is not the model's.
    """

    def __init__(self, model: Any, specs: Specs, loss: Callable[[Any, Any], Any] | None):
        if loss is not None and specs.weight is not None and WEIGHT not in specs.all:
            raise ValueError(
                f"`export_training`: a `loss` of your own takes one {WEIGHT!r}, a "
                f"tf.TensorSpec. Received: {specs.weight!r}. Give such weights as labels."
            )
        self.model = model
        self.specs = specs
        self.loss = loss

    def train(self, **inputs: tf.Tensor) -> Tensors:
        """One training step; returns the loss before it, and the metrics.

        Where anything in it raises, the optimizer has changed nothing.
        """
        with ordering.collected() as updates:
            found = self._training(inputs)
        ordering.run_last(updates, found)
        return found

    def _training(self, inputs: Mapping[str, tf.Tensor]) -> Tensors:
        self._show(False)
        if self.loss is None:
            return self._keras_step(self.model.train_step, inputs)
        with tf.GradientTape() as tape:
            loss = self._own_loss(inputs, training=True)
        self.model.optimizer.minimize(loss, self.model.trainable_variables, tape=tape)
        return {"loss": loss}

    def evaluate(self, **inputs: tf.Tensor) -> Tensors:
        """The loss and the metrics, without an update; at the weights for evaluation."""
        self._show(True)
        if self.loss is None:
            return self._keras_step(self.model.test_step, inputs)
        return {"loss": self._own_loss(inputs, training=False)}

    def infer(self, **inputs: tf.Tensor) -> Tensors:
        """The outputs: under their names, or "output" where they have none.

        At the weights for evaluation, where there are some.
        """
        self._show(True)
        outputs = self.model.predict_step((self.specs.inputs_of(inputs),))
        names = getattr(self.model, "output_names", None) or ()
        parts = named("output", outputs, names)
        return {k: v for name, part in parts.items() for k, v in components(name, part).items()}

    def _show(self, on: bool) -> None:
        """Puts weights for evaluation in place, or the trained ones; part of each step."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if optimizer.tko.store.evaluating is not None:
            evaluation.switch(optimizer.tko.context, on)

    def _own_loss(self, inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        assert self.loss is not None
        x, *labels = self.specs.data_of(inputs)[:2]
        outputs = self.model(x, training=training)
        losses = tf.convert_to_tensor(self.loss(labels[0] if labels else None, outputs))
        if self.specs.weight is not None:
            losses *= tf.cast(inputs[WEIGHT], losses.dtype)
        return tf.add_n([tf.reduce_mean(losses), *self.model.losses])

    def _keras_step(
        self, step: Callable[[Any], Any], inputs: Mapping[str, tf.Tensor]
    ) -> Tensors:
        """Runs a step of the model, and finds the loss of this batch in it."""
        with self._recorded_losses() as losses:
            logs = step(self.specs.data_of(inputs))
        if not isinstance(logs, Mapping):
            raise ValueError(
                f"`export_training`: a step of model {self.model.name!r} returned {logs!r}. "
                "Expected a dict of metrics, as Keras' own steps return."
            )
        found = {name: tf.convert_to_tensor(value) for name, value in _flat(logs).items()}
        if losses:
            found["loss"] = losses[0]
        if "loss" not in found:
            raise ValueError(
                f"`export_training`: the `train_step` of model {self.model.name!r} neither "
                "calls `compute_loss` nor returns a 'loss'. Return one, or pass `loss=`."
            )
        return found

    @contextlib.contextmanager
    def _recorded_losses(self) -> Iterator[list[tf.Tensor]]:
        """Yields a list that receives what the model's `compute_loss` returns."""
        compute, losses, attributes = self.model.compute_loss, [], self.model.__dict__
        before = {n: attributes[n] for n in ("compute_loss",) if n in attributes}

        def recording(*args: Any, **kwargs: Any) -> Any:
            losses.append(compute(*args, **kwargs))
            return losses[-1]

        # Beside Keras' own `__setattr__`, which would track the function.
        attributes["compute_loss"] = recording
        try:
            yield losses
        finally:
            del attributes["compute_loss"]
            attributes |= before


def _flat(logs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return found
