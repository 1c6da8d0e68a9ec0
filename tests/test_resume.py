"""Five steps, saved, loaded in a new process, five steps: bit for bit the ten steps."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import resume

HERE = pathlib.Path(__file__).parent


def trajectories(directory):
    """Trains and saves; returns what ten steps give here, and what five gave."""
    expected, start = {}, {}
    for name, make in resume.cases().items():
        model = resume.make_model(make())
        resume.train(model, 0, resume.STEPS)
        (directory / name).mkdir(parents=True)
        resume.save(model, directory / name, name)
        start[name] = resume.result(model)
        resume.train(model, resume.STEPS, 2 * resume.STEPS)
        expected[name] = resume.result(model)
    return expected, start


def evaluated(directory):
    """As `trajectories`, saved with the weights for evaluation in place; and these weights."""
    expected, shown = {}, {}
    for name, make in resume.evaluated().items():
        model = resume.make_model(make())
        resume.train(model, 0, resume.STEPS)
        (directory / name).mkdir(parents=True)
        model.optimizer.use_evaluation_weights()
        resume.save(model, directory / name, name)
        shown[name] = model.get_weights()
        straight = resume.make_model(make())
        resume.train(straight, 0, 2 * resume.STEPS)
        expected[name] = resume.named(straight)
    return expected, shown


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By kind: what the two functions above return, and what another process got."""
    directory = tmp_path_factory.mktemp("saved")
    kinds = {"trained": trajectories, "evaluated": evaluated}
    here = {kind: train(directory / kind) for kind, train in kinds.items()}
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    run = subprocess.run(
        [sys.executable, str(HERE / "resume.py"), str(directory)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    found = {}
    for kind, values in here.items():
        with np.load(directory / kind / "resumed.npz") as resumed:
            found[kind] = (*values, dict(resumed))
    return found


@pytest.mark.one_keras
@pytest.mark.parametrize(("name", "way", "built"), list(resume.loads()))
def test_a_resumed_run_is_the_uninterrupted_one(runs, name, way, built):
    expected, start, resumed = runs["trained"]
    for i, value in enumerate(expected[name]):
        np.testing.assert_array_equal(resumed[f"{name}/{way}/{built}/{i}"], value)
    assert f"{name}/{way}/{built}/{len(expected[name])}" not in resumed
    assert any((a != b).any() for a, b in zip(start[name][:4], expected[name]))


@pytest.mark.parametrize(("name", "way", "built"), list(resume.evaluated_loads()))
def test_what_was_saved_for_evaluation_is_shown_and_trains_on(runs, name, way, built):
    expected, shown, resumed = runs["evaluated"]
    prefix = f"{name}/{way}/{built}/"
    assert resumed[prefix + "mode"]
    for i, value in enumerate(shown[name]):
        np.testing.assert_array_equal(resumed[f"{prefix}shown/{i}"], value)
    assert len(expected[name]) > 6
    assert any((a != b).any() for a, b in zip(shown[name], expected[name]))
    for i, value in enumerate(expected[name]):
        np.testing.assert_array_equal(resumed[f"{prefix}{i}"], value)
