"""Suite loss_scale: what scaling costs, and a step that it skips."""

import gc
from collections.abc import Iterator

import tensorflow as tf

from tools.bench import shapes
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import (
    RUNNING,
    dense_step,
    fresh,
    keras_sides,
    make_optimizer,
    scaled,
)
from tools.bench.timing import STEP, take_turns, timed

PLAIN = "ours, without scale"


def loss_scale(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times scaled steps and skipped ones beside a plain step and the running Keras."""
    sizes = shapes.matrices(settings.megabytes)
    values = shapes.weights(sizes)
    finite = [tf.constant(array) for array in shapes.gradients(sizes)]
    infinite = [
        tf.tensor_scatter_nd_update(finite[0], [[7, 7]], [float("inf")]),
        *finite[1:],
    ]
    kinds = {"scaled": finite, "skipped": infinite}
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        titles = [OURS, *(side for side in present if side == RUNNING)]
        for mode in settings.modes:
            turns = {
                PLAIN: timed(
                    dense_step(make_optimizer(OURS, name), fresh(values), finite, mode)
                )
            }
            for kind, gradients in kinds.items():
                for side in titles:
                    optimizer = scaled(side, make_optimizer(side, name))
                    step = dense_step(optimizer, fresh(values), gradients, mode, unscale=True)
                    turns[f"{side}, {kind}"] = timed(step)
            _, parts = take_turns(turns, settings.steps)
            figures = parts[STEP]
            for kind in kinds:
                yield Comparison(
                    suite="loss_scale",
                    case=f"{settings.megabytes} MB, {name}, {mode}, {kind}",
                    figures={PLAIN: figures[PLAIN]}
                    | {side: figures[f"{side}, {kind}"] for side in titles},
                    context=(PLAIN,),
                    absent={side: why for side, why in absent.items() if side == RUNNING},
                    note=f"In turn: {'; '.join(turns)}",
                )
            del turns
            gc.collect()
