"""Kernels written for where there is JAX alone: what is written, and a run of them."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import oracles
import pytest

from tools.bench import export_kernels, run_kernels

pytestmark = pytest.mark.one_keras(3)
NAMES = ("adamw_loss_scale", "lion")  # with conditions and several parts, and a plain one
# Runs the copy in the first folder, then one kernel of the second; says what was imported.
PROGRAM = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("run_kernels", sys.argv[1] + "/run_kernels.py")
program = importlib.util.module_from_spec(spec)
sys.modules["run_kernels"] = program
spec.loader.exec_module(program)
fast = ["--copy_megabytes=4", "--seconds=0.01"]
wrong = [sys.argv[2], *fast, "--kernels=lion"]
codes = [program.main([sys.argv[1], *fast]), program.main(wrong)]
print(json.dumps({"codes": codes, "tensorflow": "tensorflow" in sys.modules}))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kernels")
    chosen = [k for k in export_kernels.KERNELS if k.name in NAMES]
    small = [dataclasses.replace(k, shape=(6, 5)) for k in chosen]
    export_kernels.export(directory, small, report=lambda text: None)
    return directory


def arrays(directory, name):
    """By name: inputs, and what is expected."""
    entries = json.loads((directory / "kernels.json").read_text())["kernels"]
    entry = next(entry for entry in entries if entry["name"] == name)
    with np.load(directory / entry["arrays"]) as archive:
        return tuple(
            {
                told["name"]: run_kernels.restored(
                    archive[f"{part}/{told['name']}"], told[dtype], told["shape"]
                )
                for told in entry[f"{part}s"]
            }
            for part, dtype in (("input", "dtype"), ("output", "expected_dtype"))
        )


def test_what_is_expected_is_what_the_oracle_says(directory):
    given, goal = arrays(directory, "lion")
    slots = {"m": given["weight_momentum"].astype("d")}
    history = [{"learning_rate": given["learning_rate"].astype("d"), "beta_1": 0.9}]
    history[0]["beta_2"] = 0.99
    weight, gradient = (given[name].astype("d") for name in ("weight", "gradient"))
    expected = oracles.lion_step(weight, gradient, slots, history)
    assert np.abs(expected - weight).max() > 1e-5
    np.testing.assert_allclose(goal["weight"], expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(goal["weight_momentum"], slots["m"], rtol=0, atol=1e-15)
    assert goal["iteration"] == given["iteration"] + 1 == 4


def test_every_state_is_an_output(directory):
    given, goal = arrays(directory, "adamw_loss_scale")
    kept = {"weight", "weight_momentum", "weight_velocity", "weight_average", "iteration"}
    assert kept < goal.keys() < given.keys()
    for name in kept:
        assert not np.array_equal(goal[name], given[name].astype(goal[name].dtype)), name


def test_a_module_is_stablehlo_alone(directory):
    for name in NAMES:
        text = (directory / f"{name}.mlir").read_text()
        assert text.startswith("module {\n  func.func ")
        assert "loc(" not in text and "mhlo." not in text
    with pytest.raises(RuntimeError, match=r"other dialects too: .*mhlo\.topk"):
        export_kernels.cleaned("module {\n  %1 = mhlo.topk %0 : tensor<3xf32>\n}")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_computes_what_is_expected_and_a_wrong_output_is_named(directory, tmp_path):
    """One process runs the kernels, and then those where one expected number is another."""
    wrong = tmp_path / "wrong"
    shutil.copytree(directory, wrong)
    with np.load(wrong / "lion.npz") as archive:
        changed = dict(archive)
    largest = np.abs(changed["output/weight"]).max()
    changed["output/weight"][5] += 3e-6 * largest
    np.savez(wrong / "lion.npz", **changed)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), str(wrong)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, last, second = run.stdout.partition("2 of 2 kernels are as expected.\n")
    assert last
    assert json.loads(second.splitlines()[-1]) == {"codes": [0, 1], "tensorflow": False}
    rows = [line.split("|")[1:-1] for line in first.splitlines() if line[:1] == "|"]
    assert [row[0].strip() for row in rows[2:]] == list(NAMES)
    assert all(float(row[2]) < 0.9 for row in rows[2:])
    assert "WRONG" not in first
    assert "WRONG  lion: weight is 3" in second
    assert "0 of 1 kernels are as expected." in second


def test_mistakes_are_named(directory, tmp_path):
    with pytest.raises(ValueError, match=r"kernels\.json is not there. Expected a folder that"):
        run_kernels.read_manifest(tmp_path)
    (tmp_path / "kernels.json").write_text('{"format": 7}')
    with pytest.raises(ValueError, match="has format 7, and this program reads 1"):
        run_kernels.read_manifest(tmp_path)
    (tmp_path / "kernels.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        run_kernels.read_manifest(tmp_path)
    with pytest.raises(ValueError, match="--optimizer: unknown name 'ftrl'"):
        export_kernels.wanted(["ftrl"])
    assert {k.optimizer for k in export_kernels.wanted(["lion", "muon"])} == {"lion", "muon"}


def test_arrays_that_repeat_are_kept_once():
    period = np.arange(run_kernels.PERIOD, dtype="f")
    for array, size in (
        (np.resize(period, (300, 500)), run_kernels.PERIOD),
        (np.zeros((7, 9)), 1),
        (period.reshape(1, -1), run_kernels.PERIOD),
        (np.arange(70_000), 70_000),
    ):
        kept = run_kernels.stored(array)
        assert kept.size == size
        restored = run_kernels.restored(kept, array.dtype, array.shape)
        np.testing.assert_array_equal(restored, array)
