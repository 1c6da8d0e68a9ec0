"""The examples in README.md and in the docstrings run as they stand."""

import doctest
import pathlib
import re

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

README = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


def test_there_is_an_example_for_each_use():
    assert ["fit(" in e for e in EXAMPLES].count(True) == 1
    assert ["GradientTape" in e for e in EXAMPLES].count(True) == 1
    assert ["tfp." in e for e in EXAMPLES].count(True) == 1


@pytest.mark.parametrize("example", range(len(EXAMPLES)))
def test_readme_examples_run(example):
    exec(compile(EXAMPLES[example], "README.md", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", [n for n in tko.__all__ if isinstance(getattr(tko, n), type)])
def test_docstring_examples_are_true(name):
    cls = getattr(tko, name)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    names = {"tf": tf, "np": np, "tko": tko, name: cls}
    for case in finder.find(cls, name, globs=names):
        runner.run(case)
    assert runner.summarize(verbose=False).failed == 0
    if issubclass(cls, tko.Optimizer) and cls is not tko.Optimizer:
        assert runner.tries > 0


def test_shared_arguments_stand_in_every_docstring():
    for cls in harness.OPTIMIZERS:
        for name in cls._parameters:
            assert re.search(rf"^ +{name}: ", cls.__doc__, re.M), (cls, name)


def test_everything_public_is_documented():
    for name in tko.__all__:
        assert getattr(tko, name).__doc__
