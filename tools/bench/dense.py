"""Suite dense: every variable has a dense gradient."""

import functools
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tools.bench import machine, shapes
from tools.bench.peers import Peers
from tools.bench.raw_ops import OPTIMIZERS, RAW_OPS, raw_step
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import dense_step, fresh, keras_sides, make_optimizer
from tools.bench.timing import STEP, Turn, take_turns, timed

Make = Callable[[], Turn]

# Smaller steps run in the caches, where the memory's speed says nothing.
_LEAST_FOR_FLOOR = 100_000_000


def dense(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times steps of whole models, in every mode, beside everyone who is there."""
    for model in settings.models:
        sizes = shapes.of_model(model, settings.tensors)
        number = shapes.parameters(sizes)
        values = shapes.weights(sizes)
        gradients = [tf.constant(array) for array in shapes.gradients(sizes)]
        for name in settings.optimizers:
            floor = None
            moved = machine.moved_bytes(name, number)
            if moved >= _LEAST_FOR_FLOOR:
                floor = moved / machine.bandwidth(settings.threads)
            for mode in settings.modes:
                sides, absent = _sides(name, mode, sizes, values, gradients, peers)
                cost = machine.held_bytes(name, number)
                groups = grouped(list(sides), cost, settings.gigabytes)
                title = f"{model} ({len(sizes)} tensors, {number:,} parameters), {name}, {mode}"
                for index, group in enumerate(groups):
                    made = {side: sides[side]() for side in group}
                    first, figures = take_turns(made, settings.steps)
                    del made
                    peers.drop()
                    gc.collect()
                    yield Comparison(
                        suite="dense",
                        case=title,
                        figures=figures[STEP],
                        absent=absent if index == 0 else {},
                        first=first,
                        floor=floor,
                        note=f"Group {index + 1} of {len(groups)}; in turn: {'; '.join(group)}",
                    )


def grouped(sides: Sequence[str], cost: float, gigabytes: float) -> list[list[str]]:
    """Splits sides into groups that fit into memory; ours is in each, so ratios are fair.

    Args:
      sides: ours first.
      cost: bytes that a side holds.
      gigabytes: what all sides of a group may hold; ours and one other always run.
    """
    ours, *others = sides
    room = max(1, int(gigabytes * 1e9 // cost) - 1)
    starts = range(0, len(others), room) if others else [0]
    return [[ours, *others[start : start + room]] for start in starts]


def _sides(
    name: str,
    mode: str,
    sizes: Sequence[shapes.Shape],
    values: Sequence[np.ndarray],
    gradients: Sequence[tf.Tensor],
    peers: Peers,
) -> tuple[Mapping[str, Make], dict[str, str]]:
    def keras_turn(side: str) -> Turn:
        return timed(dense_step(make_optimizer(side, name), fresh(values), gradients, mode))

    present, absent = keras_sides(name)
    sides: dict[str, Make] = {
        side: functools.partial(keras_turn, side) for side in (OURS, *present)
    }
    if name in OPTIMIZERS:
        sides[RAW_OPS] = lambda: timed(raw_step(name, fresh(values), gradients, mode))
    else:
        absent[RAW_OPS] = f"has no {name}"
    others, missing = peers.sides(name, mode)
    sides |= {side: functools.partial(peers.turn, side, name, sizes) for side in others}
    return sides, absent | missing
