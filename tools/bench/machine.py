"""What the run took place on: processor, memory, versions, and the memory's speed."""

import concurrent.futures
import datetime
import functools
import importlib
import importlib.util
import math
import os
import pathlib
import platform
import time
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.optimizers.records import records

_COPIES = 5


def describe(threads: int) -> dict[str, Any]:
    """Returns the processor, cores, memory, date and versions.

    Args:
      threads: how many each side may use.
    """
    versions = {
        "python": platform.python_version(),
        "tf_keras_optim": tko.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }
    for module in ("keras", "tf_keras"):
        if importlib.util.find_spec(module) is not None:
            versions[module] = importlib.import_module(module).__version__
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
        "versions": versions,
    }


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def bandwidth(threads: int, megabytes: int = 256) -> float:
    """Returns the bytes per second of `a += b`, the best of several passes; measured once.

    It reads two arrays and writes one of them in place, as an optimizer does, so no
    line of memory is fetched only to be overwritten.

    Args:
      threads: each works on a part of the arrays of its own.
      megabytes: of each array; must be much more than the caches hold.
    """
    size = megabytes * 1_000_000 // 4
    a, b = np.ones(size, np.float32), np.ones(size, np.float32)
    parts = [
        (a[start:stop], b[start:stop])
        for start, stop in zip(
            [size * i // threads for i in range(threads)],
            [size * (i + 1) // threads for i in range(threads)],
        )
    ]
    best = float("inf")
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(_COPIES):
            began = time.perf_counter()
            list(pool.map(lambda part: np.add(part[0], part[1], out=part[0]), parts))
            best = min(best, time.perf_counter() - began)
    return 12 * size / best


def slots(name: str) -> float:
    """Returns how many numbers an optimizer keeps for each weight of a large matrix.

    A step reads and writes them, beside the weight.
    """
    shape = (512, 512)
    from tf_keras_optim.engine.variable_hooks import of_shape, slots_for  # as in `options`

    kept = slots_for(records()[name].cls(), of_shape(shape))
    return sum(math.prod(slot.shape_for(shape)) for slot in kept) / math.prod(shape)


def moved_bytes(name: str, parameters: int) -> int:
    """Returns what a float32 step must move: the gradient, and each of the others twice."""
    return round(parameters * 4 * (1 + 2 * (1 + slots(name))))


def held_bytes(name: str, parameters: int) -> int:
    """Returns what a side holds: weights, gradients and slots."""
    return round(parameters * 4 * (2 + slots(name)))
