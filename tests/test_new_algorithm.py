"""A new algorithm is one file, its oracle and one line; all the rest follows."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

ALGORITHM = '''
"""Scratch: the sign of a mean."""

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02, "keep": 0.5})
class Scratch(Optimizer):
    """Scratch.

    {{arguments}}
    """

    elementwise = True
    counts_updates = False
    learning_rate = LearningRate(0.01)
    keep = Hyperparameter(0.9, minimum=0.0, below=1.0, schedulable=True, doc="what is kept")
    slots = ("mean",)

    def update(self, gradient, value, slots, scalars):
        """See the class."""
        mean = scalars.keep * slots["mean"] + (1.0 - scalars.keep) * gradient
        return value - scalars.learning_rate * tf.tanh(mean), {"mean": mean}
'''

ORACLE = """

def scratch_step(w, g, s, history):
    h = history[-1]
    mean = s["mean"] = h["keep"] * s.get("mean", 0.0) + (1 - h["keep"]) * g
    return w - h["learning_rate"] * np.tanh(mean)


ALGORITHMS["scratch"] = (scratch_step, {"learning_rate": 0.01, "keep": 0.9})
"""

# Run in the copy, with its root and its tests on the path.
CHECKS = """
import inspect
import json
import pathlib
import sys

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import harness
import numpy as np

import tf_keras_optim as tko
from tf_keras_optim import testing
from tf_keras_optim.optimizers import records
from tools import build_files, config
from tools.bench import machine, settings, tf_sides

root = pathlib.Path(sys.argv[1])
assert pathlib.Path(tko.__file__).is_relative_to(root)

# Names.
cls = tko.Scratch
assert "Scratch" in tko.list_optimizers() and "Scratch" in tko.__all__
assert tko.list_optimizers("scr*") == ["Scratch"]
assert type(tko.get("scratch")) is type(tko.get("tf_keras_optim>Scratch")) is cls
assert list(inspect.signature(cls).parameters)[:2] == ["learning_rate", "keep"]
assert "\\n  keep: what is kept, in [0, 1), or a schedule.\\n" in cls.__doc__
assert "\\n  clipnorm: " in cls.__doc__

# Configurations: ours, Keras', and those of the demo.
optimizer = cls(0.25, keep=0.75, weight_decay=0.5)
again = cls.from_config(json.loads(json.dumps(optimizer.get_config())))
assert again.get_config() == optimizer.get_config() and again.keep == 0.75
serialized = json.loads(json.dumps(tf.keras.optimizers.serialize(optimizer)))
for made in (tf.keras.optimizers.deserialize(serialized), tko.deserialize(serialized)):
    assert type(made) is cls and made.get_config() == optimizer.get_config()
path = root / "scratch.yaml"
path.write_text("optimizer: {name: scratch, keep: 0.25}")
assert config.load(str(path)).optimizer == {"name": "Scratch", "keep": 0.25}
try:
    config.load(str(path), ["optimizer.keep=1"])
except ValueError as error:
    assert "`keep` must be a finite number, at least 0.0, below 1.0" in str(error)
else:
    raise AssertionError("keep=1 was taken")
try:
    tko.to_keras(optimizer)
except ValueError as error:
    assert "has no Scratch" in str(error)
else:
    raise AssertionError("it became one of Keras'")

# The kit, the oracle, the benchmark.
assert cls in harness.OPTIMIZERS
report = testing.check_optimizer(cls, only=["traces"])
assert report.title.startswith("Conformance of Scratch(learning_rate=0.02, keep=0.5)")
report = testing.check_optimizer(cls, {**records.of(cls).example, "jit_compile": False})
assert len(report.results) == len(testing.CHECKS)
assert {result.status for result in report.results} == {"passed"}, str(report)
gradients, starts = harness.gradient_sequence(10), harness.starts()
values = harness.run(cls(0.01, jit_compile=False), gradients, starts, "function")
oracle = harness.oracle_of(cls)
expected = [oracle(w, [batch[i] for batch in gradients]) for i, w in enumerate(starts)]
assert harness.distance_error(values, expected, starts) < 1e-5
assert "scratch" in settings.OPTIMIZERS and machine.slots("scratch") == 1
assert type(tf_sides.make_optimizer("ours", "scratch")) is cls

# Targets.
assert build_files.main(["--check"]) == 1
assert build_files.main([]) == 0
assert build_files.main(["--check"]) == 0
targets = (root / "tf_keras_optim" / "optimizers" / "BUILD").read_text()
assert 'name = "scratch"' in targets and '":scratch",' in targets
print("all passed")
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository with the algorithm in it."""
    ignored = shutil.ignore_patterns("__pycache__", "fixtures")
    for top in ("tf_keras_optim", "tools", "tests"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=ignored)
    for document in ROOT.glob("*.md"):  # their examples count as imports
        shutil.copy(document, tmp_path)
    room = tmp_path / "tf_keras_optim" / "optimizers"
    (room / "scratch.py").write_text(ALGORITHM.lstrip())
    with open(room / "__init__.py") as file:
        lines = file.read().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("from tf_keras_optim"))
    line = "from tf_keras_optim.optimizers.scratch import Scratch as Scratch\n"
    (room / "__init__.py").write_text("".join([*lines[:last], line, *lines[last:]]))
    with open(tmp_path / "tests" / "oracles.py", "a") as file:
        file.write(ORACLE)
    return tmp_path


@pytest.mark.one_keras
def test_a_file_and_a_line_make_an_optimizer(copy):
    path = os.pathsep.join([str(copy), str(copy / "tests")])
    run = subprocess.run(
        [sys.executable, "-c", CHECKS, str(copy)],
        capture_output=True,
        text=True,
        check=False,
        cwd=copy,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.endswith("all passed\n")
