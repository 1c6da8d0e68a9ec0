"""Suite memory: the peak of a step, and what slots take for each parameter."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tools.bench import machine, shapes
from tools.bench.peers import Peers
from tools.bench.raw_ops import OPTIMIZERS, RAW_OPS
from tools.bench.results import OURS, Comparison, Figures, amount
from tools.bench.settings import OPTIMIZERS as KNOWN
from tools.bench.settings import Settings
from tools.bench.tf_sides import RUNNING, build, fresh, keras_sides, make_optimizer

NARROW = "ours, bfloat16 slots"
_SHAPE = (512, 512)


def memory(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Measures resident memory during a step, then counts the bytes of all slots."""
    sizes = shapes.matrices(settings.memory_megabytes)
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        sides = [OURS, *present, *([RAW_OPS] if name in OPTIMIZERS else [])]
        for mode in settings.modes:
            requests = {
                side: {
                    "do": "memory",
                    "side": side,
                    "optimizer": name,
                    "mode": mode,
                    "megabytes": settings.memory_megabytes,
                }
                for side in sides
            }
            parts = peers.measure_fresh(requests, settings.repeats)
            held = machine.held_bytes(name, shapes.parameters(sizes))
            for part, what in (("peak", "peak"), ("step", "what a step adds")):
                yield Comparison(
                    suite="memory",
                    case=f"{settings.memory_megabytes} MB of weights, {name}, {mode}, {what}",
                    figures=parts[part],
                    unit="B",
                    absent=absent,
                    note=(
                        f"Weights, gradients and slots are {amount(held, 'B')}; the peak also "
                        "has what making them and tracing has left; fresh processes, "
                        f"{settings.repeats} for each of, in turn: {'; '.join(sides)}"
                    ),
                )
    for name in KNOWN:
        yield slots(name)


def slots(name: str) -> Comparison:
    """Counts the bytes of an optimizer's slots for each parameter of a matrix."""
    figures = {OURS: Figures((bytes_a_parameter(make_optimizer(OURS, name)),))}
    narrow = make_optimizer(OURS, name, slot_dtype="bfloat16")
    figures[NARROW] = Figures((bytes_a_parameter(narrow),))
    present, absent = keras_sides(name)
    if RUNNING in present:
        figures[RUNNING] = Figures((bytes_a_parameter(make_optimizer(RUNNING, name)),))
    return Comparison(
        suite="memory",
        case=f"bytes of slots a float32 parameter, {name}, a {_SHAPE[0]}x{_SHAPE[1]} matrix",
        figures=figures,
        unit="",
        context=(NARROW,),
        absent={side: why for side, why in absent.items() if side == RUNNING},
    )


def bytes_a_parameter(optimizer: Any) -> float:
    """Returns the bytes of everything but scalars that an optimizer keeps."""
    build(optimizer, fresh([np.zeros(_SHAPE, np.float32)]))
    kept = [v for v in optimizer.variables if len(v.shape) > 0]
    total = sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in kept)
    return total / math.prod(_SHAPE)
