"""Sharpness-aware minimization, against two passes written by hand."""

import numpy as np
import pytest
import tensorflow as tf
from support import steps

import tf_keras_optim as tko

keras = tf.keras
RHO = 0.3
STARTS = [np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([0.3, -0.4])]
SCALES = [np.array([[1.0, 3.0], [0.2, 2.0]]), np.array([2.0, 0.5])]


def loss_of(variables):
    """Of which the gradient is a^2 w + w^3."""
    total = 0.0
    for variable, scale in zip(variables, SCALES):
        scaled = tf.constant(scale, tf.float32) * variable
        total += (
            tf.reduce_sum(scaled**2) / 2 + tf.reduce_sum(tf.square(tf.square(variable))) / 4
        )
    return total


def gradients_of(weights):
    return [a**2 * w + w**3 for a, w in zip(SCALES, weights)]


def expected(count, adaptive=False, every=1, rho=RHO):
    """SGD with momentum 0.5 at rate 0.1, in float64."""
    weights, momenta = [w.copy() for w in STARTS], [np.zeros_like(w) for w in STARTS]
    for step in range(count):
        gradients = gradients_of(weights)
        if step % every == 0:
            sizes = [np.abs(w) + 0.01 if adaptive and w.ndim > 1 else 1.0 for w in weights]
            norm = np.sqrt(sum(np.sum((t * g) ** 2) for t, g in zip(sizes, gradients)))
            climbed = [w + rho * t**2 * g / norm for w, t, g in zip(weights, sizes, gradients)]
            gradients = gradients_of(climbed)
        momenta = [0.5 * m - 0.1 * g for m, g in zip(momenta, gradients)]
        weights = [w + m for w, m in zip(weights, momenta)]
    return weights


def made():
    return [tf.Variable(w, name=f"w{i}", dtype=tf.float32) for i, w in enumerate(STARTS)]


def sgd(**options):
    return tko.SGD(0.1, momentum=0.5, jit_compile=False, **options)


def close(variables, weights, tolerance=2e-6):
    for variable, weight in zip(variables, weights):
        np.testing.assert_allclose(np.asarray(variable), weight, rtol=0, atol=tolerance)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("options", "regime"),
    [
        *(({}, regime) for regime in ("eager", "function", "xla")),
        *(({"adaptive": True}, regime) for regime in ("function", "xla")),
        *(({"every": 3}, regime) for regime in ("eager", "function", "xla")),
    ],
    ids=str,
)
def test_the_steps_are_those_of_the_formula(regime, options):
    variables = made()
    sharp = tko.SharpnessAware(sgd(), RHO, **options)
    sharp.optimizer.build(variables)
    step = steps.in_regime(
        lambda: sharp.minimize(lambda: loss_of(variables), variables), regime
    )
    for _ in range(5):
        step()
    close(variables, expected(5, **options))
    assert np.abs(expected(5)[0] - expected(5, rho=0.0)[0]).max() > 1e-2


@pytest.mark.one_keras
def test_gradients_of_ones_own_come_in_pairs():
    variables = made()
    sharp = tko.SharpnessAware(sgd(), RHO)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = loss_of(variables)
        pairs = list(zip(tape.gradient(loss, variables), variables))
        sharp.apply_gradients(pairs, lambda: loss_of(variables))
    close(variables, expected(2))


@pytest.mark.one_keras
def test_without_a_distance_it_is_the_optimizer_inside():
    variables, others = made(), made()
    sharp, plain = tko.SharpnessAware(tko.Adam(0.1), 0.0), tko.Adam(0.1)
    for _ in range(3):
        sharp.minimize(lambda: loss_of(variables), variables)
        plain.minimize(lambda: loss_of(others), others)
    close(variables, [v.numpy() for v in others], tolerance=0)


def test_an_overflow_of_the_first_gradient_skips_the_step():
    variables = made()
    optimizer = tko.LossScaleOptimizer(sgd(), initial_scale=1024.0)
    optimizer.build(variables)
    sharp, factor = tko.SharpnessAware(optimizer, RHO), tf.Variable(1.0)
    for given in (1.0, np.inf, 1.0):
        factor.assign(given)
        before = [v.numpy() for v in variables]
        sharp.minimize(lambda: factor * loss_of(variables), variables)
        if given == np.inf:
            close(variables, before, tolerance=0)
    assert int(optimizer.skipped_steps.numpy()) == 1
    close(variables, expected(2))


