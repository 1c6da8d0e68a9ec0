"""Suite first_step: what tracing and compiling cost."""

from collections.abc import Iterator

from tools.bench.fresh_processes import measure_in_turn, note, only
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import RUNNING, keras_sides


def first_step(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times the first step beside the running Keras', each in a fresh process."""
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        titles = [OURS, *(side for side in present if side == RUNNING)]
        for tensors in settings.first_step_tensors:
            requests = {
                f"{side}, {mode}": {
                    "do": "first_step",
                    "side": side,
                    "optimizer": name,
                    "mode": mode,
                    "tensors": tensors,
                }
                for mode in settings.modes
                for side in titles
            }
            parts = measure_in_turn(requests, settings.repeats, settings.threads)
            how = note(list(requests), settings.repeats)
            missing = {side: why for side, why in absent.items() if side == RUNNING}
            case = f"{tensors} tensors, {name}"
            for mode in settings.modes:
                for part, figures in parts.items():
                    yield Comparison(
                        suite="first_step",
                        case=f"{case}, {mode}, {part}",
                        figures=only(figures, {side: f"{side}, {mode}" for side in titles}),
                        absent=missing,
                        note=how,
                    )
            if {"eager", "xla"} <= set(settings.modes) and RUNNING in titles:
                names = {OURS: f"{OURS}, eager", RUNNING: f"{RUNNING}, xla"}
                yield Comparison(
                    suite="first_step",
                    case=f"{case}, first step, ours eager beside {RUNNING} under XLA",
                    figures=only(parts["first step"], names),
                )
