"""One training run of the suite tasks: its losses, and what it took."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tools.bench.task_data import Data

keras = tf.keras
EVERY = 60  # a curve has so many points


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem that optimizers are compared on.

    Attributes:
      name: what it is called.
      data: what it trains on.
      model: makes the model, from the number of classes.
      steps: the steps of a run.
      batch: the examples of a step.
      decay: the decoupled weight decay.
      undecayed: patterns of the paths of variables that do not decay.
    """

    name: str
    data: Data
    model: Callable[[int], Any]
    steps: int
    batch: int
    decay: float
    undecayed: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run gave.

    Attributes:
      at: the steps after which the validation loss was taken.
      losses: the validation loss there, infinite where it is not finite.
    """

    at: tuple[int, ...]
    losses: tuple[float, ...]

    @property
    def final(self) -> float:
        """The validation loss at the end."""
        return self.losses[-1]

    def reaches(self, target: float) -> float | None:
        """Returns the first step at which the curve is at a target; `None` if it never is."""
        before, then = 0, float("inf")
        for step, loss in zip(self.at, self.losses):
            if loss <= target:
                share = 0.0 if not np.isfinite(then) else (then - target) / (then - loss)
                return step if not np.isfinite(then) else before + share * (step - before)
            before, then = step, loss
        return None


class Training:
    """A new model that an optimizer trains.

    Args:
      task: what to train.
      optimizer: a new optimizer.
      steps: the number of steps that it may take.
      seed: for the weights and for the order of the examples.
    """

    def __init__(self, task: Task, optimizer: Any, steps: int, seed: int):
        keras.utils.set_random_seed(seed)
        data, model = task.data, task.model(task.data.classes)
        variables = model.trainable_variables
        optimizer.build(variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        order = np.random.default_rng(seed).integers(0, len(data.x), (steps, task.batch))
        x, y, chosen = tf.constant(data.x), tf.constant(data.y), tf.constant(order)

        @tf.function
        def train(first: tf.Tensor, last: tf.Tensor) -> None:
            for step in tf.range(first, last):
                with tf.GradientTape() as tape:
                    outputs = model(tf.gather(x, chosen[step]), training=True)
                    loss = loss_of(tf.gather(y, chosen[step]), outputs)
                optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

        @tf.function
        def validate() -> tf.Tensor:
            return loss_of(tf.constant(data.y_valid), model(tf.constant(data.x_valid)))

        self._optimizer, self._train, self._validate = optimizer, train, validate

    def train(self, first: int, last: int) -> None:
        """Takes the steps from one number up to another, without that one."""
        self._train(tf.constant(first), tf.constant(last))

    def loss(self, shows: bool) -> float:
        """Returns the validation loss.

        Args:
          shows: whether it is that of the optimizer's weights for evaluation.
        """
        shown = self._optimizer.evaluation_weights() if shows else contextlib.nullcontext()
        with shown:
            found = float(self._validate())
        return found if np.isfinite(found) else float("inf")


def run(task: Task, optimizer: Any, steps: int, seed: int, *, shows: bool = False) -> Run:
    """Trains a new model, and validates it now and then.

    Args:
      task: what to train.
      optimizer: a new optimizer.
      steps: the number of steps.
      seed: for the weights and for the order of the examples.
      shows: whether it is validated at the optimizer's weights for evaluation.
    """
    training = Training(task, optimizer, steps, seed)
    part = max(1, steps // EVERY)
    at, losses = [], []
    for first in range(0, steps, part):
        last = min(first + part, steps)
        training.train(first, last)
        losses.append(training.loss(shows))
        at.append(last)
    return Run(tuple(at), tuple(losses))


def mean(runs: Sequence[Run]) -> Run:
    """Returns the mean curve of runs of one length."""
    losses = np.mean([one.losses for one in runs], 0)
    return Run(runs[0].at, tuple(map(float, losses)))
