"""Five steps, saved, loaded in a new process, five steps: bit for bit the ten steps."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import resume

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    """What ten steps give here, and what the other process got."""
    directory = tmp_path_factory.mktemp("saved")
    expected, start = {}, {}
    for name, make in resume.cases().items():
        model = resume.make_model(make())
        resume.train(model, 0, resume.STEPS)
        (directory / name).mkdir()
        resume.save(model, directory / name, name)
        start[name] = resume.result(model)
        resume.train(model, resume.STEPS, 2 * resume.STEPS)
        expected[name] = resume.result(model)
    return expected, start, in_another_process(directory)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """As `trajectories`, saved with the weights for evaluation in place; and these weights."""
    directory = tmp_path_factory.mktemp("evaluated")
    expected, shown = {}, {}
    for name, make in resume.evaluated().items():
        model = resume.make_model(make())
        resume.train(model, 0, resume.STEPS)
        (directory / name).mkdir()
        model.optimizer.use_evaluation_weights()
        resume.save(model, directory / name, name)
        shown[name] = model.get_weights()
        straight = resume.make_model(make())
        resume.train(straight, 0, 2 * resume.STEPS)
        expected[name] = resume.named(straight)
    return expected, shown, in_another_process(directory, "evaluated")


def in_another_process(directory, *arguments):
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    run = subprocess.run(
        [sys.executable, str(HERE / "resume.py"), str(directory), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    with np.load(directory / "resumed.npz") as resumed:
        return dict(resumed)


@pytest.mark.one_keras
@pytest.mark.parametrize(("name", "way", "built"), list(resume.loads()))
def test_a_resumed_run_is_the_uninterrupted_one(trajectories, name, way, built):
    expected, start, resumed = trajectories
    for i, value in enumerate(expected[name]):
        np.testing.assert_array_equal(resumed[f"{name}/{way}/{built}/{i}"], value)
    assert f"{name}/{way}/{built}/{len(expected[name])}" not in resumed
    assert any((a != b).any() for a, b in zip(start[name][:4], expected[name]))


@pytest.mark.parametrize(("name", "way", "built"), list(resume.evaluated_loads()))
def test_what_was_saved_for_evaluation_is_shown_and_trains_on(evaluated, name, way, built):
    expected, shown, resumed = evaluated
    prefix = f"{name}/{way}/{built}/"
    assert resumed[prefix + "mode"]
    for i, value in enumerate(shown[name]):
        np.testing.assert_array_equal(resumed[f"{prefix}shown/{i}"], value)
    assert len(expected[name]) > 6
    assert any((a != b).any() for a, b in zip(shown[name], expected[name]))
    for i, value in enumerate(expected[name]):
        np.testing.assert_array_equal(resumed[f"{prefix}{i}"], value)
