"""Loads what another process has saved after five steps, and trains five more.

python resume.py DIRECTORY

Imported, it has the cases, the model and the steps; run, it loads every case in every way
and writes the weights and the state at the end to resumed.npz: of what is in the folder
"trained", and in the folder "evaluated" of the cases that were saved with their weights for
evaluation in place.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf
from support import state

import tf_keras_optim as tko

STEPS = 5
WAYS = ("keras", "weights", "checkpoint", "state_dict")
WHOLE = ("keras", "directory")  # those that say what to train with


def cases():
    """By name: a function that makes the optimizer.

    One of each kind of state: several slots, slots that do not start from zero, a number for
    all variables, slots that follow the shape; a wrapper with every option. The conformance
    kit resumes every optimizer.
    """
    options = {tko.RMSprop: {"momentum": 0.9, "centered": True}}

    def make(cls):
        return lambda: cls(0.01, jit_compile=False, **options.get(cls, {}))

    kinds = (tko.RMSprop, tko.Adagrad, tko.Nadam, tko.Adafactor)
    found = {cls.__name__: make(cls) for cls in kinds}
    found["LossScale"] = lambda: tko.LossScaleOptimizer(
        tko.Adam(
            tko.schedules.CosineDecay(0.05, 50),
            use_ema=True,
            amsgrad=True,
            gradient_accumulation_steps=2,
            jit_compile=False,
        ),
        initial_scale=8.0,
        dynamic_growth_steps=3,
    )
    return found


def evaluated():
    """As `cases`: optimizers with weights for evaluation."""
    return {
        "ScheduleFreeAdamW": lambda: tko.ScheduleFreeAdamW(0.05, jit_compile=False),
        "Average": lambda: tko.SGD(0.1, momentum=0.9, use_ema=True, jit_compile=False),
    }


def evaluated_loads():
    """As `loads`: every way for one of the two, and whole directories for the other."""
    for way, built in zip(WAYS, (True, False, True, False)):
        yield "ScheduleFreeAdamW", way, built
    whole = [] if harness.IS_KERAS_3 else WHOLE[1:]
    yield from (("Average", way, True) for way in (*WAYS[1::2], *whole))
    yield "Average", "checkpoint", False


def loads():
    """Yields (name, way, built): two cases in every way, one of them built before.

    The wrapper, which holds the state of another, in all combinations.
    """
    for i, name in enumerate(cases()):
        for j, way in enumerate(WAYS):
            if name == "LossScale":
                yield from ((name, way, built) for built in (True, False))
            elif (i + j) % 2 == 0:
                yield name, way, i < 2


def make_model(optimizer, seed=0):
    model = harness.small_model(seed=seed)
    model.compile(optimizer, harness.classification_loss(), run_eagerly=True)
    return model


def train(model, begin, end):
    x, y = harness.classification_data(8 * 2 * STEPS)
    for step in range(begin, end):
        part = slice(8 * step, 8 * step + 8)
        model.train_on_batch(x[part], y[part])


def result(model):
    """Weights and state, by number."""
    return [*model.get_weights(), *model.optimizer.get_weights()]


def named(model):
    """Weights, slots and numbers, by number; not which weights there were."""
    kept = state.by_name(model.optimizer).items()
    others = ("training_value", "evaluating")
    return [*model.get_weights(), *(v for key, v in kept if not key.endswith(others))]


def save(model, directory, name):
    """Saves the model of a case in every way in which it is loaded."""
    ways = {way for case, way, _ in (*loads(), *evaluated_loads()) if case == name}
    if "directory" in ways:
        model.save(str(directory / "model"), save_format="tf")
    if "keras" in ways:
        model.save(str(directory / "model.keras"))
    if "weights" in ways:
        model.save_weights(str(directory / "model.weights.h5"))
    if "checkpoint" in ways:
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        checkpoint.write(str(directory / "ckpt"))
    if "state_dict" in ways:
        tko.save_state(directory / "state.npz", model.optimizer, model.variables)


def load(way, built, make, directory):
    """Returns a model with what was saved in one way, its optimizer built before or not."""
    if way in WHOLE and built:
        name = {"keras": "model.keras", "directory": "model"}[way]
        return tf.keras.models.load_model(str(directory / name))
    model = make_model(make(), seed=1)
    if built:
        model.optimizer.build(model.trainable_variables)
    if way in ("keras", "weights"):
        name = "model.keras" if way == "keras" else "model.weights.h5"
        model.load_weights(str(directory / name))
    elif way == "checkpoint":
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        status = checkpoint.read(str(directory / "ckpt"))
        (status.assert_consumed if built else status.assert_existing_objects_matched)()
    else:
        tko.load_state(directory / "state.npz", model.optimizer, model.variables)
    return model


def resume(directory, shows):
    """Loads and trains on what a folder holds, with weights for evaluation or without."""
    made, found = evaluated() if shows else cases(), {}
    for name, way, built in evaluated_loads() if shows else loads():
        model = load(way, built, made[name], directory / name)
        model.run_eagerly = True  # Keras 3 does not save it
        if shows:
            for i, value in enumerate(model.get_weights()):
                found[f"{name}/{way}/{built}/shown/{i}"] = value
            found[f"{name}/{way}/{built}/mode"] = (
                model.optimizer.built
                or way == "checkpoint"
                or model.optimizer.has_evaluation_weights
            )
            model.optimizer.build(model.trainable_variables)
            found[f"{name}/{way}/{built}/mode"] &= model.optimizer.has_evaluation_weights
            model.optimizer.use_training_weights()
        train(model, STEPS, 2 * STEPS)
        ends = named(model) if shows else result(model)
        for key, value in enumerate(ends):
            found[f"{name}/{way}/{built}/{key}"] = value
        tf.keras.backend.clear_session()
    np.savez(directory / "resumed.npz", **found)


if __name__ == "__main__":
    for folder in ("trained", "evaluated"):
        resume(pathlib.Path(sys.argv[1]) / folder, folder == "evaluated")
