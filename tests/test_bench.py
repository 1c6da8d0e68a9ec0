"""The benchmark: every suite at its smallest, what it writes, and what it says."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import harness
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from tf_keras_optim.optimizers.records import records
from tools.bench import dense, plot, raw_ops, settings, shapes, tf_sides, watching
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison, Figures, closing, table
from tools.bench.timing import STEP, take_turns
from tools.bench.workers import Worker

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALLEST = [
    *("--quick", "--modes=function", "--steps=2", "--models=tiny", "--tensors=2"),
    *("--rows=50", "--width=2", "--ids=7", "--megabytes=4", "--memory_megabytes=4"),
    *("--first_step_tensors=2", "--repeats=1", "--fit_width=4"),
]
# The momentum of legacy Nadam follows 0.96 ** (0.004 t), not 0.96 ** t.
OTHER_FORMULAS = {("nadam", tf_sides.LEGACY)}
# Appended to a copy of the package.
SLOWER = """
import time


def _slower(cls):
    apply = cls.apply_gradients

    def waiting(self, *args, **kwargs):
        time.sleep(0.2)
        return apply(self, *args, **kwargs)

    cls.apply_gradients = waiting


_slower(Optimizer)
_slower(LossScaleOptimizer)
"""
SUITES = {
    "dense": 1,
    "sparse": 1,
    "fit": 4,
    "first_step": 2,
    "memory": 2 + len(harness.OPTIMIZERS),
    "loss_scale": 2,
    "options": 1,
    "accumulation": 2,
    "replicas": 2,
}
if harness.IS_KERAS_3:
    del SUITES["fit"]  # the longest
else:  # what shows other sides there
    SUITES = {name: SUITES[name] for name in ("fit", "loss_scale")}
only_keras_3 = pytest.mark.skipif(
    not harness.IS_KERAS_3, reason="the Keras 3 process runs this suite"
)


def bench(*arguments, check=True):
    command = [sys.executable, "-m", "tools.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=check)


@functools.cache
def run_of_everything(directory):
    files = [f"--json={directory}/bench.json", f"--plot={directory}/bench.png"]
    output = bench(*SUITES, *SMALLEST, *files).stdout
    return output, json.loads((directory / "bench.json").read_text())


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return run_of_everything(tmp_path_factory.mktemp("bench"))


@pytest.mark.one_keras(3)
def test_every_suite_measures_ours_and_a_peer(everything):
    _, content = everything
    running = "Keras 3" if harness.IS_KERAS_3 else "tf_keras"
    for suite, number in SUITES.items():
        found = [c for c in content["comparisons"] if c["suite"] == suite]
        assert len(found) == number, suite
        for comparison in found:
            present = {*comparison["sides"], *comparison["absent"]}
            needed = "Keras 3" if suite == "accumulation" else running
            assert {OURS, needed} <= present, comparison["case"]
            for figures in comparison["sides"].values():
                values = figures["values"]
                assert figures["steps"] == len(values) > 0
                assert figures["median"] == pytest.approx(np.median(values))
                assert figures["quartile_1"] == pytest.approx(np.percentile(values, 25))
                assert figures["quartile_3"] == pytest.approx(np.percentile(values, 75))
                assert (figures["min"], figures["max"]) == (min(values), max(values))
                assert min(values) >= 0
    assert len(content["comparisons"]) == sum(SUITES.values())


@pytest.mark.one_keras(3)
def test_ratios_and_losses_follow_from_the_medians(everything):
    output, content = everything
    losses = []
    for comparison in content["comparisons"]:
        medians = {side: f["median"] for side, f in comparison["sides"].items()}
        for side, median in medians.items():
            if side == OURS or medians[OURS] == 0:
                assert side not in comparison["ratios"]
                continue
            assert comparison["ratios"][side] == pytest.approx(median / medians[OURS])
            if median < medians[OURS] and side not in comparison["context"]:
                losses.append((comparison["case"], side))
    assert len(content["losses"]) == len(losses)
    for line, (case, side) in zip(content["losses"], losses):
        assert case in line and f": {side} " in line
        assert f"LOST  {line}" in output


@pytest.mark.one_keras(3)
def test_the_json_says_where_it_was_measured(everything):
    output, content = everything
    machine = content["machine"]
    assert machine["versions"]["tensorflow"] == tf.__version__
    assert machine["processor"] and machine["date"][:4].isdigit()
    assert 1 <= machine["threads"] <= machine["cores"]
    assert machine["memory_bytes"] > 1e8 and machine["bytes_per_second"] > 1e7
    assert set(machine["suite_seconds"]) == set(SUITES)
    assert content["settings"]["tensors"] == 2 and content["settings"]["steps"] == 2
    assert machine["date"] in output


@pytest.mark.one_keras(3)
@only_keras_3
def test_bytes_of_slots_are_counted(everything):
    _, content = everything
    start = "bytes of slots a float32 parameter, "
    counted = {
        c["case"][len(start) :].split(",")[0]: c["sides"]
        for c in content["comparisons"]
        if c["case"].startswith(start)
    }
    expected = {"adam": 8, "sgd": 0, "lion": 4, "adafactor": 2 * 512 * 4 / 512**2}
    for name, number in expected.items():
        assert counted[name][OURS]["median"] == number, name
        assert counted[name]["ours, bfloat16 slots"]["median"] == number / 2, name


@pytest.mark.one_keras(3)
@only_keras_3
def test_the_peak_holds_what_must_be_there(everything):
    _, content = everything
    peaks = [c for c in content["comparisons"] if c["case"].endswith("peak")]
    for side, figures in peaks[0]["sides"].items():
        assert 4 * 1024**2 * 4 < figures["median"] < 4 * 1024**2 * 40, side


@pytest.mark.one_keras(3)
def test_the_picture_has_bars(everything, tmp_path_factory):
    files = list(tmp_path_factory.getbasetemp().rglob("bench.png"))
    picture = matplotlib.image.imread(str(files[0]))
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizers": ["adm"]}, "--optimizer: unknown name 'adm'. Did you mean 'adam'?"),
        ({"models": ["bert"]}, "--models: unknown name 'bert'. Did you mean 'bert_"),
        ({"modes": ["eagre"]}, "--modes: unknown name 'eagre'. Did you mean 'eager'?"),
        ({"threads": 5000}, "--threads: expected 1 to "),
        ({"before": "no/checkout"}, "--before: 'no/checkout' is no checkout of this"),
        ({"peers_python": "no/python"}, "--peers_python: there is no program 'no/python'."),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings.Settings(**given)
    with pytest.raises(ValueError, match=r"--plot: expected a name that ends in \.png"):
        plot.require_picture("picture.txt")


@pytest.mark.one_keras
def test_a_mistake_ends_with_a_message_and_no_run():
    run = bench("dens", check=False)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].startswith(
        "error: suite: unknown name 'dens'. Did you mean 'dense'?"
    )
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.one_keras(2)  # as Keras 3 has the more suites above
def test_another_checkout_is_measured_beside_this_one(tmp_path):
    """The other one is a copy whose optimizers wait, so each of its steps takes longer."""
    other = tmp_path / "other"
    shutil.copytree(ROOT / "tf_keras_optim", other / "tf_keras_optim")
    with open(other / "tf_keras_optim" / "__init__.py", "a") as file:
        file.write(SLOWER)
    arguments = ["versions", f"--before={other}", f"--json={tmp_path}/bench.json", *SMALLEST]
    bench(*arguments, "--modes=eager")
    content = json.loads((tmp_path / "bench.json").read_text())
    assert len(content["comparisons"]) == 5
    for found in content["comparisons"]:
        assert set(found["sides"]) == {OURS, "before", "before, again"}
        if "build" not in found["case"]:
            waiting = [found["sides"][side]["min"] for side in ("before", "before, again")]
            assert min(waiting) > 0.2, found["case"]
    for found in content["comparisons"][:3]:  # the steps
        assert found["ratios"]["before"] > 1, found["case"]
    run = bench("versions", check=False)
    assert run.stderr.splitlines()[-1].startswith("error: --before: the suite versions needs")


def comparison(**medians):
    figures = {side: Figures((0.9 * m, m, 1.1 * m)) for side, m in medians.items()}
    return Comparison("dense", "a case", figures, context=["plain"])


def test_what_ours_lost_is_said_at_the_end():
    slower = comparison(ours=0.2, peer=0.1, plain=0.05)
    assert slower.ratios() == pytest.approx({"peer": 0.5, "plain": 0.25})
    (line,) = slower.losses()
    assert "a case: peer 100 ms, ours 200 ms, ratio 0.50" in line and "overlap" not in line
    assert "overlap" in comparison(ours=0.2, peer=0.19).losses()[0]
    assert closing([slower]).splitlines()[1:] == [f"  LOST  {line}"]
    assert "no comparison" in closing([comparison(ours=0.1, peer=0.2)])
    assert " 0.50" in table(slower)


def test_sides_take_turns_there_and_back_after_warming_up():
    calls = []

    def turn(side):
        calls.append(side)
        return {STEP: [float(len(calls))]}

    sides = {side: functools.partial(turn, side) for side in "abc"}
    first, parts = take_turns(sides, rounds=3, warmup=2)
    assert calls == list("abcabcabccbaabc")
    assert first == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert parts[STEP]["b"].values == (8.0, 11.0, 14.0)


@pytest.mark.one_keras
def test_what_a_monitor_costs_is_a_share_of_its_neighbours_step():
    """Three rounds of two or three steps; the machine becomes four times slower."""
    plain, watched = (
        Figures((1.0, 2.0, 9.0, 4.0, 4.0, 8.0)),
        Figures((3.0, 3.0, 0.0, 5.0, 6.0, 5.0)),
    )
    assert watching.cost(plain, watched, 3).values == (0.5, 0.25)
    assert watching.cost(plain, watched, 6).values == (4.0 / 4.0 - 1.0,)
    assert watching.cost(plain, plain, 2).median == 0.0


def test_groups_fit_into_memory_and_ours_is_in_each():
    assert dense.grouped(["ours", "a", "b", "c"], 1e9, 3.0) == [
        ["ours", "a", "b"],
        ["ours", "c"],
    ]
    assert dense.grouped(["ours", "a", "b"], 5e9, 3.0) == [["ours", "a"], ["ours", "b"]]
    assert dense.grouped(["ours"], 1.0, 3.0) == [["ours"]]


def test_models_have_their_known_sizes():
    known = {
        "bert_base": (199, 109_482_240),
        "bert_tiny": (39, 4_385_920),
        "resnet50": (161, 25_557_032),
        "huge": (1, 100_000_000),
        "tiny": (200, 416_000),
        "transformer": (38, 117_092),
    }
    for model in shapes.MODELS:
        sizes = shapes.of_model(model, 200)
        assert (len(sizes), shapes.parameters(sizes)) == known[model]


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("name", "mode"),
    [(n, "eager") for n, record in records().items() if record.keras.name]
    + [("adam", m) for m in settings.MODES[1:]],
)
def test_every_side_takes_the_same_step(name, mode):
    # One variable alone for Nadam: tf_keras multiplies its product for each of them.
    sizes = [(3, 2)] if name == "nadam" else [(3, 2), (4,)]
    # Large ones: legacy RMSprop has its epsilon elsewhere.
    gradients = [tf.constant(100 * g) for g in shapes.gradients(sizes)]
    start, reached = shapes.weights(sizes), {}
    for side in [OURS, *tf_sides.keras_sides(name)[0]]:
        if (name, side) in OTHER_FORMULAS:
            continue
        variables = tf_sides.fresh(start)
        optimizer = tf_sides.make_optimizer(side, name)
        step = tf_sides.dense_step(optimizer, variables, gradients, mode)
        for _ in range(2):
            step()
        reached[side] = variables
    if name in raw_ops.OPTIMIZERS:
        variables = tf_sides.fresh(start)
        step = raw_ops.raw_step(name, variables, gradients, mode)
        for _ in range(2):
            step()
        reached[raw_ops.RAW_OPS] = variables
    known = hasattr(tf.keras.optimizers, records()[name].keras.name or "")
    assert len(reached) > 1 or not known
    for side, variables in reached.items():
        for value, ours, began in zip(variables, reached[OURS], start):
            moved = np.abs(ours.numpy() - began).max()
            assert moved > 0
            np.testing.assert_allclose(
                value.numpy(), ours.numpy(), rtol=0, atol=1e-4 * moved, err_msg=side
            )


def test_a_library_that_is_not_there_is_said_to_be_absent():
    with Peers(sys.executable, 1) as peers:
        for mode, side in (("eager", "torch, fused=True"), ("xla", "optax, jitted")):
            present, absent = peers.sides("adam", mode)
            assert (side in present) != (side in absent)
            assert all("not installed in" in why for why in absent.values())
        assert peers.sides("lamb", "eager") == (
            [],
            {
                side: "has no lamb"
                for side in ("torch, foreach=False", "torch, foreach=True", "torch, fused=True")
            },
        )


def test_a_process_that_fails_raises():
    worker = Worker(sys.executable, "tools.bench.peer_worker", 1, "torch")
    with pytest.raises(RuntimeError, match=r"peer_worker torch ended with code 1 .*'nobody'"):
        worker.ask(do="step", side="nobody")
    worker.close()
