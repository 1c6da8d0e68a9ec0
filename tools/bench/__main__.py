r"""Times optimizer steps beside those of other libraries, in one run.

    python -m tools.bench                      # suite dense: whole models, Adam
    python -m tools.bench sparse memory        # further suites; "all" are those of single steps
    python -m tools.bench dense --models=tiny,bert_base --optimizer=adam,lion \
        --peers_python=../torch/bin/python --json=bench.json --plot=bench.png
    python -m tools.bench all --quick
    python -m tools.bench versions --before=../other   # beside another checkout
    python -m tools.bench tasks --curves=curves.png    # whole trainings: half an hour and more
    python -m tools.bench export_kernels DIR    # kernels for where there is JAX alone

All sides of a comparison get the same shapes, values, dtype and threads, are warmed up,
and take turns. A ratio is another side's median divided by ours: below 1 we lost, and
each such line is repeated at the end.
"""

import dataclasses
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags

from tools.bench import machine
from tools.bench.dense import dense
from tools.bench.export_kernels import export, small, wanted
from tools.bench.first_step import first_step
from tools.bench.fit import fit
from tools.bench.loss_scale import loss_scale
from tools.bench.memory import memory
from tools.bench.options import accumulation, options
from tools.bench.peers import Peers
from tools.bench.plot import draw, require_picture
from tools.bench.replicas import replicas
from tools.bench.results import Comparison, closing, table
from tools.bench.settings import QUICK, Settings, require_known
from tools.bench.sparse import sparse
from tools.bench.tasks import tasks
from tools.bench.tf_sides import RUNNING
from tools.bench.versions import versions
from tools.bench.watching import watching

_DEFAULTS = Settings()

