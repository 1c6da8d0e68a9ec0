"""What an optimizer keeps and tells, by its public methods."""

import inspect

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko


def inner(optimizer):
    """The optimizer, without a LossScaleOptimizer around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def by_name(optimizer):
    """Every state variable: numbers by their names, slots as "variable/slot"."""
    state = optimizer.state_dict()
    found = {**state["scalars"], **state["extra"]}
    for path, kept in state["variables"].items():
        found |= {f"{path}/{slot}": value for slot, value in kept.items()}
    return found


def slots(optimizer, number=0):
    """What is kept for one variable, by slot."""
    return list(inner(optimizer).state_dict()["variables"].values())[number]


def averages(optimizer):
    """The moving average of each variable."""
    kept = inner(optimizer).state_dict()["variables"].values()
    return [of_variable["average"] for of_variable in kept]


def native(variable):
    """TensorFlow's variable of what an optimizer or a model lists."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def assert_equal(one, other):
    """Two state dicts are the same, apart from what the weights are."""
    assert {k: one[k] for k in ("format", "version", "class_name")} == {
        k: other[k] for k in ("format", "version", "class_name")
    }
    assert one["variables"].keys() == other["variables"].keys()
    for mine, theirs in [
        (one["scalars"], other["scalars"]),
        (one["extra"], other["extra"]),
        *((one["variables"][path], other["variables"][path]) for path in one["variables"]),
    ]:
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(mine[name], theirs[name])


def reports(optimizer):
    """What the optimizer tells of each variable, in its order."""
    return optimizer.explain(print_fn=lambda text: None)


def path_of(variable):
    """A variable's name, with those of its layers."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def hyperparameters(cls):
    """A class' declared arguments by their names."""
    found = {name: inspect.getattr_static(cls, name, None) for name in dir(cls)}
    return {name: p for name, p in found.items() if isinstance(p, tko.Hyperparameter)}