@pytest.mark.one_keras
def test_replicas_climb_by_themselves(strategies):
    strategy = strategies[2]
    with strategy.scope():
        variables, optimizer = made(), sgd()
        optimizer.build(variables)
    sharp = tko.SharpnessAware(optimizer, RHO)

    @tf.function
    def run():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            factor = 0.5 * tf.cast(2 * number - 1, tf.float32)  # of the linear part

            def loss():
                linear = [tf.reduce_sum(v) for v in variables]
                return loss_of(variables) / 2 + factor * tf.add_n(linear)

            sharp.minimize(loss, variables)

        strategy.run(replica)

    run()
    total = [0.0, 0.0]
    for factor in (-0.5, 0.5):
        first = [g / 2 + factor for g in gradients_of(STARTS)]
        norm = np.sqrt(sum(np.sum(g**2) for g in first))
        climbed = [w + RHO * g / norm for w, g in zip(STARTS, first)]
        second = [g / 2 + factor for g in gradients_of(climbed)]
        total = [t + g for t, g in zip(total, second)]
    close(variables, [w - 0.1 * g for w, g in zip(STARTS, total)])
    for variable in variables:
        one, other = strategy.experimental_local_results(variable)
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def model_with_statistics():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    body = [layers.Dense(5, activation="tanh"), layers.BatchNormalization()]
    return keras.Sequential([keras.Input((3,)), *body, layers.Dense(2)])


def batches():
    generator = np.random.default_rng(0)
    return [generator.normal(size=(12, n)).astype("f") for n in (3, 2)]


HOW = [{}, {"run_eagerly": True}, {"jit_compile": True}]


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("wrapper", "how"),
    [
        *((None, how) for how in HOW),
        *(("ours", how) for how in HOW[1:]),
        *(("Keras' own", how) for how in HOW[::2]),
    ],
    ids=str,
)
def test_fit_takes_two_passes(how, wrapper):
    x, y = batches()
    model, by_hand = model_with_statistics(), model_with_statistics()
    optimizer = sgd()
    if wrapper:
        theirs = getattr(keras.optimizers, "LossScaleOptimizer", None)
        theirs = theirs or keras.mixed_precision.LossScaleOptimizer
        cls = tko.LossScaleOptimizer if wrapper == "ours" else theirs
        optimizer = cls(optimizer, initial_scale=64.0)
    how = {"jit_compile": False, **how}
    model.compile(optimizer, "mse", metrics=["mae"], **how)
    assert tko.sharpness_aware(model, RHO) is model
    history = model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0).history
    optimizer, losses = sgd(), []
    variables = by_hand.trainable_variables
    for start in range(0, 12, 4):
        part = slice(start, start + 4)

        def passed(part=part):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((by_hand(x[part], training=True) - y[part]) ** 2)
            return loss, tape.gradient(loss, variables)

        loss, first = passed()
        losses.append(float(loss))
        weights = [np.asarray(v) for v in variables]
        statistics = [np.asarray(v) for v in by_hand.non_trainable_variables]
        norm = np.sqrt(sum(np.sum(np.asarray(g) ** 2) for g in first))
        for variable, gradient in zip(variables, first):
            variable.assign(variable + RHO * gradient / norm)
        _, second = passed()
        for variable, weight in zip(variables, weights):
            variable.assign(weight)
        for variable, value in zip(by_hand.non_trainable_variables, statistics):
            variable.assign(value)
        optimizer.apply_gradients(zip(second, variables))
    for one, other in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    np.testing.assert_allclose(history["loss"], [np.mean(losses)], rtol=1e-5)


