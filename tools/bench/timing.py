"""Sides take turns: A B C C B A, after each has been warmed up."""

import time
from collections.abc import Callable, Mapping, Sequence

from tools.bench.results import Figures

# Runs one turn and returns the seconds of its parts. Most turns have the one part STEP.
Turn = Callable[[], Mapping[str, list[float]]]
STEP = "step"


def timed(call: Callable[[], None]) -> Turn:
    """Returns a turn that measures one call."""

    def turn() -> dict[str, list[float]]:
        began = time.perf_counter()
        call()
        return {STEP: [time.perf_counter() - began]}

    return turn


def take_turns(
    turns: Mapping[str, Turn], rounds: int, warmup: int = 2
) -> tuple[dict[str, float], dict[str, dict[str, Figures]]]:
    """Lets every side take one turn after the other, again and again.

    Every second round goes backwards, so that no side always follows the same one.

    Args:
      turns: by side.
      rounds: how many times each side's turn counts, at least 1.
      warmup: turns of each side before that; the first traces and compiles.

    Returns:
      The seconds of each side's very first turn, and the figures by part and side.
    """
    first: dict[str, float] = {}
    for _ in range(warmup):
        for side, turn in turns.items():
            parts = turn()
            first.setdefault(side, sum(sum(seconds) for seconds in parts.values()))
    taken: dict[str, dict[str, list[float]]] = {}
    sides = list(turns)
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            for part, seconds in turns[side]().items():
                taken.setdefault(part, {}).setdefault(side, []).extend(seconds)
    return first, as_figures(taken)


def as_figures(
    taken: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, dict[str, Figures]]:
    """Returns the figures of the values of each part and side."""
    return {
        part: {side: Figures(tuple(values)) for side, values in sides.items()}
        for part, sides in taken.items()
    }
