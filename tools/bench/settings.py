"""What a run measures: suites, sizes and numbers of steps."""

import dataclasses
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable

from tf_keras_optim.engine.hyperparameters import nearest
from tf_keras_optim.optimizers.records import records
from tools.bench.shapes import MODELS

MODES = ("eager", "function", "xla")
OPTIMIZERS = tuple(records())


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the suites need to know.

    Attributes:
      optimizers: names out of `OPTIMIZERS`.
      modes: out of `MODES`: called eagerly, in `tf.function`, under an outer `jit_compile`.
      models: out of `MODELS`, for the suite dense.
      tensors: number of variables of "tiny".
      steps: timed steps of each side.
      rows: rows of the tables of the suite sparse.
      width: their columns.
      ids: rows with a gradient in a step.
      largest_for_keras: tables of more rows are not tried with peers that move every row.
      megabytes: float32 weights of the suites loss_scale, options and accumulation.
      memory_megabytes: float32 weights of the suite memory.
      first_step_tensors: numbers of variables of the suite first_step.
      repeats: fresh processes for each figure of first_step and memory.
      fit_width: units of the hidden layers of the suite fit.
      gigabytes: weights, slots and gradients of all sides that are kept at the same time.
      threads: threads, and processor cores, that each side may use.
      peers_python: the interpreter that has torch and optax.
      before: another checkout of this repository, for the suite versions.
      tasks_quick: whether the trainings of the suite tasks are only tried out, in few steps.
      curves: the file that the suite tasks draws its curves into, or `None`.
      tasks_runs: the file of the trainings of the suite tasks that are made once, or `None`.
    """

    optimizers: tuple[str, ...] = ("adam",)
    modes: tuple[str, ...] = MODES
    models: tuple[str, ...] = ("tiny", "resnet50", "bert_base", "huge")
    tensors: int = 200
    steps: int = 20
    rows: tuple[int, ...] = (50_000, 1_000_000, 5_000_000)
    width: int = 64
    ids: int = 4096
    largest_for_keras: int = 1_000_000
    megabytes: int = 100
    memory_megabytes: int = 400
    first_step_tensors: tuple[int, ...] = (50, 200, 800)
    repeats: int = 3
    fit_width: int = 512
    gigabytes: float = 8.0
    threads: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    peers_python: str = sys.executable
    before: str | None = None
    tasks_quick: bool = False
    curves: str | None = None
    tasks_runs: str | None = None

    def __post_init__(self) -> None:
        require_known(self.optimizers, OPTIMIZERS, "--optimizer")
        require_known(self.modes, MODES, "--modes")
        require_known(self.models, MODELS, "--models")
        cores = len(os.sched_getaffinity(0))
        if not 1 <= self.threads <= cores:
            raise ValueError(
                f"--threads: expected 1 to {cores}, the cores that this process may use. "
                f"Received: {self.threads}."
            )
        if shutil.which(self.peers_python) is None:
            raise ValueError(
                f"--peers_python: there is no program {self.peers_python!r}. Expected a "
                "Python that has torch, or jax and optax."
            )
        if self.before and not (pathlib.Path(self.before) / "tf_keras_optim").is_dir():
            raise ValueError(
                f"--before: {self.before!r} is no checkout of this repository: it has no "
                "folder 'tf_keras_optim'."
            )


# What --quick changes, unless the flag is given too.
QUICK = {
    "models": ("tiny", "bert_tiny"),
    "tensors": 20,
    "steps": 5,
    "rows": (50_000,),
    "megabytes": 16,
    "memory_megabytes": 40,
    "first_step_tensors": (20,),
    "repeats": 1,
    "fit_width": 64,
    "tasks_quick": True,
}


def require_known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises ValueError for a name that is not known, with the nearest one that is."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(
                f"{where}: unknown name {name!r}.{nearest(name, known)} "
                f"Known: {', '.join(known)}."
            )
