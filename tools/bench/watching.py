"""Suite watching: what OptimizerMonitor costs in `fit` of the demo's model."""

import gc
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

import tf_keras_optim as tko
from tools import task
from tools.bench.fit import Clock
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison, Figures
from tools.bench.settings import Settings
from tools.bench.tf_sides import make_optimizer
from tools.bench.timing import STEP, Turn, take_turns
from tools.config import Config, load

WATCHED = "ours, watched"
_CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "digits_adam.yaml"
_STEPS = 40  # of one turn

# For each mode, what `compile` gets.
_CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "eager": [],
    "function": [("default compile", {}), ("jit_compile=False", {"jit_compile": False})],
    "xla": [("jit_compile=True", {"jit_compile": True})],
}


def watching(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times `fit` with and without the monitor."""
    config = load(str(_CONFIG))
    cases = [case for mode in settings.modes for case in _CASES[mode]]
    for name in settings.optimizers:
        for compiled, arguments in cases:
            turns = {
                OURS: _turn(config, name, arguments, watched=False),
                WATCHED: _turn(config, name, arguments, watched=True),
            }
            first, parts = take_turns(turns, max(2, -(-settings.steps // _STEPS)))
            figures = parts[STEP]
            yield Comparison(
                suite="watching",
                case=f"digits, batch {config.data['batch_size']}, {name}, {compiled}",
                figures=figures,
                context=(WATCHED,),
                first=first,
                note=_told(cost(figures[OURS], figures[WATCHED], _STEPS)),
            )
            del turns
            tf.keras.backend.clear_session()
            gc.collect()


def cost(plain: Figures, watched: Figures, steps: int) -> Figures:
    """Compares neighbours in time, so that a machine that slows down does not count.

    Args:
      plain: seconds of steps without the monitor, round by round.
      watched: those with it, of the same rounds.
      steps: steps of one round.

    Returns:
      What the monitor adds to the median step of each round, as a share of that step.
    """
    rounds = range(0, len(plain.values), steps)
    before, after = (
        [statistics.median(side.values[n : n + steps]) for n in rounds]
        for side in (plain, watched)
    )
    return Figures(tuple(a / b - 1.0 for a, b in zip(after, before)))


def _told(shares: Figures) -> str:
    low, high = (100.0 * share for share in shares.quartiles)
    return (
        f"OptimizerMonitor adds {100.0 * shares.median:.1f} % to a step "
        f"(quartiles of {len(shares.values)} rounds: {low:.1f} to {high:.1f} %)"
    )


def _turn(config: Config, name: str, arguments: dict[str, Any], *, watched: bool) -> Turn:
    tf.keras.utils.set_random_seed(config.data["seed"])
    model, data = task.build_model(config), task.load_data(config)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(OURS, name), loss=loss, **arguments)
    size = config.data["batch_size"]
    images, labels = (values[: _STEPS * size] for values in (data.x, data.y))
    monitor = [tko.callbacks.OptimizerMonitor()] if watched else []

    def turn() -> dict[str, list[float]]:
        clock = Clock()  # after the monitor, so that it measures that too
        callbacks = [*monitor, clock]
        model.fit(images, labels, batch_size=size, verbose=0, callbacks=callbacks)
        return {STEP: clock.seconds}

    return turn
