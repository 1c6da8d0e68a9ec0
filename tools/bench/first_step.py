"""Suite first_step: what tracing and compiling cost."""

from collections.abc import Iterator

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
            parts = peers.measure_fresh(requests, settings.repeats)
            how = f"{settings.repeats} fresh processes for each of: {'; '.join(requests)}"
            missing = {side: why for side, why in absent.items() if side == RUNNING}
            case = f"{tensors} tensors, {name}"
            for mode in settings.modes:
                for part, figures in parts.items():
                    yield Comparison(
                        suite="first_step",
                        case=f"{case}, {mode}, {part}",
                        figures={side: figures[f"{side}, {mode}"] for side in titles},
                        absent=missing,
                        note=how,
                    )
            if {"eager", "xla"} <= set(settings.modes) and RUNNING in titles:
                steps = parts["first step"]
                yield Comparison(
                    suite="first_step",
                    case=f"{case}, first step, ours eager beside {RUNNING} under XLA",
                    figures={OURS: steps[f"{OURS}, eager"], RUNNING: steps[f"{RUNNING}, xla"]},
                    note=how,
                )