_OPTIMIZER = flags.DEFINE_list("optimizer", list(_DEFAULTS.optimizers), "Names of optimizers.")
_MODES = flags.DEFINE_list("modes", list(_DEFAULTS.modes), "Ways of calling.")
_MODELS = flags.DEFINE_list("models", list(_DEFAULTS.models), "Models of the suite dense.")
_TENSORS = flags.DEFINE_integer("tensors", 200, "Variables of the model tiny.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 20, "Timed steps of each side.", lower_bound=1)
_ROWS = flags.DEFINE_multi_integer(
    "rows", list(_DEFAULTS.rows), "Rows of the table; may be repeated.", lower_bound=1
)
_WIDTH = flags.DEFINE_integer("width", 64, "Columns of the table.", lower_bound=1)
_IDS = flags.DEFINE_integer("ids", 4096, "Rows with a gradient in a step.", lower_bound=1)
_LARGEST = flags.DEFINE_integer(
    "largest_for_keras", 1_000_000, "Tables of more rows are not tried with Keras."
)
_MEGABYTES = flags.DEFINE_integer(
    "megabytes",
    100,
    "Float32 weights of the suites loss_scale, options and accumulation.",
    lower_bound=4,
)
_MEMORY = flags.DEFINE_integer(
    "memory_megabytes", 400, "Float32 weights of the suite memory.", lower_bound=4
)
_FIRST = flags.DEFINE_multi_integer(
    "first_step_tensors",
    list(_DEFAULTS.first_step_tensors),
    "Variables in the suite first_step; may be repeated.",
    lower_bound=2,
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 3, "Fresh processes for each figure of first_step and memory.", lower_bound=1
)
_FIT_WIDTH = flags.DEFINE_integer(
    "fit_width", 512, "Units of the hidden layers in the suite fit.", lower_bound=1
)
_GIGABYTES = flags.DEFINE_float(
    "gigabytes", 8.0, "What all sides that take turns may hold.", lower_bound=0.1
)
_THREADS = flags.DEFINE_integer(
    "threads", _DEFAULTS.threads, "Threads and cores of each side.", lower_bound=1
)
_PYTHON = flags.DEFINE_string(
    "peers_python", sys.executable, "The interpreter that has torch, jax and optax."
)
_BEFORE = flags.DEFINE_string(
    "before", None, "Another checkout of this repository, for the suite versions."
)
_TASKS_TASKS_RUNS = flags.DEFINE_string(
    "tasks_runs",
    None,
    "File of the trainings of the suite tasks: those in it are not made again, others are "
    "added. For one version of the code and of TensorFlow.",
)
_QUICK = flags.DEFINE_bool(
    "tasks_quick", False, "Trainings of the suite tasks in so few steps that they say nothing."
)
_CURVES = flags.DEFINE_string(
    "curves", None, "File to draw the losses of the suite tasks into (.png, .svg, .pdf)."
)
_QUICK = flags.DEFINE_bool("quick", False, "Smaller sizes and fewer steps.")
_JSON = flags.DEFINE_string("json", None, "File to write every figure into.")
_PLOT = flags.DEFINE_string("plot", None, "File to draw the ratios into (.png, .svg, .pdf).")

Suite = Callable[[Settings, Peers], Iterator[Comparison]]
SUITES: Mapping[str, Suite] = {
    "dense": dense,
    "sparse": sparse,
    "fit": fit,
    "first_step": first_step,
    "memory": memory,
    "loss_scale": loss_scale,
    "options": options,
    "accumulation": accumulation,
    "replicas": replicas,
    "watching": watching,
    "versions": versions,
    "tasks": tasks,
}
EXPORT = "export_kernels"  # no suite: it measures nothing
# Without what needs another checkout, and what trains to the end.
_ALL = tuple(suite for suite in SUITES if suite not in ("versions", "tasks"))

_FLAG_NAMES = {"optimizers": "optimizer"}  # where a setting's flag has another name


def read_settings() -> Settings:
    """Returns the settings that the flags ask for; a flag counts more than --quick."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        flag = flags.FLAGS[_FLAG_NAMES.get(field.name, field.name)]
        value = flag.value
        if _QUICK.value and not flag.present and field.name in QUICK:
            value = QUICK[field.name]
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return Settings(**values)


def prepare(settings: Settings, suites: Sequence[str]) -> None:
    """Gives this process, and those it starts, the cores and devices of the run."""
    cores = sorted(os.sched_getaffinity(0))
    if settings.threads < len(cores):
        os.sched_setaffinity(0, cores[: settings.threads])
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    if set(suites) & {"fit", "replicas"}:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration() for _ in range(2)],
        )


def run(
    suites: Sequence[str], settings: Settings, peers: Peers
) -> tuple[dict[str, Any], list[Comparison]]:
    """Runs suites, printing each comparison once it is there.

    Returns:
      The machine and versions, and the comparisons.
    """
    about = machine.describe(settings.threads)
    print(
        f"{about['date']}, {about['processor']}, {settings.threads} of {about['cores']} cores, "
        f"{about['memory_bytes'] / 1e9:.0f} GB, load {about['load_average']:.1f}; "
        f"tf.keras is {RUNNING}"
    )
    speed = machine.bandwidth(settings.threads)
    about["bytes_per_second"] = speed
    print(f"Memory: {speed / 1e9:.1f} GB/s ({settings.threads} threads, a += b)")
    comparisons, about["suite_seconds"] = [], {}
    for suite in suites:
        began = time.perf_counter()
        for comparison in SUITES[suite](settings, peers):
            comparisons.append(comparison)
            print(f"\n{table(comparison)}", flush=True)
        about["suite_seconds"][suite] = time.perf_counter() - began
    about["versions"] |= peers.versions
    print("\n" + ", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    print(f"\n{closing(comparisons)}")
    return about, comparisons


def export_command(arguments: Sequence[str]) -> None:
    """Writes kernels into the folder that the arguments name.

    Raises:
      ValueError: they name none, or several.
    """
    if len(arguments) != 1:
        raise ValueError(f"{EXPORT}: expected one folder. Received: {list(arguments)}.")
    kernels = wanted(_OPTIMIZER.value if _OPTIMIZER.present else None)
    export(arguments[0], small(kernels) if _QUICK.value else kernels)


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs the suites; a mistake ends with a message."""
    suites = list(argv[1:]) or ["dense"]
    # It warns of functions that are traced anew; here they are different functions.
    tf.get_logger().setLevel("ERROR")
    try:
        if suites[0] == EXPORT:
            export_command(suites[1:])
            return
        alone = [EXPORT] if len(suites) == 1 else []
        require_known(suites, [*SUITES, "all", *alone], "suite")
        suites = list(_ALL) if "all" in suites else suites
        for flag, path in (("plot", _PLOT.value), ("curves", _CURVES.value)):
            if path:
                require_picture(path, flag)
        settings = read_settings()
        if "versions" in suites and not settings.before:
            raise ValueError(
                "--before: the suite versions needs another checkout of this repository, e.g. "
                "one that `git worktree add` made. Received: nothing."
            )
        prepare(settings, suites)
    except ValueError as error:
        sys.exit(f"error: {error}")
    with Peers(settings.peers_python, settings.threads) as peers:
        about, comparisons = run(suites, settings, peers)
    if _JSON.value:
        content = {
            "machine": about,
            "settings": dataclasses.asdict(settings),
            "comparisons": [comparison.as_dict() for comparison in comparisons],
            "losses": [line for c in comparisons for line in c.losses()],
        }
        pathlib.Path(_JSON.value).write_text(json.dumps(content, indent=1) + "\n")
        print(f"Wrote {_JSON.value}")
    if _PLOT.value:
        draw(comparisons, _PLOT.value)
        print(f"Wrote {_PLOT.value}")


if __name__ == "__main__":
    app.run(main)