def test_statistics_and_metrics_are_those_of_a_plain_step():
    x, y = batches()
    found = []
    for sharp in (True, False):
        model = model_with_statistics()
        model.compile(sgd(), "mse", metrics=["mae"], jit_compile=False)
        if sharp:
            tko.sharpness_aware(model, RHO)
        logs = model.train_on_batch(x, y, return_dict=True)
        found.append([*map(np.asarray, model.non_trainable_variables), *logs.values()])
    assert len(found[0]) == 4
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(keras.__name__.startswith("tf_keras"), reason="Keras 2 draws new masks")
def test_both_passes_draw_the_same_masks():
    """With a rho of 0 they are one step only where the masks are the same."""
    x, y = batches()
    found = []
    for sharp in (True, False):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((3,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(sgd(), "mse", jit_compile=False)
        if sharp:
            tko.sharpness_aware(model, 0.0)
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


class WithoutComputeLoss(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return {"loss": loss}


def test_what_cannot_be_done_is_refused():
    variables = made()
    with pytest.raises(ValueError, match="`gradient_accumulation_steps`=2, with which"):
        tko.SharpnessAware(sgd(gradient_accumulation_steps=2))
    later = tko.SharpnessAware(sgd())
    later.optimizer.gradient_accumulation_steps = 2
    with pytest.raises(ValueError, match="second pass is not possible with `gradient_acc"):
        later.minimize(lambda: loss_of(variables), variables)
    close(variables, STARTS, tolerance=1e-7)
    for wrong in ({"rho": -1.0}, {"every": 0}, {"adaptive": "yes"}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tko.SharpnessAware(sgd(), **wrong)
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tko.sharpness_aware(model_with_statistics(), **wrong)
    with pytest.raises(TypeError, match="needs an optimizer of tf_keras_optim"):
        tko.SharpnessAware(keras.optimizers.SGD())
    with pytest.raises(TypeError, match="must be a function without arguments"):
        tko.SharpnessAware(sgd()).minimize(tf.constant(1.0), variables)
    with pytest.raises(TypeError, match="argument `model` must be a model"):
        tko.sharpness_aware(sgd())
    model = WithoutComputeLoss([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(sgd(), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="`compute_loss` 0 times, and applied gradients 1"):
        tko.sharpness_aware(model).fit(*batches(), verbose=0)


@pytest.mark.one_keras
def test_variables_of_16_bits_are_refused():
    for dtype in (tf.bfloat16, tf.float16):
        variable = tf.Variable([1.0, 2.0], dtype=dtype)
        with pytest.raises(ValueError, match=rf"1 of 1, the first has {dtype.name}"):
            tko.SharpnessAware(sgd()).minimize(lambda v=variable: v[0] * v[1], [variable])
        np.testing.assert_array_equal(tf.cast(variable, tf.float32), [1.0, 2.0])


@pytest.mark.one_keras
def test_only_the_rows_of_a_batch_climb_and_move():
    table = tf.Variable([[1.0, -2.0], [3.0, 0.5], [2.0, 2.0]])
    sharp = tko.SharpnessAware(sgd(sparse="lazy"), RHO)
    sharp.minimize(lambda: tf.reduce_sum(tf.gather(table, [0, 2]) ** 2) / 2, [table])
    before = np.array([[1.0, -2.0], [2.0, 2.0]])
    climbed = before + RHO * before / np.sqrt(np.sum(before**2))
    np.testing.assert_allclose(table.numpy()[[0, 2]], before - 0.1 * climbed, rtol=1e-6)
    np.testing.assert_array_equal(table.numpy()[1], [3.0, 0.5])


def frozen_then_not(rho):
    """Weights after an epoch with a frozen layer and one without; `None`: no second pass."""
    x, y = batches()
    model = model_with_statistics()
    model.layers[0].trainable = False
    model.compile(sgd(), "mse", jit_compile=False)
    if rho is not None:
        tko.sharpness_aware(model, rho)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    model.layers[0].trainable = True
    model.compile(model.optimizer, "mse", jit_compile=False)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()


def test_a_layer_that_is_thawed_later_climbs_too():
    plain, nowhere, sharp = map(frozen_then_not, (None, 0.0, RHO))
    for one, other in zip(plain, nowhere, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert np.abs(plain[0] - sharp[0]).max() > 1e-4


class Stops(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_with_every_second_pass(tmp_path):
    """An epoch has three steps, so that the second one begins between two second passes."""
    x, y = batches()

    def trained(*callbacks):
        model = model_with_statistics()
        model.compile(sgd(), "mse", jit_compile=False)
        tko.sharpness_aware(model, RHO, every=2)
        how = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=list(callbacks), **how)
        return model.get_weights()

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(backup(), Stops())
    for one, other in zip(whole, trained(backup()), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_keras
def test_a_second_pass_that_raises_leaves_the_weights():
    variables, calls = made(), []

    def loss():
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("of the user's")
        return loss_of(variables)

    with pytest.raises(RuntimeError, match="of the user's"):
        tko.SharpnessAware(sgd(), RHO).minimize(loss, variables)
    close(variables, STARTS, tolerance=1e-7)
