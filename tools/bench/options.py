"""Suites options and accumulation: what the options of every optimizer cost."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tools.bench import shapes
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import (
    KERAS_3,
    RUNNING,
    dense_step,
    fresh,
    keras_sides,
    make_optimizer,
    scaled,
)
from tools.bench.timing import STEP, Turn, take_turns, timed

ALL_ON: dict[str, Any] = {"global_clipnorm": 1.0, "weight_decay": 0.004, "use_ema": True}
MICRO_STEPS = 4


def options(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times a step with clip, decay, average and loss scale beside ones without."""
    sizes = shapes.matrices(settings.megabytes)
    values = shapes.weights(sizes)
    gradients = [tf.constant(array) for array in shapes.gradients(sizes)]
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        libraries = [OURS, *(side for side in present if side == RUNNING)]
        for mode in settings.modes:
            turns: dict[str, Turn] = {}
            for side in libraries:
                full = scaled(side, make_optimizer(side, name, **ALL_ON))
                turns[side] = timed(
                    dense_step(full, fresh(values), gradients, mode, unscale=True)
                )
                plain = make_optimizer(side, name)
                turns[f"{side}, plain"] = timed(
                    dense_step(plain, fresh(values), gradients, mode)
                )
            for dtype in _narrow(name):
                narrow = make_optimizer(OURS, name, slot_dtype=dtype)
                turns[f"{OURS}, plain, {dtype} slots"] = timed(
                    dense_step(narrow, fresh(values), gradients, mode)
                )
            _, parts = take_turns(turns, settings.steps)
            yield Comparison(
                suite="options",
                case=(
                    f"{settings.megabytes} MB, {name}, {mode}, global_clipnorm + weight_decay "
                    "+ use_ema + loss scale"
                ),
                figures=parts[STEP],
                context=[side for side in turns if side not in libraries],
                absent={side: why for side, why in absent.items() if side == RUNNING},
                note=f"In turn: {'; '.join(turns)}",
            )
            del turns
            gc.collect()


def _narrow(name: str) -> list[str]:
    """Returns the narrow dtypes that the slots of an optimizer can have."""
    # Here: a checkout from before, of which other options are timed, need not have it.
    from tf_keras_optim.engine.variable_hooks import of_shape, slots_for

    declared = slots_for(make_optimizer(OURS, name), of_shape((64, 64)))
    bears = any(slot.eight_bit for slot in declared)
    return [*(["bfloat16"] if declared else []), *(["int8"] if bears else [])]


def accumulation(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times steps that only accumulate, and those that update; Keras 2 has neither."""
    sizes = shapes.matrices(settings.megabytes)
    values = shapes.weights(sizes)
    gradients = [tf.constant(array) for array in shapes.gradients(sizes)]
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        libraries = [OURS, *(side for side in present if side == KERAS_3)]
        for mode in settings.modes:
            turns = {
                side: _cycle(
                    dense_step(
                        make_optimizer(side, name, gradient_accumulation_steps=MICRO_STEPS),
                        fresh(values),
                        gradients,
                        mode,
                    )
                )
                for side in libraries
            }
            _, parts = take_turns(turns, settings.steps)
            for part, figures in parts.items():
                yield Comparison(
                    suite="accumulation",
                    case=f"{settings.megabytes} MB, {name}, {mode}, {part} of {MICRO_STEPS}",
                    figures=figures,
                    absent={side: why for side, why in absent.items() if side == KERAS_3},
                    note=f"In turn, {MICRO_STEPS} calls each: {'; '.join(turns)}",
                )
            del turns
            gc.collect()


def _cycle(step: Callable[[], None]) -> Turn:
    """Returns a turn of as many calls as one update takes."""

    def turn() -> dict[str, list[float]]:
        seconds = []
        for _ in range(MICRO_STEPS):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        return {"micro-step": seconds[:-1], "update": seconds[-1:]}

    return turn
