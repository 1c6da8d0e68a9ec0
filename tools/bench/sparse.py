"""Suite sparse: an embedding table of which a step names some rows."""

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import (
    build,
    class_name,
    in_mode,
    keras_sides,
    make_optimizer,
    wait_for,
)
from tools.bench.timing import STEP, take_turns, timed

_BATCHES = 5


def sparse(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times steps of tables; ours moves the named rows alone where the optimizer can."""
    for name in settings.optimizers:
        policy = policy_of(name)
        for rows in settings.rows:
            for mode in settings.modes:
                present, absent = keras_sides(name)
                if rows > settings.largest_for_keras:
                    absent |= dict.fromkeys(present, "not tried (see --largest_for_keras)")
                    present = []
                turns = {}
                for side in (OURS, *present):
                    options = {"sparse": policy} if side == OURS else {}
                    optimizer = make_optimizer(side, name, **options)
                    step = sparse_step(optimizer, mode, rows, settings.width, settings.ids)
                    turns[side] = timed(step)
                first, parts = take_turns(turns, settings.steps)
                yield Comparison(
                    suite="sparse",
                    case=(
                        f"{rows:,} rows of {settings.width}, {settings.ids} ids, {name}, "
                        f"ours sparse={policy!r}, {mode}"
                    ),
                    figures=parts[STEP],
                    absent=absent,
                    first=first,
                    note=f"In turn: {'; '.join(turns)}",
                )
                del turns, optimizer, step
                gc.collect()


def policy_of(name: str) -> str:
    """Returns "lazy" where the optimizer can move the named rows alone, else "exact"."""
    return "lazy" if getattr(tko, class_name(name)).elementwise else "exact"


def sparse_step(
    optimizer: Any, mode: str, rows: int, width: int, ids: int
) -> Callable[[], None]:
    """Returns a function that applies slices of one table; ids change from step to step.

    Args:
      optimizer: an optimizer without variables.
      mode: "eager", "function" or "xla".
      rows: rows of the table.
      width: its columns.
      ids: rows with a gradient in a step, drawn with repetition.
    """
    table = tf.Variable(tf.zeros([rows, width]))
    build(optimizer, [table])
    generator = np.random.default_rng(0)
    batches = [
        tf.IndexedSlices(
            tf.constant(generator.normal(size=(ids, width)), tf.float32),
            tf.constant(generator.integers(0, rows, ids), tf.int32),
            tf.constant([rows, width]),
        )
        for _ in range(_BATCHES)
    ]

    def apply(gradient: tf.IndexedSlices) -> None:
        optimizer.apply_gradients([(gradient, table)])

    call = in_mode(apply, mode)
    turn = itertools.cycle(batches)

    def step() -> None:
        call(next(turn))
        wait_for(table)

    return step
