"""Real processes under MultiWorkerMirroredStrategy, and parameter servers; loopback."""

import json
import os
import pathlib
import subprocess
import sys

import harness
import numpy as np
import parameter_server
import pytest
import tensorflow as tf
import worker

import tf_keras_optim as tko
from tests import worker_kills

HERE = pathlib.Path(__file__).parent


def run(*program):
    """Runs a program of the tests, which starts processes of its own; returns its output."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    found = subprocess.run(
        [sys.executable, *map(str, program)],
        env=os.environ | {"PYTHONPATH": path},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout.splitlines()


def results(directory, case):
    """By worker: arrays and numbers."""
    found = []
    for index in range(2):
        with np.load(directory / f"{case}_{index}.npz") as saved:
            arrays = [saved[f"arr_{i}"] for i in range(len(saved.files) - 1)]
            found.append((arrays, json.loads(str(saved["numbers"]))))
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Results of all cases, from two starts: in the first, a worker dies at the end."""
    directory = tmp_path_factory.mktemp("workers")
    run(HERE / "worker.py", directory)
    return directory


def mirrored(strategy, scaled):
    """The same run with two replicas in this process."""
    with strategy.scope():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in worker.starts()]
        optimizer = worker.make(scaled)
        optimizer.build(variables)

    @tf.function(autograph=False)
    def run(dense, ids, rows, factor):
        def replica():
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            parts = [g[own] for g in dense], ids[own], rows[own]
            worker.apply(optimizer, variables, scaled, *parts, factor)

        strategy.run(replica)

    for step in range(worker.STEPS):
        parts = [worker.parts(step, index) for index in range(2)]
        dense = [tf.constant(np.stack(g), tf.float32) for g in zip(*(p[0] for p in parts))]
        ids, rows = (tf.constant(np.stack([p[i] for p in parts])) for i in (1, 2))
        factor = float(optimizer.loss_scale) if scaled else 1.0
        run(dense, ids, rows, tf.constant(factor))
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.one_keras(3)
def test_two_workers_equal_two_replicas(scaled, directory, strategy):
    expected = mirrored(strategy, scaled)
    (first, numbers), (second, _) = results(directory, "scaled" if scaled else "plain")
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)
    for value, other in zip(first, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    assert numbers["iterations"] == worker.STEPS


@pytest.mark.one_keras(3)
def test_an_overflow_on_one_worker_skips_the_step_on_both(directory):
    found = results(directory, "overflow")
    for arrays, numbers in found:
        assert numbers == {
            "begin": 0,
            "iterations": worker.STEPS - 1,
            "scale": worker.SCALE / 2,
            "skipped": 1,
        }
        assert all(np.isfinite(a).all() for a in arrays)
    for one, other in zip(found[0][0], found[1][0]):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_keras(3)
def test_a_killed_worker_and_a_restart_change_nothing(directory):
    assert not list(directory.glob("dies_*"))
    for (arrays, numbers), (expected, others) in zip(
        results(directory, "resumes"), results(directory, "scaled")
    ):
        assert 0 < numbers["begin"] <= 7
        assert numbers | {"begin": 0} == others
        for one, other in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.one_keras(3)
def test_data_that_is_dealt_out_trains_like_one_process(directory):
    """The last batch has one sample, so one worker has none."""

    def epochs(step):
        x, y = worker.line()
        for _ in range(2):
            for begin in range(0, worker.SAMPLES, worker.BATCH):
                part = slice(begin, begin + worker.BATCH)
                step(tf.constant(x[part]), tf.constant(y[part]))

    expected, _ = worker.fit_line(epochs, lambda: tko.AdamW(0.1, global_clipnorm=1.0))
    (first, numbers), (second, others) = results(directory, "shards")
    assert numbers["iterations"] == others["iterations"] == 6
    assert [numbers["sizes"], others["sizes"]] == [2 * [4, 4, 1], 2 * [4, 4, 0]]
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(first[0], expected.numpy(), rtol=0, atol=1e-6)
    assert np.abs(first[0]).max() > 0.3


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has no such `fit`, tf_keras has")
def test_a_worker_that_dies_in_fit_and_comes_back_later_changes_nothing():
    """Three workers, an overflow on one, a smaller last batch, BackupAndRestore."""
    (line,) = run("-m", "tests.worker_kills", "--count=1", "--seed=1")
    found = json.loads(line)
    assert found["different"] == 0 and found["numbers_equal"]
    steps, whole = worker_kills.STEPS, found["whole"]
    assert 1 <= found["begin"] <= found["step"] // steps  # it did not begin anew
    assert whole["iterations"] == worker_kills.EPOCHS * steps - 1
    assert whole["skipped"] == 1
    assert whole["scale"] == 2 * worker_kills.SCALE  # halved once, and doubled twice


@pytest.fixture(scope="module")
def served():
    return list(map(json.loads, run(HERE / "parameter_server.py")[-5:]))


@pytest.mark.one_keras(2)
def test_parameter_servers_equal_one_process(served):
    """Two workers, two servers, a sharded table and kernel, a global clip, serialised."""
    for found in served[1:3]:  # compiled, and not
        assert found["difference"] <= 1e-6
        assert found["moved"] > 0.1
        assert found["shards"] == 2
        assert found["servers"] == ["0", "1"]
        assert found["beside"] is True
        assert found["iterations"] == 6
        assert found["measured"] == pytest.approx(found["to be measured"], rel=1e-6)


@pytest.mark.one_keras(2)
def test_no_update_is_lost_where_workers_do_not_wait_for_each_other(served):
    found, steps = served[3], parameter_server.ASYNCHRONOUS
    assert found["iterations"] == [steps, steps]
    assert found["count"] == [steps, steps]  # each element, each update
    assert found["rows"] == [0.0, steps, 0.0, steps]  # the second of each server
    # The rate changes with the global count; a step may have read it just before it changed.
    rates, changes = parameter_server.RATES, parameter_server.CHANGES_AT
    expected = rates[0] * changes + rates[1] * (steps - changes)
    assert expected <= found["sum"][0] <= found["sum"][1] <= expected + 0.05
    assert found["rate"] == rates[1]
    assert found["learned"][1] < 1e-4  # from 1
    # Four gradients of 1, and some of nearly 0; of one of the last steps.
    assert found["measured"]["gradient_norm"] == pytest.approx(2.0, rel=1e-3)
    assert found["measured"]["learning_rate"] == rates[1]
    assert changes < found["measured"]["update"] <= steps


@pytest.mark.one_keras(2)
def test_a_worker_that_comes_late_or_again_takes_its_part(served):
    """TensorFlow takes the step again that a worker had begun when it was killed."""
    found, steps, kills = served[0], parameter_server.LATE_STEPS, parameter_server.KILLS
    assert sum(found["steps"]) == steps
    assert len(found["steps"]) == 2 + kills  # each start of a worker took some of them
    assert min(found["steps"]) > 0
    for count in (found["iterations"], *found["counts"]):
        assert steps <= count <= steps + kills


@pytest.mark.one_keras(2)
def test_what_needs_an_order_of_the_workers_is_refused(served):
    accumulation, scale = served[4]["accumulation"], served[4]["loss scale"]
    assert "`gradient_accumulation_steps=2` is not possible under Parameter" in accumulation
    assert "a LossScaleOptimizer is not possible under Parameter" in scale
