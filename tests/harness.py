"""Running an optimizer on given gradients, in every way a user can."""

import contextlib

import numpy as np
import tensorflow as tf

from tf_keras_optim import optimizers

OPTIMIZERS = [getattr(optimizers, n) for n in optimizers.__all__ if n != "Optimizer"]
SHAPES = [(), (7,), (5, 3), (2, 3, 4, 5)]
REGIMES = ["eager", "function", "xla"]
IS_KERAS_3 = not tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras")


def starts(shapes=SHAPES, seed=0):
    """Start values as float32-exact float64 arrays, small so that updates show."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0.0, 0.1, shape).astype("f").astype("d") for shape in shapes]


def gradient_sequence(steps, shapes=SHAPES, seed=1):
    """Gradients as a list over steps of a list over variables, away from zero."""
    generator = np.random.default_rng(seed)
    drift = [generator.normal(0.0, 1.0, shape) for shape in shapes]
    return [
        [(d + generator.normal(0.0, 1.0, d.shape)).astype("f").astype("d") for d in drift]
        for _ in range(steps)
    ]


def run(optimizer, gradients, values, regime="eager", variables=None):
    """Applies gradients to fresh variables; returns their final values in float64."""
    variables = variables or [tf.Variable(v, dtype=tf.float32, name="w") for v in values]
    optimizer.build(variables)

    def step(batch):
        optimizer.apply_gradients(zip(batch, variables))

    if regime != "eager":
        step = tf.function(step, jit_compile=regime == "xla", autograph=False)
    for batch in gradients:
        step([tf.constant(g, tf.float32) for g in batch])
    return [v.numpy().astype("d") for v in variables]


def run_in_replicas(strategy, make, shares, values):
    """Applies per-replica gradients under a strategy; returns the final values.

    `shares[t][r]` are replica r's gradients at step t; the optimizer sums them.
    """
    with strategy.scope():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in values]
        optimizer = make()
        optimizer.build(variables)

    def replica(batches):
        replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
        batch = [tf.gather(g, replica_id) for g in batches]
        optimizer.apply_gradients(zip(batch, variables))

    @tf.function(autograph=False)
    def step(batches):
        strategy.run(replica, args=(batches,))

    for batches in shares:
        step([tf.constant(np.stack(g), tf.float32) for g in zip(*batches)])
    for variable in variables:
        first, second = (v.numpy() for v in strategy.experimental_local_results(variable))
        np.testing.assert_array_equal(first, second)
    return optimizer, [v.numpy().astype("d") for v in variables]


def distance_error(values, expected, start):
    """Largest error of any variable, relative to the farthest that it moved."""
    return max(
        np.max(np.abs(v - e)) / np.max(np.abs(e - s))
        for v, e, s in zip(values, expected, start)
    )


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


def fit(optimizer, epochs=2, batch_size=8, **compile_arguments):
    """Trains the small model; returns it and the loss of each epoch."""
    model = small_model()
    model.compile(optimizer, classification_loss(), **compile_arguments)
    x, y = classification_data()
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model, history.history["loss"]
