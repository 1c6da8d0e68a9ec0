"""Suite versions: this checkout beside another one, each in processes of its own."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tools.bench import shapes
from tools.bench.peers import Peers, measured_in_turn
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.timing import STEP, Turn, take_turns
from tools.bench.workers import ROOT, Worker

BEFORE = "before"
AGAIN = "before, again"  # another process of the same checkout: how far two alike differ


def versions(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times steps of both checkouts; below 1 in the column "ratio" this one is slower."""
    assert settings.before
    sides = {OURS: str(ROOT), BEFORE: settings.before, AGAIN: settings.before}
    with contextlib.ExitStack() as stack:
        workers = {
            side: stack.enter_context(_worker(path, "step", settings))
            for side, path in sides.items()
        }
        for case, request in _cases(settings):
            for worker in workers.values():
                worker.ask(do="make", **request)
            turns = {side: _turn(worker) for side, worker in workers.items()}
            first, parts = take_turns(turns, settings.steps)
            for worker in workers.values():
                worker.ask(do="drop")
            yield _comparison(case, parts[STEP], first=first)
    with contextlib.ExitStack() as stack:
        workers = {
            side: stack.enter_context(_worker(path, "fresh", settings))
            for side, path in sides.items()
        }
        yield from _first_steps(workers, settings)


def _worker(path: str, kind: str, settings: Settings) -> contextlib.closing[Worker]:
    arguments = ("tools.bench.version_worker", settings.threads, path, kind)
    return contextlib.closing(Worker(sys.executable, *arguments))


def _turn(worker: Worker) -> Turn:
    def turn() -> Mapping[str, list[float]]:
        return {STEP: [worker.ask(do="step")["seconds"]]}

    return turn


def _comparison(case: str, figures: Mapping[str, Any], **more: Any) -> Comparison:
    return Comparison("versions", case, figures, context=[AGAIN], **more)


def _cases(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what is measured, and the request for it."""
    matrices = shapes.matrices(settings.megabytes)
    for name in settings.optimizers:
        for mode in settings.modes:
            both = {"optimizer": name, "mode": mode}
            for model in settings.models:
                sizes = shapes.of_model(model, settings.tensors)
                yield f"{model}, {name}, {mode}", {"suite": "dense", "sizes": sizes, **both}
            yield (
                f"{settings.megabytes} MB, all options on, {name}, {mode}",
                {"suite": "options", "sizes": matrices, **both},
            )
            for rows in settings.rows:
                table = {"rows": rows, "width": settings.width, "ids": settings.ids}
                case = f"table of {rows:,} rows, {name}, {mode}"
                yield case, {"suite": "sparse", **table, **both}


def _first_steps(workers: Mapping[str, Worker], settings: Settings) -> Iterator[Comparison]:
    for name in settings.optimizers:
        for tensors in settings.first_step_tensors:
            for mode in settings.modes:
                request = {"side": OURS, "optimizer": name, "mode": mode, "tensors": tensors}
                asked = {
                    side: (worker, {"do": "first_step", **request})
                    for side, worker in workers.items()
                }
                found = measured_in_turn(asked, settings.repeats)
                for part, figures in found.items():
                    yield _comparison(f"{tensors} tensors, {name}, {mode}, {part}", figures)
