"""Running an optimizer on given gradients, in every way a user can."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

SHAPES: tuple[tuple[int, ...], ...] = ((), (7,), (5, 3), (2, 3, 4, 5))
PATHS = {  # by shape, for algorithms that go by the path
    (): "block/scale",
    (7,): "block/query/bias",
    (5, 3): "block/dense/kernel",
    (6, 3): "tokens/embeddings",
    (2, 5, 3): "block/query/kernel",
    (2, 3, 4, 5): "block/conv/kernel",
}
REGIMES = ("eager", "function", "xla")


def starts(shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 0) -> list[np.ndarray]:
    """Returns start values: float64 that float32 holds exactly, small so that updates show."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0.0, 0.1, shape).astype("f").astype("d") for shape in shapes]


def gradient_sequence(
    steps: int, shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 1
) -> list[list[np.ndarray]]:
    """Returns gradients by step and variable: each has a drift of its own, and noise."""
    generator = np.random.default_rng(seed)
    drift = [generator.normal(0.0, 1.0, shape) for shape in shapes]
    return [
        [(d + generator.normal(0.0, 1.0, d.shape)).astype("f").astype("d") for d in drift]
        for _ in range(steps)
    ]


def named(values: Sequence[np.ndarray]) -> list[tf.Variable]:
    """Returns float32 variables with these values, and with paths that fit their shapes."""
    names = [PATHS.get(value.shape, "w") for value in values]
    return [tf.Variable(v, dtype=tf.float32, name=n) for v, n in zip(values, names)]


def run(
    optimizer: Any,
    gradients: Sequence[Sequence[np.ndarray]],
    values: Sequence[np.ndarray],
    regime: str = "eager",
    variables: Sequence[Any] | None = None,
) -> list[np.ndarray]:
    """Applies gradients step by step.

    Args:
      optimizer: any optimizer.
      gradients: by step and variable.
      values: the start of each variable.
      regime: "eager", "function" (`tf.function`) or "xla" (`jit_compile=True`).
      variables: variables to use instead of fresh ones.

    Returns:
      The final values, in float64.
    """
    variables = variables or [tf.Variable(v, dtype=tf.float32, name="w") for v in values]
    optimizer.build(variables)

    def step(batch: Sequence[tf.Tensor]) -> None:
        optimizer.apply_gradients(zip(batch, variables))

    if regime != "eager":
        step = tf.function(step, jit_compile=regime == "xla", autograph=False)
    for batch in gradients:
        step([tf.constant(g, tf.float32) for g in batch])
    return [v.numpy().astype("d") for v in variables]


def run_in_replicas(
    strategy: tf.distribute.Strategy,
    make: Callable[[], Any],
    shares: Sequence[Sequence[Sequence[np.ndarray]]],
    values: Sequence[np.ndarray],
) -> tuple[Any, list[np.ndarray]]:
    """Applies gradients that differ between replicas; the optimizer sums them.

    Args:
      strategy: a mirrored strategy.
      make: makes the optimizer.
      shares: gradients by step, replica and variable.
      values: the start of each variable.

    Returns:
      optimizer: the optimizer.
      values: the final values, in float64.

    Raises:
      AssertionError: a variable is not the same on every replica.
    """
    with strategy.scope():
        variables = named(values)
        optimizer = make()
        optimizer.build(variables)

    def replica(batches: Sequence[tf.Tensor]) -> None:
        context = tf.distribute.get_replica_context()
        batch = [tf.gather(g, context.replica_id_in_sync_group) for g in batches]
        optimizer.apply_gradients(zip(batch, variables))

    @tf.function(autograph=False)
    def step(batches: Sequence[tf.Tensor]) -> None:
        strategy.run(replica, args=(batches,))

    for batches in shares:
        step([tf.constant(np.stack(g), tf.float32) for g in zip(*batches)])
    for variable in variables:
        first, *others = (v.numpy() for v in strategy.experimental_local_results(variable))
        for other in others:
            np.testing.assert_array_equal(first, other)
    return optimizer, [v.numpy().astype("d") for v in variables]


def distance_error(
    values: Sequence[np.ndarray], expected: Sequence[np.ndarray], start: Sequence[np.ndarray]
) -> float:
    """Returns the largest error of any variable, relative to the farthest that it moved."""
    return max(
        np.max(np.abs(v - e)) / np.max(np.abs(e - s))
        for v, e, s in zip(values, expected, start)
    )
