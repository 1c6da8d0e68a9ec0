r"""Times optimizer steps beside Keras' own, in one run.

    python -m tools.bench                                    # many small variables
    python -m tools.bench dense --tensors=200 --optimizer=adam
    python -m tools.bench sparse --rows=1000000 --ids=4096   # an embedding table
    python -m tools.bench loss_scale --megabytes=100         # normal and skipped steps

Prints a ratio for each way of calling. Both sides get variables of the same shapes and
the same gradients, are warmed up, and take turns; a figure is a median. Where
the ratio is below 1, Keras was faster.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

import tf_keras_optim as tko
from tf_keras_optim.faces.running import keras

_TENSORS = flags.DEFINE_integer("tensors", 200, "Number of variables.", lower_bound=2)
_OPTIMIZER = flags.DEFINE_string("optimizer", "adam", "Name of the optimizer.")
_STEPS = flags.DEFINE_integer("steps", 20, "Number of timed steps.", lower_bound=1)
_ROWS = flags.DEFINE_multi_integer(
    "rows", [50_000, 1_000_000, 5_000_000], "Rows of the table; may be repeated.", lower_bound=1
)
_WIDTH = flags.DEFINE_integer("width", 64, "Columns of the table.", lower_bound=1)
_IDS = flags.DEFINE_integer("ids", 4096, "Rows with a gradient in a step.", lower_bound=1)
_LARGEST = flags.DEFINE_integer(
    "largest_for_keras", 1_000_000, "Tables of more rows are not tried with Keras."
)
_MEGABYTES = flags.DEFINE_integer(
    "megabytes", 100, "Size of the float32 weights of the suite loss_scale.", lower_bound=4
)

MODES = ("eager", "function", "xla")
SUITES = ("dense", "sparse", "loss_scale")
IS_KERAS_2 = keras.__name__.startswith("tf_keras")


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


def make_sparse_step(
    optimizer: Any, mode: str, rows: int, width: int, ids: int
) -> Callable[[], None]:
    """Returns a function that applies slices of one table; ids change from step to step.

    Args:
      optimizer: an optimizer without variables.
      mode: as for `make_step`.
      rows: rows of the table.
      width: its columns.
      ids: rows with a gradient in a step, drawn with repetition.
    """
    table = tf.Variable(tf.zeros([rows, width]))
    optimizer.build([table])
    generator = np.random.default_rng(0)
    batches = [
        tf.IndexedSlices(
            tf.constant(generator.normal(size=(ids, width)), tf.float32),
            tf.constant(generator.integers(0, rows, ids), tf.int32),
            tf.constant([rows, width]),
        )
        for _ in range(5)
    ]

    def apply(gradient: tf.IndexedSlices) -> None:
        optimizer.apply_gradients([(gradient, table)])

    if mode != "eager":
        apply = tf.function(apply, jit_compile=mode == "xla", autograph=False)
    turn = itertools.cycle(batches)

    def step() -> None:
        apply(next(turn))
        table.sparse_read([0]).numpy()  # the step has ended

    return step


def make_scaled_step(
    optimizer: Any, mode: str, megabytes: int, scaled: bool, overflow: bool
) -> Callable[[], None]:
    """Returns a function that applies gradients to matrices of 4 MB each.

    Args:
      optimizer: an optimizer without variables.
      mode: as for `make_step`.
      megabytes: size of all of them.
      scaled: whether the gradients are those of a scaled loss.
      overflow: whether one element is infinite.
    """
    variables = [tf.Variable(tf.ones([1024, 1024])) for _ in range(megabytes // 4)]
    gradients = [tf.fill(variable.shape, 1.0) for variable in variables]
    if overflow:
        gradients[0] = tf.tensor_scatter_nd_update(gradients[0], [[7, 7]], [float("inf")])
    optimizer.build(variables)

    def apply(values: Sequence[tf.Tensor]) -> None:
        if scaled and hasattr(optimizer, "get_unscaled_gradients") and IS_KERAS_2:
            values = optimizer.get_unscaled_gradients(values)
        optimizer.apply_gradients(zip(values, variables))

    if mode != "eager":
        apply = tf.function(apply, jit_compile=mode == "xla", autograph=False)

    def step() -> None:
        apply(gradients)
        variables[-1].numpy()[0, 0]  # the step has ended

    return step


def seconds(step: Callable[[], None]) -> float:
    """Returns the wall time of one call, in seconds."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def compare(
    sides: Mapping[str, Any], make: Callable[[Any], Callable[[], None]], steps: int
) -> dict[str, float]:
    """Times all sides in turn.

    Args:
      sides: optimizers by name.
      make: returns the step of an optimizer.
      steps: number of timed steps.

    Returns:
      Seconds, for each side, of the first step (tracing and compiling included; under
      its name and `_first`) and of a later one (median).
    """
    ready = {side: make(optimizer) for side, optimizer in sides.items()}
    result = {f"{side}_first": seconds(step) for side, step in ready.items()}
    for step in ready.values():
        step()
    times: dict[str, list[float]] = {side: [] for side in ready}
    for _ in range(steps):
        for side, step in ready.items():
            times[side].append(seconds(step))
    return result | {side: statistics.median(values) for side, values in times.items()}


