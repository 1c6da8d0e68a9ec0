"""Suite fit: steps of `model.fit`, forward and backward passes included."""

import gc
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tools.bench import shapes
from tools.bench.peers import Peers
from tools.bench.replicas import strategy_of
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import RUNNING, keras_sides, make_optimizer
from tools.bench.timing import STEP, Turn, take_turns

_INPUTS, _CLASSES, _BATCH, _STEPS = 784, 10, 128, 10

# For each mode, what `compile` gets and with how many replicas: under two, an outer
# `jit_compile=True` fails in Keras 3 with every optimizer.
_CASES: dict[str, list[tuple[str, dict[str, Any], int]]] = {
    "eager": [],
    "function": [
        ("default compile", {}, 1),
        ("default compile", {}, 2),
        ("jit_compile=False", {"jit_compile": False}, 1),
        ("jit_compile=False", {"jit_compile": False}, 2),
    ],
    "xla": [("jit_compile=True", {"jit_compile": True}, 1)],
}


class Clock(tf.keras.callbacks.Callback):
    """Measures the steps of a call of `fit`.

    Attributes:
      seconds: of each step: taking the batch, both passes, and the update.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stops the clock."""
        self.seconds.append(time.perf_counter() - self._began)


def fit(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times `fit` with our optimizer and with the running Keras' own."""
    cases = [case for mode in settings.modes for case in _CASES[mode]]
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        sides = [OURS, *(side for side in present if side == RUNNING)]
        for compiled, arguments, replicas in cases:
            turns = {
                side: _turn(side, name, settings.fit_width, arguments, replicas)
                for side in sides
            }
            first, parts = take_turns(turns, -(-settings.steps // _STEPS))
            yield Comparison(
                suite="fit",
                case=(
                    f"{_INPUTS}-{settings.fit_width}-{settings.fit_width}-{_CLASSES}, "
                    f"batch {_BATCH}, {name}, {compiled}, {replicas} replica"
                    f"{'s' * (replicas > 1)}"
                ),
                figures=parts[STEP],
                absent={side: why for side, why in absent.items() if side == RUNNING},
                first=first,
                note=f"In turn, {_STEPS} steps each: {'; '.join(turns)}",
            )
            del turns
            tf.keras.backend.clear_session()
            gc.collect()


def _turn(side: str, name: str, width: int, compiled: dict[str, Any], replicas: int) -> Turn:
    with strategy_of(replicas).scope():
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Input((_INPUTS,)),
                tf.keras.layers.Dense(width, activation="relu"),
                tf.keras.layers.Dense(width, activation="relu"),
                tf.keras.layers.Dense(_CLASSES),
            ]
        )
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(make_optimizer(side, name), loss=loss, **compiled)
    model.set_weights(shapes.weights([weight.shape for weight in model.get_weights()]))
    images = shapes.normals((_STEPS * _BATCH, _INPUTS), 1.0, 0)
    labels = images[:, :_CLASSES].argmax(axis=1)

    def turn() -> dict[str, list[float]]:
        clock = Clock()
        model.fit(images, labels, batch_size=_BATCH, verbose=0, callbacks=[clock])
        return {STEP: clock.seconds}

    return turn
