"""One training run of the suite tasks: its losses, and what it took."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tools.bench.task_data import Data

keras = tf.keras
EVERY = 60  # a curve has so many points
LossOf = Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor]  # from the model, x and y


def cross_entropy(model: Any, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the mean loss of a model whose outputs are logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, model(x))


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem that optimizers are compared on.

    Attributes:
      name: what it is called.
      data: what it trains on.
      model: makes the model, from the number of classes.
      steps: the steps of a run.
      batch: the examples of a step; `None` for all of them.
      decay: the decoupled weight decay.
      undecayed: patterns of the paths of variables that do not decay.
      loss: what is minimized.
      error: what tells how good a model is, from the data for validation.
      told: what that is called.
      second_passes: whether `SharpnessAware` is tried on it.
    """

    name: str
    data: Data
    model: Callable[[int], Any]
    steps: int
    batch: int | None
    decay: float
    undecayed: Sequence[str]
    loss: LossOf = cross_entropy
    error: LossOf = cross_entropy
    told: str = "validation loss"
    second_passes: bool = False


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
      optimizer: a new optimizer, or a `SharpnessAware` around one.
      steps: the number of steps that it may take.
      seed: for the weights and for the order of the examples.
    """

    def __init__(self, task: Task, optimizer: Any, steps: int, seed: int):
        keras.utils.set_random_seed(seed)
        data, self.model = task.data, task.model(task.data.classes)
        self._task, self._data = task, tuple(map(tf.constant, (data.x, data.y)))
        self._valid = tuple(map(tf.constant, (data.x_valid, data.y_valid)))
        inner = optimizer
        if isinstance(optimizer, tko.SharpnessAware):
            inner = optimizer.optimizer
        variables = self.model.trainable_variables
        inner.build(variables)
        chosen = None
        if task.batch:
            order = np.random.default_rng(seed).integers(0, len(data.x), (steps, task.batch))
            chosen = tf.constant(order)

        @tf.function
        def train(first: tf.Tensor, last: tf.Tensor) -> None:
            for step in tf.range(first, last):
                given = None if chosen is None else chosen[step]
                optimizer.minimize(lambda given=given: self.loss(given), variables)

        self._optimizer, self._train = inner, train
        self._validate = tf.function(lambda: task.error(self.model, *self._valid))

    def train(self, first: int, last: int) -> None:
        """Takes the steps from one number up to another, without that one."""
        self._train(tf.constant(first), tf.constant(last))

    def loss(self, chosen: tf.Tensor | None = None) -> tf.Tensor:
        """Returns what is minimized, on some examples or on all."""
        given = self._data
        if chosen is not None:
            given = tuple(tf.gather(values, chosen) for values in given)
        return self._task.loss(self.model, *given)

    def error(self, shows: bool = False) -> float:
        """Returns the error on the data for validation, infinite where it is not finite.

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
        losses.append(training.error(shows))
        at.append(last)
    return Run(tuple(at), tuple(losses))


def mean(runs: Sequence[Run]) -> Run:
    """Returns the mean curve of runs of one length."""
    losses = np.mean([one.losses for one in runs], 0)
    return Run(runs[0].at, tuple(map(float, losses)))