def both(name: str, **arguments: Any) -> dict[str, Any]:
    """Returns our optimizer of a name, with arguments, and Keras' own."""
    cls = type(tko.get(name))
    return {"ours": cls(**arguments), "keras": getattr(keras.optimizers, cls.__name__)()}


def dense(name: str, tensors: int, steps: int) -> None:
    """Prints the table of many small variables."""
    print(f"{name}, {tensors} variables; medians of {steps} steps")
    row = "{:<10}{:>14}{:>14}{:>10}{:>16}{:>16}{:>10}"
    print(
        row.format("", "step, ours", "step, Keras", "ratio", "first, ours", "first, Keras", "")
    )
    firsts = {}
    for mode in MODES:
        make = functools.partial(make_step, mode=mode, tensors=tensors)
        t = compare(both(name), make, steps)
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


def sparse(
    name: str, tables: Sequence[int], width: int, ids: int, largest: int, steps: int
) -> None:
    """Prints the table of embedding tables; the rows of ours are lazy."""
    print(f"{name}, sparse='lazy', {ids} ids, {width} columns; medians of {steps} steps")
    row = "{:<12}{:<10}{:>14}{:>14}{:>10}"
    print(row.format("rows", "", "step, ours", "step, Keras", "ratio"))
    for rows in tables:
        for mode in MODES:
            sides = both(name, sparse="lazy")
            if rows > largest:
                del sides["keras"]
            make = functools.partial(
                make_sparse_step, mode=mode, rows=rows, width=width, ids=ids
            )
            t = compare(sides, make, steps)
            values = ("not tried", "")
            if "keras" in t:
                values = (f"{1e3 * t['keras']:.1f} ms", f"{t['keras'] / t['ours']:.1f}")
            print(
                row.format(f"{rows:,}", mode, f"{1e3 * t['ours']:.2f} ms", *values), flush=True
            )


def loss_scale(name: str, megabytes: int, steps: int) -> None:
    """Prints the cost of loss scaling and of a step that it skips."""
    print(f"{name}, {megabytes} MB of weights; medians of {steps} steps")
    row = "{:<10}{:>12}{:>12}{:>12}{:>10}{:>10}{:>16}{:>16}"
    heads = (
        "plain",
        "scaled",
        "skipped",
        "scaled/",
        "plain/",
        "Keras, scaled",
        "Keras, skipped",
    )
    print(row.format("", *heads))
    print(row.format("", "", "", "", "plain", "skipped", "", ""))
    wrap = keras.optimizers.LossScaleOptimizer if not IS_KERAS_2 else (
        keras.mixed_precision.LossScaleOptimizer
    )  # fmt: skip
    for mode in MODES:
        kinds = {"plain": (False, False), "scaled": (True, False), "skipped": (True, True)}

        def make(kind: tuple[Any, bool, bool], mode: str = mode) -> Callable[[], None]:
            optimizer, scaled, overflow = kind
            return make_scaled_step(optimizer, mode, megabytes, scaled, overflow)

        sides: dict[str, Any] = {}
        for kind, (scaled, overflow) in kinds.items():
            pair = both(name)
            if scaled:
                pair = {
                    "ours": tko.LossScaleOptimizer(pair["ours"]),
                    "keras": wrap(pair["keras"]),
                }
                sides[f"keras {kind}"] = (pair["keras"], scaled, overflow)
            sides[kind] = (pair["ours"], scaled, overflow)
        t = compare(sides, make, steps)
        print(
            row.format(
                mode,
                *(f"{1e3 * t[kind]:.1f} ms" for kind in kinds),
                f"{t['scaled'] / t['plain']:.2f}",
                f"{t['plain'] / t['skipped']:.2f}",
                f"{1e3 * t['keras scaled']:.1f} ms",
                f"{1e3 * t['keras skipped']:.1f} ms",
            ),
            flush=True,
        )


def main(argv: Sequence[str]) -> None:
    """Reads the flags, runs a suite in every mode and prints a table."""
    suite = argv[1] if len(argv) > 1 else "dense"
    if len(argv) > 2 or suite not in SUITES:
        raise app.UsageError(f"Expected one of {SUITES}. Received: {' '.join(argv[1:])}.")
    print(f"TensorFlow {tf.__version__}, {keras.__name__} {keras.__version__}, CPU")
    name, steps = _OPTIMIZER.value, _STEPS.value
    if suite == "dense":
        dense(name, _TENSORS.value, steps)
    elif suite == "loss_scale":
        loss_scale(name, _MEGABYTES.value, steps)
    else:
        sparse(name, _ROWS.value, _WIDTH.value, _IDS.value, _LARGEST.value, steps)


if __name__ == "__main__":
    app.run(main)
