"""Which kernel updates a variable: a small table, from measurements on CPUs.

XLA on CPUs computes each new value in a loop of its own. Adam's three (two slots, the variable)
read and write ten arrays of a variable's size, TensorFlow's training operation seven, in one
pass and without a compilation. Where an algorithm has such an operation for its update,
and nothing stands around the update, that is what runs; `python -m tools.bench dense` shows
both.
"""

import dataclasses

import tensorflow as tf

FUSED = "fused"  # one of TensorFlow's training operations
XLA = "xla"  # a function that XLA compiles
GRAPH = "graph"  # TensorFlow's operations one by one
KERNELS = (FUSED, XLA, GRAPH)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A case and what runs in it; `None` stands for anything.

    Attributes:
      kernel: what runs.
      jit_compile: the argument of the optimizer.
      device: type of the variable's device.
      in_xla: whether the step becomes part of a compiled function.
      fused: whether a training operation computes just this update.
    """

    kernel: str
    jit_compile: str | bool | None = None
    device: str | None = None
    in_xla: bool | None = None
    fused: bool | None = None


_TABLE = (  # the first row that fits counts
    _Row(GRAPH, in_xla=True),  # part of that compilation; another one inside it costs 2 %
    _Row(XLA, jit_compile=True),
    _Row(GRAPH, jit_compile=False),
    _Row(FUSED, device="CPU", fused=True),
    _Row(XLA, device="CPU"),
    _Row(XLA, device="GPU"),
    _Row(XLA, device="TPU"),
    _Row(GRAPH),
)


def choose(jit_compile: str | bool, device: str, *, in_xla: bool, fused: bool) -> str:
    """Returns what updates a variable: "fused", "xla" or "graph".

    Args:
      jit_compile: the argument of the optimizer.
      device: type of the variable's device, e.g. "CPU".
      in_xla: whether the step becomes part of a compiled function.
      fused: whether a training operation of TensorFlow computes just this update.
    """
    for row in _TABLE:
        fits = (
            row.jit_compile in (None, jit_compile)
            and row.device in (None, device)
            and row.in_xla in (None, in_xla)
            and row.fused in (None, fused)
        )
        if fits and (row.kernel != XLA or jit_compile is True or tf.test.is_built_with_xla()):
            return row.kernel
    raise AssertionError("The last row fits every case.")
