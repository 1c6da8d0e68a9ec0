"""Two real processes under MultiWorkerMirroredStrategy, and parameter servers; loopback."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import worker

HERE = pathlib.Path(__file__).parent


def free_ports():
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for s in sockets:
            s.bind(("localhost", 0))
        return [s.getsockname()[1] for s in sockets]


def start(directory, *cases):
    """Starts both workers; returns their processes."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports()]}
    processes = []
    for index in range(2):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        path = os.pathsep.join([str(HERE), str(HERE.parent)])
        processes.append(
            subprocess.Popen(
                [sys.executable, str(HERE / "worker.py"), str(directory), *cases],
                env=os.environ | {"TF_CONFIG": json.dumps(config), "PYTHONPATH": path},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def require(process, code):
    _, errors = process.communicate(timeout=500)
    assert process.returncode == code, errors[-3000:]


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
    first, second = start(directory, "plain", "scaled", "overflow", "dies")
    try:
        require(second, 9)
    finally:
        first.kill()  # it waits for the other one
        first.communicate()
    for process in start(directory, "resumes"):
        require(process, 0)
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


@pytest.mark.one_keras(2)
def test_parameter_servers_equal_one_process():
    """Two workers, two servers, a sharded table and kernel, a global clip, serialised."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    run = subprocess.run(
        [sys.executable, str(HERE / "parameter_server.py")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for found in map(json.loads, run.stdout.splitlines()[-2:]):  # compiled, and not
        assert found["difference"] <= 1e-6
        assert found["moved"] > 0.1
        assert found["shards"] == 2
        assert found["servers"] == ["0", "1"]
        assert found["beside"] is True
        assert found["iterations"] == 6
