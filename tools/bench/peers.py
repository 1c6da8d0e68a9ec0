"""Other processes of a run: torch, optax, and one that forks for each measurement."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tools.bench.results import Figures
from tools.bench.shapes import Shape
from tools.bench.timing import STEP, Turn, as_figures
from tools.bench.workers import Worker

_FRESH = "fresh"
_TORCH = ("adam", "adamw", "rmsprop", "nadam", "sgd")
_ALL = ("adam", "adamw", "rmsprop", "nadam", "lamb", "lion", "sgd")

# By side: library, what the worker calls it, modes it belongs to, its optimizers.
SIDES: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "torch, foreach=False": ("torch", "loop", ("eager",), _TORCH),
    "torch, foreach=True": ("torch", "foreach", ("eager",), _TORCH),
    "torch, fused=True": ("torch", "fused", ("eager",), ("adam", "adamw", "sgd")),
    "optax, jitted": ("optax", "optax", ("xla",), _ALL),
}


def measured_in_turn(
    requests: Mapping[str, tuple[Worker, Mapping[str, Any]]], repeats: int
) -> dict[str, dict[str, Figures]]:
    """Asks each side's process in turn, again and again.

    Args:
      requests: by side, the process and what it is asked for.
      repeats: how many times each is asked.

    Returns:
      The figures by what was measured and by side.
    """
    taken: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for side, (worker, request) in requests.items():
            for part, value in worker.ask(**request).items():
                taken.setdefault(part, {}).setdefault(side, []).append(value)
    return as_figures(taken)


class Peers:
    """The processes of a run, each started when first needed.

    Those of torch and optax are asked for one step at a time.

    Attributes:
      versions: of the libraries that were found.
    """

    def __init__(self, python: str, threads: int):
        self._python, self._threads = python, threads
        self._workers: dict[str, Worker | None] = {}
        self.versions: dict[str, str] = {}

    def __enter__(self) -> "Peers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers.values():
            if worker is not None:
                worker.close()

    def sides(self, name: str, mode: str) -> tuple[list[str], dict[str, str]]:
        """Returns the sides that take part, and why others do not.

        Args:
          name: name of the optimizer in lower case.
          mode: torch is called eagerly, optax is compiled by XLA; both are compared
            with what is called likewise.
        """
        sides, absent = [], {}
        for side, (library, _, modes, optimizers) in SIDES.items():
            if mode not in modes:
                continue
            if name not in optimizers:
                absent[side] = f"has no {name}"
            elif self._worker(library) is None:
                absent[side] = f"not installed in {self._python} (see --peers_python)"
            else:
                sides.append(side)
        return sides, absent

    def measure_fresh(
        self, requests: Mapping[str, Mapping[str, Any]], repeats: int
    ) -> dict[str, dict[str, Figures]]:
        """Measures each side in a process of its own, `repeats` times, taking turns.

        Args:
          requests: by side, what `fresh_worker` is asked for.
          repeats: number of processes for each side.

        Returns:
          The figures by what was measured and by side.
        """
        if _FRESH not in self._workers:
            worker = Worker(sys.executable, "tools.bench.fresh_worker", self._threads)
            self._workers[_FRESH] = worker
        forking = self._workers[_FRESH]
        assert forking is not None
        return measured_in_turn({s: (forking, r) for s, r in requests.items()}, repeats)

    def turn(self, side: str, name: str, shapes: Sequence[Shape]) -> Turn:
        """Makes a side in its process and returns its turn; the seconds are measured there."""
        library, called, _, _ = SIDES[side]
        worker = self._worker(library)
        assert worker is not None
        worker.ask(do="make", side=called, optimizer=name, shapes=list(shapes))

        def step() -> Mapping[str, list[float]]:
            return {STEP: [worker.ask(do="step", side=called)["seconds"]]}

        return step

    def drop(self) -> None:
        """Frees what the sides hold."""
        for library, worker in self._workers.items():
            if worker is not None and library != _FRESH:
                worker.ask(do="drop")

    def _worker(self, library: str) -> Worker | None:
        if library not in self._workers:
            worker = Worker(self._python, "tools.bench.peer_worker", self._threads, library)
            found: Any = worker.ask(do="versions", threads=self._threads)["versions"]
            if found is None:
                worker.close()
                self._workers[library] = None
            else:
                self.versions |= found
                self._workers[library] = worker
        return self._workers[library]
