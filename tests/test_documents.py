"""The examples in README.md and in the docstrings run as they stand."""

import doctest
import inspect
import pathlib
import re

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state

README = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


def test_there_is_an_example_for_each_use():
    for text in ("model.fit(", "GradientTape", "tfp.", "export_training(", "load_state("):
        assert any(text in example for example in EXAMPLES), text


@pytest.mark.parametrize("example", range(len(EXAMPLES)))
def test_readme_examples_run(example):
    exec(compile(EXAMPLES[example], "README.md", "exec"), {"__name__": "example"})


CLASSES = {
    name: value
    for module in (tko, tko.schedules)
    for name, value in vars(module).items()
    if name in module.__all__ and isinstance(value, type)
}


@pytest.mark.one_keras
@pytest.mark.parametrize("name", CLASSES)
def test_docstring_examples_are_true(name):
    cls = CLASSES[name]
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    names = {"tf": tf, "np": np, "tko": tko, **CLASSES}
    for case in finder.find(cls, name, globs=names):
        runner.run(case)
    assert runner.summarize(verbose=False).failed == 0
    bases = (tko.Optimizer, tko.schedules.Schedule)
    if issubclass(cls, bases) and cls not in bases:
        assert runner.tries > 0


def test_shared_arguments_stand_in_every_docstring():
    for cls in harness.OPTIMIZERS:
        for name in state.hyperparameters(cls):
            assert re.search(rf"^ +{name}: ", cls.__doc__, re.M), (cls, name)


def test_everything_public_is_documented():
    for name in tko.__all__:
        assert getattr(tko, name).__doc__
    arguments = {
        cls: list(inspect.signature(cls).parameters)
        for cls in CLASSES.values()
        if issubclass(cls, tko.schedules.Schedule) and cls is not tko.schedules.Schedule
    }
    arguments[tko.LossScaleOptimizer] = tko.LossScaleOptimizer(tko.SGD()).get_config()
    for cls, names in arguments.items():
        assert "{{" not in cls.__doc__
        for name in names:
            assert re.search(rf"^ +{name}: [^\s.,]", cls.__doc__, re.M), (cls, name)
