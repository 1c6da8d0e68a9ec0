"""Steps of one checkout of this package, one at a time, for the process that asks.

    python -m tools.bench.version_worker CHECKOUT fresh|step

`fresh` measures first steps, each in a process of its own; `step` keeps what it has made and
takes one step at a time. What measures is of this checkout, what is measured of the other one.
"""

import importlib
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tools.bench import shapes
from tools.bench.workers import serve


def imported_from(checkout: str) -> None:
    """Imports the package from a checkout, so that later imports find that one.

    Raises:
      ImportError: the package was imported from somewhere else.
    """
    sys.path.insert(0, checkout)
    package = importlib.import_module("tf_keras_optim")
    sys.path.remove(checkout)
    found = pathlib.Path(str(package.__file__)).resolve()
    if pathlib.Path(checkout).resolve() not in found.parents:
        raise ImportError(f"tf_keras_optim comes from {found}, expected {checkout}.")


class Version:
    """Answers requests to make a step, to take it, and to drop it."""

    def __init__(self) -> None:
        self._step: Callable[[], None] | None = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what `request["do"]` asks for: make, step or drop."""
        if request["do"] == "step":
            assert self._step is not None
            began = time.perf_counter()
            self._step()
            return {"seconds": time.perf_counter() - began}
        self._step = None
        if request["do"] == "make":
            self._step = made(request)
        return {}


def made(request: Mapping[str, Any]) -> Callable[[], None]:
    """Returns a step.

    Args:
      request: `suite` ("dense", "options" or "sparse"), `optimizer`, `mode`, and by suite
        `sizes` (shapes of the variables), or `rows`, `width` and `ids` of a table.
    """
    import tensorflow as tf

    from tools.bench import options, sparse, tf_sides
    from tools.bench.results import OURS

    name, mode = request["optimizer"], request["mode"]
    if request["suite"] == "sparse":
        policy = sparse.policy_of(name)
        optimizer = tf_sides.make_optimizer(OURS, name, sparse=policy)
        table = (request["rows"], request["width"], request["ids"])
        return sparse.sparse_step(optimizer, mode, *table)
    full = request["suite"] == "options"
    optimizer = tf_sides.make_optimizer(OURS, name, **(options.ALL_ON if full else {}))
    if full:
        optimizer = tf_sides.scaled(OURS, optimizer)
    sizes = [tuple(shape) for shape in request["sizes"]]
    gradients = [tf.constant(array) for array in shapes.gradients(sizes)]
    variables = tf_sides.fresh(shapes.weights(sizes))
    return tf_sides.dense_step(optimizer, variables, gradients, mode, unscale=full)


if __name__ == "__main__":
    imported_from(sys.argv[1])
    importlib.import_module("tensorflow").get_logger().setLevel("ERROR")
    if sys.argv[2] == "fresh":
        serve(importlib.import_module("tools.bench.fresh_worker").in_a_fork)
    else:
        serve(Version().answer)
