"""Which of the two runs has which tests: the one place where that is decided.

`tools/run_tests` runs the tests twice, side by side, under Keras 3 and under Keras 2. What the
Keras can influence runs in both: models, `fit`, files, Keras' variables, classes and strings.

What the engine computes is one text that imports no Keras. A test of that is marked
`one_keras`, and its cases are dealt out: each runs in one of the two, in turn. So every case
runs, and each Keras has every second one of a matrix, with every value of each parameter where
there are two. So are large matrices over `fit` and files, of which each Keras needs some cases.
Where fixtures cost much, one of the two has all: `one_keras(2)` or `one_keras(3)`.

What runs in both needs XLA's kernels in one of them: most of the time of a test that makes an
optimizer is their compilation. In files marked `xla_in_one_keras`, the tests that run in both
have kernels of XLA under Keras 3, and under Keras 2 what `jit_compile="auto"` takes in a
TensorFlow that was built without XLA. What asks for XLA (`jit_compile=True`) has it in both.

Only `tools/run_tests` asks for it, as it runs both. Else everything runs.
"""

import os
import re
import zlib

import pytest

ASKED_BY = "TKO_DEAL_OUT"  # an environment variable
MARK = "one_keras"
DESCRIPTION = f"{MARK}(keras): its cases are dealt out; each runs under one Keras only"
XLA_MARK = "xla_in_one_keras"
XLA_DESCRIPTION = f'{XLA_MARK}: under Keras 2 jit_compile="auto" goes without XLA'


def is_asked_for() -> bool:
    """Whether another process runs what is left out here."""
    return os.environ.get(ASKED_BY) == "1"


def has_xla(item: pytest.Item, keras: int) -> bool:
    """Whether `jit_compile="auto"` may take XLA in a test.

    Args:
      item: the test.
      keras: 2 or 3.
    """
    is_in_both = item.get_closest_marker(MARK) is None
    may_do_without = is_in_both and item.get_closest_marker(XLA_MARK) is not None
    return keras == 3 or not (may_do_without and is_asked_for())


def turn_of(place: int) -> int:
    """0 or 1, in turn, but not along with a parameter of two values."""
    return place.bit_count() % 2


def deal(items: list[pytest.Item], keras: int) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Divides tests into those of one Keras' run and the others.

    Args:
      items: the tests, in order.
      keras: 2 or 3.

    Returns:
      here: what this run has.
      there: what the other one has.
    """
    here, there = [], []
    places: dict[str, int] = {}
    for item in items:
        mark = item.get_closest_marker(MARK)
        owner = keras
        if mark is not None and mark.args:
            owner = mark.args[0]
        elif mark is not None:
            function = re.sub(r"\[.*", "", item.nodeid, flags=re.S)
            place = places[function] = places.get(function, -1) + 1
            owner = 2 + (turn_of(place) + zlib.crc32(function.encode())) % 2
        (here if owner == keras else there).append(item)
    return here, there
