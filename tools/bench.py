r"""Times optimizer steps beside Keras' own, in one run.

    python -m tools.bench --tensors=200 --optimizer=adam

Prints a ratio for each way of calling. Both sides get variables of the same shapes and
the same gradients, are warmed up, and take turns; a figure is a median. Where
the ratio is below 1, Keras was faster.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags

import tf_keras_optim as tko
from tf_keras_optim.faces.running import keras

_TENSORS = flags.DEFINE_integer("tensors", 200, "Number of variables.", lower_bound=2)
_OPTIMIZER = flags.DEFINE_string("optimizer", "adam", "Name of the optimizer.")
_STEPS = flags.DEFINE_integer("steps", 20, "Number of timed steps.", lower_bound=1)

MODES = ("eager", "function", "xla")


def shapes(tensors: int) -> list[tuple[int, ...]]:
    """Returns matrices of 64x64 and vectors of 64 in turn."""
    return [(64, 64) if index % 2 == 0 else (64,) for index in range(tensors)]


def make_step(optimizer: Any, mode: str, tensors: int) -> Callable[[], None]:
    """Returns a function that applies one step to fresh variables.

    Args:
      optimizer: an optimizer without variables.
      mode: "eager", "function" (`tf.function`) or "xla" (`jit_compile=True`).
      tensors: number of variables.
    """
    variables = [tf.Variable(tf.ones(shape)) for shape in shapes(tensors)]
    gradients = [tf.fill(variable.shape, 0.1) for variable in variables]
    optimizer.build(variables)

    def apply(values: Sequence[tf.Tensor]) -> None:
        optimizer.apply_gradients(zip(values, variables))

    if mode != "eager":
        apply = tf.function(apply, jit_compile=mode == "xla", autograph=False)

    def step() -> None:
        apply(gradients)
        variables[-1].numpy()  # the step has ended

    return step


def seconds(step: Callable[[], None]) -> float:
    """Returns the wall time of one call, in seconds."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def compare(name: str, mode: str, tensors: int, steps: int) -> dict[str, float]:
    """Times both sides in turn.

    Args:
      name: name of the optimizer.
      mode: one of `MODES`.
      tensors: number of variables.
      steps: number of timed steps.

    Returns:
      Seconds, for each side, of the `first` step (tracing and compiling included) and
      of a later one (median).
    """
    ours = tko.get(name)
    sides = {"ours": ours, "keras": getattr(keras.optimizers, type(ours).__name__)()}
    ready = {side: make_step(optimizer, mode, tensors) for side, optimizer in sides.items()}
    result = {f"{side}_first": seconds(step) for side, step in ready.items()}
    for step in ready.values():
        step()
    times: dict[str, list[float]] = {side: [] for side in ready}
    for _ in range(steps):
        for side, step in ready.items():
            times[side].append(seconds(step))
    return result | {side: statistics.median(values) for side, values in times.items()}


def main(argv: Sequence[str]) -> None:
    """Reads the flags, runs every mode and prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
    name, tensors = _OPTIMIZER.value, _TENSORS.value
    print(
        f"{name}, {tensors} variables; TensorFlow {tf.__version__}, "
        f"{keras.__name__} {keras.__version__}, CPU; medians of {_STEPS.value} steps"
    )
    row = "{:<10}{:>14}{:>14}{:>10}{:>16}{:>16}{:>10}"
    print(
        row.format("", "step, ours", "step, Keras", "ratio", "first, ours", "first, Keras", "")
    )
    firsts = {}
    for mode in MODES:
        t = compare(name, mode, tensors, _STEPS.value)
        firsts[mode] = t
        print(
            row.format(
                mode,
                f"{1e3 * t['ours']:.1f} ms",
                f"{1e3 * t['keras']:.1f} ms",
                f"{t['keras'] / t['ours']:.2f}",
                f"{t['ours_first']:.2f} s",
                f"{t['keras_first']:.2f} s",
                f"{t['keras_first'] / t['ours_first']:.2f}",
            ),
            flush=True,
        )
    ratio = firsts["xla"]["keras_first"] / firsts["eager"]["ours_first"]
    print(f"First step, ours called eagerly against Keras under XLA: ratio {ratio:.2f}")


if __name__ == "__main__":
    app.run(main)
