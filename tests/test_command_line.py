"""The command line that comes with the package: `info` and `plot-schedule`, and how it starts.

`inspect`, `diff` and `convert` have a file of their own, test_checkpoint_tool.py.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.command_line.main import main

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_info_says_what_there_is(capsys):
    code, text = run(capsys, "info")
    assert code == 0
    rows = dict(line.split("  ", 1) for line in text.splitlines())
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    assert rows["tf_keras_optim"] == tko.__version__
    assert rows["TensorFlow"] == tf.__version__
    package = "keras" if harness.IS_KERAS_3 else "tf_keras"
    assert f"({package};" in rows["tf.keras"]
    assert rows["dtype policy"] == "float32"
    devices = [name for name in rows if name.startswith("CPU:")]
    assert len(devices) == len(tf.config.list_logical_devices("CPU"))
    assert all(rows[name].endswith("XLA compiles") for name in devices)
    assert rows['jit_compile="auto"'] == "XLA"


@pytest.mark.one_keras
def test_it_starts_as_a_module_and_the_package_does_not_import_it():
    code = (
        "import runpy, sys, tf_keras_optim\n"
        "assert 'tf_keras_optim.command_line' not in sys.modules\n"
        "sys.argv[1:] = ['inspect', 'nowhere']\n"
        "runpy.run_module('tf_keras_optim', run_name='__main__')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "error: there is no file 'nowhere'" in found.stderr


def test_the_console_script_is_the_same():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert 'tf-keras-optim = "tf_keras_optim.command_line.main:main"' in lines


def table(text):
    rows = [line.split() for line in text.splitlines()[1:-1]]
    return {int(step): float(rate) for step, rate in rows}


def one_cycle():
    return tko.schedules.OneCycle(1.0, total_steps=100, initial_divisor=4.0)


CONFIGS = {
    "by name": lambda: {"class_name": "OneCycle", "config": one_cycle().get_config()},
    "serialized": lambda: tko.schedules.serialize(one_cycle()),
    "of an optimizer": lambda: tko.serialize(tko.AdamW(one_cycle())),
}


@pytest.mark.parametrize("form", CONFIGS)
def test_a_schedule_is_drawn(tmp_path, capsys, form):
    path = tmp_path / "cycle.json"
    path.write_text(json.dumps(CONFIGS[form]()))
    code, text = run(capsys, "plot-schedule", path)
    assert code == 0
    rates = table(text)
    assert list(rates) == list(range(0, 101, 10))
    np.testing.assert_allclose(rates[0], 0.25)
    np.testing.assert_allclose(rates[30], 1.0)
    assert text.splitlines()[-1] == f"Wrote {tmp_path / 'cycle.png'}"
    assert (tmp_path / "cycle.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.one_keras
def test_a_preset_of_the_demo_is_drawn(tmp_path, capsys):
    path, output = ROOT / "configs" / "digits_adamw.yaml", tmp_path / "rates.png"
    code, text = run(capsys, "plot-schedule", path, "--steps", 20, "--output", output)
    assert code == 0
    rates = list(table(text).values())
    expected = rates[0] * (1.0 + np.cos(np.pi * np.arange(0, 21, 2) / 20)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-9)
    assert output.exists()
    code, text = run(capsys, "plot-schedule", path)
    assert code == 2 and "pass --steps" in text


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "a mapping with 'class_name' and 'config'"),
        ('{"class_name": "OneCycle"}', "'config' must be a mapping"),
        ('{"class_name": "os>system", "config": {}}', "not a schedule or callable"),
        ('{"class_name": "Adam", "config": {"learning_rate": 0.1}}', "is no schedule, but 0.1"),
        ('{"class_name": "Cyclical", "config": {"step_size": 0}}', "step_size"),
        ('{"schedule": {"name": "cosin"}}', "cosine, exponential, polynomial"),
    ],
)
def test_mistakes_in_a_config_are_named(tmp_path, capsys, content, message):
    path = tmp_path / "schedule.json"
    path.write_text(content)
    code, text = run(capsys, "plot-schedule", path)
    assert code == 2 and message in text and not list(tmp_path.glob("*.png"))


def test_what_is_not_there_is_an_error(capsys, tmp_path):
    code, text = run(capsys, "plot-schedule", tmp_path / "none.json")
    assert code == 2 and "there is no file" in text
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


@pytest.mark.one_keras
def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "command-line.md").read_text()
    commands = [line.split()[3:] for line in page.splitlines()
                if line.startswith("python -m tf_keras_optim ")]  # fmt: skip
    assert {command[0] for command in commands} == {
        "info", "inspect", "diff", "convert", "plot-schedule",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    name = "adam_keras.keras" if harness.IS_KERAS_3 else "adam_tf_keras.keras"
    shutil.copy(ROOT / "tests" / "fixtures" / name, "model.keras")
    dense = tf.keras.layers.Dense(2, name="dense")
    model = tf.keras.Sequential([tf.keras.layers.Input((3,)), dense])
    model.compile(tf.keras.optimizers.Adam(), "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    model.save_weights("x.weights.h5")
    for name in ("run", "other"):
        pathlib.Path(name).mkdir()
        weight, optimizer = tf.Variable([1.0, 2.0], name="w"), tko.SGD(1.0, momentum=0.9)
        optimizer.apply_gradients([(tf.constant([3.0, 4.0]), weight)])
        tko.save_state(f"{name}/state.npz", optimizer, [weight])
    found = re.search(r"```json\n(.*?)```", page, re.S)
    pathlib.Path("schedule.json").write_text(found[1])
    for command in commands:
        code, text = run(capsys, *command)
        assert code == 0, (command, text)
    assert {"state.npz", "schedule.png", "rates.png"} <= {p.name for p in tmp_path.iterdir()}
