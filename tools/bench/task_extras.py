"""What the suite tasks measures besides: a second pass on digits, L-BFGS on the equation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tools.bench.results import Comparison, Figures
from tools.bench.task_runs import Task, Training

Make = Callable[[int], Any]  # an optimizer for a run, from its number of steps
_SEEDS = (1, 2, 3, 4, 5)
_LONGER = 5  # runs with a second pass take so many times the task's steps: they must overfit
_SECOND_PASSES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SAM, rho 0.05", {"rho": 0.05}),
    ("SAM, rho 0.1", {"rho": 0.1}),
    ("ASAM, rho 0.5", {"rho": 0.5, "adaptive": True}),
)


def second_passes(task: Task, make: Make, name: str) -> Iterator[Comparison]:
    """Yields the shares of wrong answers, and losses, with and without a second pass.

    Args:
      task: one with classes.
      make: makes the optimizer that all sides have.
      name: what it is called.
    """
    steps = _LONGER * task.steps
    sides: dict[str, tuple[int, dict[str, Any] | None]] = {
        name: (steps, None),
        f"{name}, twice the steps": (2 * steps, None),
    }
    sides |= {side: (steps, options) for side, options in _SECOND_PASSES}
    wrong, losses = {}, {}
    for side, (length, options) in sides.items():
        found = []
        for seed in _SEEDS:
            optimizer = make(length)
            if options is not None:
                optimizer = tko.SharpnessAware(optimizer, **options)
            found.append(_classified(task, optimizer, length, seed))
        wrong[side] = Figures(tuple(share for share, _ in found))
        losses[side] = Figures(tuple(loss for _, loss in found))
    case = f"after {steps} steps, seeds {_SEEDS}"
    context = tuple(sides)
    yield Comparison("tasks", f"{task.name}: % of wrong answers {case}", wrong, "", context)
    yield Comparison("tasks", f"{task.name}: {task.told} {case}", losses, "", context)


def _classified(task: Task, optimizer: Any, steps: int, seed: int) -> tuple[float, float]:
    training = Training(task, optimizer, steps, seed)
    training.train(0, steps)
    answers = np.argmax(training.model(tf.constant(task.data.x_valid)), -1)
    return 100.0 * float(np.mean(answers != task.data.y_valid)), training.error()


def finished(task: Task, make: Make, name: str, iterations: int) -> Iterator[Comparison]:
    """Yields the errors when L-BFGS follows on a part of a run, and what it computed.

    Args:
      task: one that has no batches.
      make: makes the optimizer that begins.
      name: what it is called.
      iterations: of L-BFGS, at most.
    """
    errors: dict[str, list[float]] = {}
    evaluations: dict[str, list[float]] = {}
    for share in (0.1, 0.5):
        steps = round(share * task.steps)
        side = f"{name} {steps}, L-BFGS"
        for seed in _SEEDS[:3]:
            training = Training(task, make(steps), steps, seed)
            training.train(0, steps)
            variables = training.model.trainable_variables
            found = tko.minimize_lbfgs(training.loss, variables, max_iterations=iterations)
            errors.setdefault(side, []).append(training.error())
            evaluations.setdefault(side, []).append(steps + found.evaluations)
    case = f"at most {iterations} iterations of L-BFGS after a shorter run"
    for what, figures in ((task.told, errors), ("gradients computed", evaluations)):
        sides = {side: Figures(tuple(values)) for side, values in figures.items()}
        yield Comparison("tasks", f"{task.name}: {what}, {case}", sides, "", tuple(sides))
