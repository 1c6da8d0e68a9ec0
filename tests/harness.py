"""Running an optimizer on given gradients, in every way a user can."""

import contextlib

import numpy as np
import oracles
import tensorflow as tf

from tf_keras_optim.optimizers import Optimizer
from tf_keras_optim.optimizers.records import of, records
from tf_keras_optim.testing.trials import (  # noqa: F401  (the tests take them from here)
    REGIMES,
    SHAPES,
    distance_error,
    gradient_sequence,
    run,
    run_in_replicas,
    starts,
)

RECORDS = list(records().values())
OPTIMIZERS = [record.cls for record in RECORDS]
IS_KERAS_3 = not tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras")


def oracle_of(cls):
    """The float64 reference of an optimizer, over a list of gradients."""
    name = of(cls).oracle
    if name not in oracles.ALGORITHMS:
        raise KeyError(
            f"{cls.__name__} is registered, but has no oracle: tests/oracles.py has no "
            f"algorithm {name!r}. Write it there, from the paper, or name another by `oracle=`."
        )
    return oracles.over_a_list(name)


def expected(cls, values, gradients, **arguments):
    """The float64 reference's final variables; of what has numbers over all variables, one run.

    Args:
      cls: the optimizer.
      values: the start of each variable.
      gradients: by step and variable.
      **arguments: hyperparameters.
    """
    oracle = oracle_of(cls)
    if cls.measure is Optimizer.measure:
        columns = [[batch[i] for batch in gradients] for i in range(len(values))]
        return [oracle(v, column, **arguments) for v, column in zip(values, columns)]

    def flat(arrays):
        return np.concatenate([np.ravel(array) for array in arrays])

    whole = oracle(flat(values), [flat(batch) for batch in gradients], **arguments)
    ends = np.cumsum([np.size(value) for value in values])
    return [p.reshape(np.shape(v)) for p, v in zip(np.split(whole, ends[:-1]), values)]


def for_keras(values):
    """Variables of TensorFlow, with a path as Keras' own have it; Keras' Muon asks for it."""
    variables = [tf.Variable(value, dtype=tf.float32) for value in values]
    for number, variable in enumerate(variables):
        variable.path = f"variable_{number}"
    return variables


def fixed(name):
    """Arguments by which ours does what Keras' optimizer of a name does."""
    return next((dict(r.keras.fixed) for r in RECORDS if r.keras.name == name), {})


def scope_of(strategy, replicas):
    return strategy.scope() if replicas > 1 else contextlib.nullcontext()


def small_model(seed=0, units=3):
    keras = tf.keras
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((8,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(units, name="head"),
        ],
        name="small",
    )


def classification_data(samples=64, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(samples, 8)).astype("f")
    y = generator.integers(0, 3, samples)
    return x, y


def classification_loss():
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(optimizer, epochs=1, batch_size=8, **compile_arguments):
    """Trains the small model; returns it and the loss of each epoch."""
    model = small_model()
    model.compile(optimizer, classification_loss(), **compile_arguments)
    x, y = classification_data()
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model, history.history["loss"]
