"""What editors and type checkers are told: it is what the classes declare, and is checked."""

import importlib.util
import inspect
import pathlib
import subprocess
import sys

import pytest

import tf_keras_optim as tko
from tools import stubs

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = [
    ROOT / "tf_keras_optim" / "__init__.py",
    ROOT / "tf_keras_optim" / "optimizers" / "base.py",
    *(ROOT / name for name in stubs.STUBS),
]

RIGHT = """
import tf_keras_optim as tko
import numpy as np

schedule = tko.schedules.OneCycle(0.1, total_steps=100)
tko.SGD(0.1, momentum=0.9, nesterov=True)
tko.Adam(schedule, weight_decay=None, name="mine")
tko.AdamW(lambda: 0.1, weight_decay=tko.schedules.CosineDecay(0.1, 100), clipnorm=1)
tko.AdamW(np.float32(0.1), 0.01, 0.9, 0.999, gradient_accumulation_steps=4, jit_compile=False)
tko.Muon(0.02, exclude_layers=["embedding"], slot_dtype={"kernel": "bfloat16"})
tko.optimizers.Adam(groups={"bias": {"weight_decay": 0.0}, "frozen": None})
tko.LossScaleOptimizer(tko.Lion(1e-4), 2**10, hysteresis=2)
optimizer: tko.Optimizer = tko.Adam()
adam: tko.Adam = tko.AdamW()
beta: float = tko.AdEMAMix().epsilon
found = tko.find_learning_rate(lambda rate: 1.0, variables=[optimizer])
assert found.suggestion is not None
optimizer.learning_rate = found.suggestion


class Mine(tko.Optimizer):
    rate = tko.Hyperparameter(1.0)


Mine(0.1, rate=2.0)
"""

# Each line is wrong, with a part of what a type checker says of it.
WRONG = {
    "tko.AdamW(learning_rat=1)": "learning_rat",
    'tko.Adam(beta_1="0.9")': 'incompatible type "str"',
    "tko.AdamW(weight_decay=[0.1])": "incompatible type",
    "tko.SGD(0.1, 0.9, nesterov=1.5)": "incompatible type",
    'tko.SGD("0.1")': 'incompatible type "str"',
    'tko.SGD(jit_compile="yes")': "incompatible type",
    'tko.Adam(slot_dtype="int4")': "incompatible type",
    "tko.schedules.OneCycle(0.1)": "total_steps",
    "tko.LossScaleOptimizer(0.1)": 'incompatible type "float"',
    "tko.LossScaleOptimizer(tko.SGD(), initial_scal=2)": "initial_scal",
    "tko.ADAM()": "ADAM",
}


def test_the_stubs_are_what_the_classes_declare():
    assert not [path for path, _ in stubs.different()], "run `python -m tools.stubs`"


def test_a_stub_that_differs_is_noticed(tmp_path):
    for name in stubs.STUBS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert not list(stubs.different(tmp_path))
    path = tmp_path / "tf_keras_optim/optimizers/__init__.pyi"
    path.write_text(path.read_text().replace("beta_1: _Number", "beta_1: str", 1))
    assert [found for found, _ in stubs.different(tmp_path)] == [path]


def test_the_package_says_that_it_has_types_and_ships_them():
    assert (ROOT / "tf_keras_optim" / "py.typed").exists()
    assert '"*" = ["*.pyi", "py.typed"]' in (ROOT / "pyproject.toml").read_text()


def test_help_and_signatures_are_as_before():
    parameters = inspect.signature(tko.AdamW).parameters
    assert list(parameters)[:3] == ["learning_rate", "weight_decay", "beta_1"]
    assert parameters["beta_1"].default == 0.9
    assert "beta_1: decay of the first moment" in tko.AdamW.__doc__


def checked(command, tmp_path, text):
    """What a type checker says of a script, by line."""
    script = tmp_path / "script.py"
    script.write_text(text)
    found = subprocess.run(
        [sys.executable, "-m", *command, str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = {}
    for line in (found.stdout + found.stderr).splitlines():
        parts = line.strip().split(":")
        of_line = len(parts) > 2 and "script.py" in parts[0] and parts[1].isdigit()
        if of_line and " note" not in parts[2:3]:
            said.setdefault(int(parts[1]), []).append(line)
    return said


def wrong_script():
    return "\n".join(["import tf_keras_optim as tko", *WRONG]) + "\n"


@pytest.mark.one_keras
def test_mypy_passes_what_is_right_and_flags_what_is_wrong(tmp_path):
    # What is not named is skipped: the package is checked by itself, and this is quick.
    command = ["mypy", "--config-file=", "--follow-imports=skip", "--ignore-missing-imports",
               f"--cache-dir={tmp_path / 'cache'}", *map(str, FILES)]  # fmt: skip
    (tmp_path / "right").mkdir()
    said = checked(command, tmp_path / "right", RIGHT)
    said |= {f"wrong {k}": v for k, v in checked(command, tmp_path, wrong_script()).items()}
    expect_lines(said)


def expect_lines(said):
    lines = {f"wrong {number}": line for number, line in enumerate(WRONG, start=2)}
    assert said.keys() == lines.keys(), said
    for number, line in lines.items():
        text = " ".join(said[number])
        assert any(part in text for part in WRONG[line].split("|")), (line, text)


PYRIGHTS = [name for name in ("basedpyright", "pyright") if importlib.util.find_spec(name)]


@pytest.mark.one_keras
@pytest.mark.skipif(not PYRIGHTS, reason="neither basedpyright nor pyright is installed")
def test_pyright_says_so_too(tmp_path):
    (tmp_path / "right").mkdir()
    command = [PYRIGHTS[0], "--level=error", f"--pythonpath={sys.executable}"]
    assert not checked(command, tmp_path / "right", RIGHT)
    assert set(checked(command, tmp_path, wrong_script())) == set(range(2, 2 + len(WRONG)))
