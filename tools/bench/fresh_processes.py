"""Sides that are measured in fresh processes, one at a time and in turn."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tools.bench.results import Figures
from tools.bench.workers import Worker


def measure_in_turn(
    requests: Mapping[str, Mapping[str, Any]], repeats: int, threads: int
) -> dict[str, dict[str, Figures]]:
    """Measures each side in a process of its own, `repeats` times, taking turns.

    Args:
      requests: by side, what `fresh_worker` is asked for.
      repeats: number of processes for each side.
      threads: threads of each process.

    Returns:
      The figures by what was measured and by side.
    """
    taken: dict[str, dict[str, list[float]]] = {}
    worker = Worker(sys.executable, "tools.bench.fresh_worker", threads)
    for _ in range(repeats):
        for side, request in requests.items():
            for part, value in worker.ask(**request).items():
                taken.setdefault(part, {}).setdefault(side, []).append(value)
    worker.close()
    return {
        part: {side: Figures(tuple(values)) for side, values in sides.items()}
        for part, sides in taken.items()
    }


def only(figures: Mapping[str, Figures], names: Mapping[str, str]) -> dict[str, Figures]:
    """Returns some of the figures under other names: `{new: old}`."""
    return {new: figures[old] for new, old in names.items()}


def note(sides: Sequence[str], repeats: int) -> str:
    """Returns how the sides were run, for a comparison's note."""
    return f"{repeats} fresh processes for each of, in turn: {'; '.join(sides)}"
