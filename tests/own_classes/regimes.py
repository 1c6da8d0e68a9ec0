"""The ways to train."""

import tempfile

import numpy as np
import tensorflow as tf

from tests.own_classes.cases import KERAS

keras = tf.keras
STEPS = 4
_FIT = {
    "fit": {},
    "fit_jit": {"jit_compile": True},
    "fit_eagerly": {"run_eagerly": True},
}
OPTIONS = {
    "ema": {"use_ema": True, "ema_momentum": 0.75},
    "overwrite": {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 2},
    "clip": {"clipnorm": 0.5},
    "global_clip": {"global_clipnorm": 0.5},
}
REGIMES = (
    "eager", "function", "xla", *_FIT, "no_input", "mixed", "sparse", *OPTIONS, "file",
    "replicas",
)  # fmt: skip


def _starts():
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype("f") for shape in ((3, 2), (2,))]


def _gradients():
    generator = np.random.default_rng(1)
    return [
        [generator.normal(size=shape).astype("f") for shape in ((3, 2), (2,))]
        for _ in range(STEPS)
    ]


def _variables():
    names = ("kernel", "bias")
    return [tf.Variable(v, name=name) for v, name in zip(_starts(), names)]


def _loop(optimizer, compiled=None):
    """Applies gradients in a loop; `compiled` says how the step is traced, if it is."""
    variables = _variables()
    optimizer.build(variables)

    def step(batch):
        optimizer.apply_gradients(list(zip(batch, variables)))

    if compiled is not None:
        step = tf.function(step, autograph=False, jit_compile=compiled)
    for batch in _gradients():
        step([tf.constant(g) for g in batch])
    return variables, [v.numpy() for v in variables]


def _sparse(optimizer):
    variables = _variables()
    optimizer.build(variables)
    for number, batch in enumerate(_gradients()):
        rows = tf.constant([number % 3])
        slices = tf.IndexedSlices(tf.constant(batch[0][:1]), rows, tf.constant([3, 2]))
        optimizer.apply_gradients([(slices, variables[0]), (batch[1] * 1.0, variables[1])])
    return [v.numpy() for v in variables]


def _model(with_input=True):
    layers = [keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(1, dtype="float32")]
    model = keras.Sequential([keras.layers.Input((3,)), *layers] if with_input else layers)
    if with_input:
        _set(model)
    return model


def _set(model):
    generator = np.random.default_rng(2)
    model.set_weights([generator.normal(size=w.shape).astype("f") for w in model.get_weights()])


def _data():
    generator = np.random.default_rng(3)
    return generator.normal(size=(8, 3)).astype("f"), generator.normal(size=(8, 1)).astype("f")


def _trained(model):
    x, y = _data()
    model.fit(x, y, batch_size=4, epochs=STEPS // 2, shuffle=False, verbose=0)
    return model


def _fit(optimizer, with_input=True, **arguments):
    model = _model(with_input)
    model.compile(optimizer, "mse", **arguments)
    if not with_input:
        model.build((None, 3))
        _set(model)
    return _trained(model).get_weights()


def _product(y_true, y_pred):
    return tf.reduce_mean(tf.cast(y_true, tf.float32) * tf.cast(y_pred, tf.float32))


def _mixed(optimizer):
    """Trains in float16, by gradients that do not depend on the weights.

    Weights of two bases that agree in float32 may be neighbours in float16, from where a model
    whose gradients depend on them goes other ways.
    """
    policy = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
        _set(model)
        model.compile(optimizer, _product)
        return _trained(model).get_weights()
    finally:
        keras.mixed_precision.set_global_policy(policy)


def _file(optimizer):
    """Trains, saves, loads, and trains on."""
    model = _model()
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    _trained(model)
    cls = type(optimizer)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder + "/model.keras")
        model = keras.models.load_model(
            folder + "/model.keras", custom_objects={cls.__name__: cls}
        )
    return _trained(model).get_weights()


def uninterrupted(optimizer):
    """What `file` must end at."""
    model = _model()
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    return _trained(_trained(model)).get_weights()


def _replicas(make):
    # Without collectives: another strategy in the process may have them, with one group key.
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    with strategy.scope():
        variables, optimizer = _variables(), make()
        optimizer.build(variables)

    def replica(batch):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.cast(number, tf.float32) * 0.5 + 0.25
        optimizer.apply_gradients([(g * share, v) for g, v in zip(batch, variables)])

    @tf.function(autograph=False)
    def step(batch):
        strategy.run(replica, args=(batch,))

    for batch in _gradients():
        step([tf.constant(g) for g in batch])
    for variable in variables:
        first, second = (v.numpy() for v in strategy.experimental_local_results(variable))
        np.testing.assert_array_equal(first, second)
    return [v.numpy() for v in variables]


def run(regime, make):
    """Returns the weights at the end.

    Args:
      regime: one of `REGIMES`.
      make: makes the optimizer, with options.
    """
    keras.utils.set_random_seed(0)
    if regime == "replicas":
        return _replicas(make)
    optimizer = make(**OPTIONS.get(regime, {}))
    if regime == "ema":
        variables, values = _loop(optimizer)
        if KERAS == 3:  # the averages of Keras 2 start elsewhere, on purpose
            optimizer.finalize_variable_values(variables)
            values += [v.numpy() for v in variables]
        return values
    if regime in ("eager", "function", "xla", *OPTIONS):
        compiled = {"function": False, "xla": True}.get(regime)
        return _loop(optimizer, compiled)[1]
    if regime in _FIT:
        return _fit(optimizer, **_FIT[regime])
    if regime == "no_input":
        return _fit(optimizer, with_input=False)
    return {"mixed": _mixed, "sparse": _sparse, "file": _file}[regime](optimizer)
