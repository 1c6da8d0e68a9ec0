"""Measures one side in a process of its own, for the process that asks.

TensorFlow is imported once. Each request is answered by a fork made before anything was
traced, compiled or allocated, so no side profits from another one's caches.
"""

import ctypes
import gc
import multiprocessing
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import tensorflow as tf

from tools.bench import shapes
from tools.bench.raw_ops import RAW_OPS, raw_step
from tools.bench.tf_sides import build, dense_step, fresh, in_mode, make_optimizer
from tools.bench.workers import serve

_STATUS = pathlib.Path("/proc/self/status")


def kilobytes(field: str) -> int:
    """Returns a field of this process' status, for example "VmRSS"; in units of 1024 bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.M)
    if found is None:
        raise RuntimeError(f"{_STATUS} has no {field}: this system cannot measure memory.")
    return int(found.group(1))


def release() -> None:
    """Gives back to the system what is free, so that resident memory is used memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def first_step(request: Mapping[str, Any]) -> dict[str, float]:
    """Returns the seconds of `build` and of the first step after it."""
    sizes = shapes.tiny(request["tensors"])
    variables = fresh(shapes.weights(sizes))
    gradients = [tf.constant(value) for value in shapes.gradients(sizes)]
    optimizer = make_optimizer(request["side"], request["optimizer"])
    began = time.perf_counter()
    build(optimizer, variables)
    built = time.perf_counter()

    def apply(given: Any) -> None:
        optimizer.apply_gradients(list(zip(given, variables)))

    in_mode(apply, request["mode"])(gradients)
    variables[-1].sparse_read([0]).numpy()
    return {"build": built - began, "first step": time.perf_counter() - built}


def memory(request: Mapping[str, Any]) -> dict[str, float]:
    """Returns bytes of memory at the peak of a later step, and what the step added to it.

    "peak" is over that of a process without weights, slots and gradients: they count, and so
    does what making them and tracing has left. "step" is over what was in use just before.
    """
    _ready([(8, 8)], request)  # what TensorFlow needs for itself
    release()
    empty = kilobytes("VmRSS")
    step = _ready(shapes.matrices(request["megabytes"]), request)
    release()
    before = kilobytes("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    step()
    peak = kilobytes("VmHWM")
    return {"peak": 1024 * (peak - empty), "step": 1024 * (peak - before)}


def _ready(sizes: Sequence[shapes.Shape], request: Mapping[str, Any]) -> Callable[[], None]:
    variables = fresh(shapes.weights(sizes))
    gradients = [tf.constant(value) for value in shapes.gradients(sizes)]
    side, name, mode = request["side"], request["optimizer"], request["mode"]
    if side == RAW_OPS:
        step = raw_step(name, variables, gradients, mode)
    else:
        step = dense_step(make_optimizer(side, name), variables, gradients, mode)
    step()
    step()
    return step


MEASUREMENTS = {"first_step": first_step, "memory": memory}


def _measure(request: Mapping[str, Any], output: Connection) -> None:
    output.send(MEASUREMENTS[request["do"]](request))


def in_a_fork(request: Mapping[str, Any]) -> dict[str, float]:
    """Answers a request in a new process.

    Raises:
      RuntimeError: if that process failed; it has said why.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(request, sender))
    process.start()
    sender.close()
    process.join()
    if process.exitcode or not receiver.poll():
        raise RuntimeError(f"{request} ended with code {process.exitcode}.")
    return receiver.recv()


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    serve(in_a_fork)
