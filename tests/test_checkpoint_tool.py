"""The tool that looks into files: on every kind of file, and on mistakes."""

import pathlib
import runpy
import sys

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.command_line.main import main

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
DENSE = ["--variables", "dense/kernel:3,2", "dense/bias:2"]


def trained(optimizer=None):
    variable = tf.Variable([1.0, 2.0], name="w")
    optimizer = optimizer or tko.Adam(0.5)
    optimizer.apply_gradients([(tf.constant([3.0, 4.0]), variable)])
    return optimizer, variable


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def rows(text):
    return {line.split("  ")[0]: line.split() for line in text.splitlines()}


def test_a_state_file_is_listed(tmp_path, capsys):
    optimizer, variable = trained(tko.SGD(1.0, momentum=0.9))
    tko.save_state(tmp_path / "state.npz", optimizer, [variable])
    code, text = run(capsys, "inspect", tmp_path / "state.npz")
    assert code == 0
    found = rows(text)
    assert found["w/momentum"] == ["w/momentum", "(2,)", "float32", "8", "5", "0", "0"]
    assert found["scalars/iterations"][1:] == ["()", "int64", "8", "1", "0", "0"]
    assert found["weights/w"][1:4] == ["(2,)", "float32", "8"]
    assert text.splitlines()[-1] == "4 arrays, 28 bytes"


def test_what_is_not_finite_is_counted(tmp_path, capsys):
    optimizer, _ = trained(tko.SGD(1.0, momentum=0.9))
    optimizer.variables[-1].assign([np.nan, np.inf])
    tko.save_state(tmp_path / "state.npz", optimizer)
    _, text = run(capsys, "inspect", tmp_path / "state.npz")
    assert rows(text)["w/momentum"][-2:] == ["1", "1"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("adam_keras.keras", "optimizer/vars/3"),
        ("adam_tf_keras.keras", "optimizer/vars/2"),
        ("adam_legacy.h5", "optimizer_weights/Adam/dense/kernel/v:0"),
    ],
)
def test_files_of_keras_are_listed(capsys, file, name):
    code, text = run(capsys, "inspect", FIXTURES / file)
    assert code == 0
    assert rows(text)[name][1:5] == ["(3,", "2)", "float32", "24"]


def test_weights_files_and_checkpoints_are_listed(tmp_path, capsys):
    model, _ = harness.fit(tko.Adam(0.01), epochs=1)
    model.save_weights(str(tmp_path / "x.weights.h5"))
    code, text = run(capsys, "inspect", tmp_path / "x.weights.h5")
    assert code == 0
    assert "hidden/kernel velocity)" in text
    optimizer, _ = trained()
    prefix = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "at"))
    code, text = run(capsys, "inspect", prefix)
    assert code == 0
    assert rows(text)["optimizer/_iterations"][2] == "int64"


def test_differences_are_listed(tmp_path, capsys):
    optimizer, variable = trained()
    first, second, third = (tmp_path / f"{i}.npz" for i in range(3))
    tko.save_state(first, optimizer)
    assert run(capsys, "diff", first, first) == (0, "The same names, shapes and values.\n")
    first_value, second_value = optimizer.variables[-1].numpy()
    optimizer.variables[-1].assign([first_value, second_value + 0.25])
    tko.save_state(second, optimizer)
    code, text = run(capsys, "diff", first, second)
    assert (code, text) == (1, "w/velocity: largest difference 0.25\n")
    other, _ = trained(tko.SGD(0.5))
    tko.save_state(third, other, [variable])
    code, text = run(capsys, "diff", first, third)
    assert code == 1
    assert "only in the first: w/momentum" in text
    assert "only in the second: weights/w" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [FIXTURES / "adam_legacy.h5"],
        [FIXTURES / "adam_legacy.h5", *DENSE],
        [FIXTURES / "adam_keras.keras", *DENSE],
        [FIXTURES / "adam_tf_keras.keras", *DENSE],
        [FIXTURES / f"adam_{'keras' if harness.IS_KERAS_3 else 'tf_keras'}.keras"],
    ],
)
def test_a_file_of_keras_becomes_a_state_file(tmp_path, capsys, arguments):
    path, *more = arguments
    code, text = run(capsys, "convert", path, tmp_path / "state.npz", *more)
    assert (code, text.split(": ")[1]) == (0, "Adam after 7 steps, 2 variables\n")
    variables = [
        tf.Variable(np.zeros((3, 2), "f"), name="dense/kernel"),
        tf.Variable(np.zeros(2, "f"), name="dense/bias"),
    ]
    target = tko.Adam()
    target.build(variables)
    assert tko.load_state(tmp_path / "state.npz", target).fits
    expected = tko.convert(path, variables)
    for found, other in zip(target.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(found, other)


def test_a_weights_file_needs_the_optimizer_and_the_variables(tmp_path, capsys):
    model, _ = harness.fit(tf.keras.optimizers.SGD(0.125, momentum=0.5), epochs=1)
    path, output = tmp_path / "x.weights.h5", tmp_path / "state.npz"
    model.save_weights(str(path))
    model.save(str(tmp_path / "model.keras"))
    code, text = run(capsys, "convert", path, output)
    assert code == 2
    assert "does not say what optimizer it is of" in text
    how = ["--optimizer", "sgd", "--set", "momentum=0.5", "--set", "learning_rate=125e-3"]
    code, text = run(capsys, "convert", path, output, *how)
    assert code == 2
    assert "does not name the model's variables" in text
    code, text = run(capsys, "convert", path, output, *how, "--model", tmp_path / "model.keras")
    assert (code, text.split(": ")[1]) == (0, "SGD after 8 steps, 4 variables\n")
    _, text = run(capsys, "inspect", output)
    assert "hidden/kernel/momentum" in text
    assert rows(text)["scalars/learning_rate"][4] == "0.125"


def test_mistakes_end_with_a_message(tmp_path, capsys):
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"PK\x03\x04 nothing")
    cases = {
        ("inspect", tmp_path / "nowhere"): "there is no file",
        ("inspect", damaged): r"cannot be read",
        ("diff", damaged, damaged): r"cannot be read",
        ("convert", tmp_path / "nowhere.h5", "x"): "There is no file",
        ("convert", damaged, "x", "--optimizer", "admw"): "Did you mean 'adamw'",
        ("convert", damaged, "x", "--set", "a=1"): "--set needs --optimizer",
        ("convert", damaged, "x", "--variables", "kernel"): "name:size,size",
    }
    for arguments, message in cases.items():
        code, text = run(capsys, *arguments)
        assert code == 2, arguments
        assert text.startswith("error: ")
        assert message in text


@pytest.mark.one_keras
def test_the_program_prints_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["checkpoint", "inspect", "nowhere"])
    with pytest.raises(SystemExit) as ended:  # else the interpreter would print one
        runpy.run_module("tools.checkpoint", run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "error: there is no file 'nowhere'" in printed.splitlines()[-1]
    assert "Traceback" not in printed
