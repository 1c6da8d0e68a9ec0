"""Mixed precision that survives an overflow on any replica, and skipping without a scale."""

import json

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tf_keras_optim import LossScaleOptimizer

keras = tf.keras
INF = float("inf")


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def tiny_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(8, activation="tanh", name="hidden"),
            keras.layers.Dense(1, dtype="float32", name="head"),
        ],
        name="tiny",
    )


def number(variable):
    return int(variable.numpy())


def batch(replicas, bad=None, seed=0):
    """Two rows for each replica; those of replica `bad` overflow float16."""
    x = np.random.default_rng(seed).normal(size=(2 * replicas, 4)).astype("f")
    if bad is not None:
        x[2 * bad : 2 * bad + 2] = 1e30
    return x, np.ones((2 * replicas, 1), "f")


def snapshot(model, optimizer):
    """Every weight and everything the optimizer keeps, but the scale and the counters."""
    of_scale = ("dynamic_scale", "step_counter", "skipped_steps", "consecutive_skips")
    arrays = {k: v for k, v in state.by_name(optimizer).items() if k not in of_scale}
    return arrays | {v.name + str(i): v.numpy() for i, v in enumerate(model.weights)}


def same(before, after):
    assert before.keys() == after.keys()
    return all(np.array_equal(before[name], after[name]) for name in before)


def by_fit(model, optimizer, strategy):
    model.compile(optimizer, "mse")
    assert model.optimizer is optimizer

    def train(x, y):
        model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)

    return train


def by_loop(model, optimizer, strategy):
    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(tf.reduce_mean((model(x, training=True) - y) ** 2))
        gradients = tape.gradient(loss, model.trainable_variables)
        if not harness.IS_KERAS_3:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    @tf.function(autograph=False)
    def step(xs, ys):
        def run():
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            replica(tf.gather(xs, own), tf.gather(ys, own))

        strategy.run(run)

    def train(x, y):
        count = strategy.num_replicas_in_sync
        step(*(tf.constant(a.reshape(count, 2, -1)) for a in (x, y)))

    return train


@pytest.mark.parametrize(
    ("replicas", "way"), [(2, by_fit), pytest.param(4, by_loop, marks=pytest.mark.one_keras)]
)
def test_an_overflow_on_one_replica_skips_the_step_on_all(
    replicas, way, strategies, half_precision
):
    """On each of them in turn; a good step comes between."""
    strategy = strategies[replicas]
    with strategy.scope():
        model = tiny_model()
        optimizer = LossScaleOptimizer(
            tko.AdamW(1e-2, use_ema=True, ema_overwrite_frequency=2), initial_scale=1024.0
        )
    train = way(model, optimizer, strategy)
    train(*batch(replicas))
    after = snapshot(model, optimizer)
    assert number(optimizer.iterations) == 1
    for bad in range(replicas):
        before = after
        train(*batch(replicas, bad))
        assert same(before, snapshot(model, optimizer))
        assert float(optimizer.loss_scale) == 512.0 / 2**bad
        assert number(optimizer.skipped_steps) == bad + 1
        assert number(optimizer.step_counter) == 0
        train(*batch(replicas, seed=bad + 1))
        after = snapshot(model, optimizer)
        assert not same(before, after)
        assert all(np.isfinite(value).all() for value in after.values())
        counts = number(optimizer.iterations), number(optimizer.skipped_steps)
        assert counts == (bad + 2, bad + 1)
        for variable in (optimizer.dynamic_scale, *model.trainable_variables):
            native = state.native(variable)
            local = [v.numpy() for v in strategy.experimental_local_results(native)]
            assert all(np.array_equal(local[0], other) for other in local)


def test_keras_3_turns_the_weights_into_infinities(strategies, half_precision, capsys):
    """What the peer does on the same data: not a claim about us, but why we differ."""
    if not harness.IS_KERAS_3:
        pytest.skip("Keras 2 sums before it tests")
    strategy = strategies[2]
    with strategy.scope():
        model = tiny_model()
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(1e-2), initial_scale=1024.0
        )
    train = by_fit(model, optimizer, strategy)
    train(*batch(2))
    train(*batch(2, bad=1))
    finite = all(np.isfinite(w).all() for w in model.get_weights())
    scale = float(optimizer.dynamic_scale.numpy())
    with capsys.disabled():
        print(
            f"\nKeras 3 after an overflow on replica 1: weights finite: {finite}, scale {scale}"
        )
    assert (finite, scale) == (False, 1024.0)


def test_keras_3_loses_its_scale_after_200_bad_steps(capsys):
    if not harness.IS_KERAS_3:
        pytest.skip("Keras 2 bounds its scale")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    weight = tf.Variable(1.0)
    optimizer.build([weight])

    @tf.function(autograph=False)
    def step(value):
        optimizer.apply_gradients([(value * optimizer.dynamic_scale.value, weight)])

    for value in [INF] * 200 + [1.0]:
        step(tf.constant(value))
    scale = float(optimizer.dynamic_scale.numpy())
    with capsys.disabled():
        print(
            f"\nKeras 3, 200 bad steps and a good one: weight {weight.numpy()}, scale {scale}"
        )
    assert np.isnan(weight.numpy())
    assert scale == 0.0


def scalar(optimizer, values, jit=False):
    """Applies gradients of the scaled loss `scale * value * weight`, one by one."""
    weight = tf.Variable(1.0)
    optimizer.build([weight])

    @tf.function(jit_compile=jit, autograph=False)
    def step(value):
        optimizer.minimize(lambda: value * weight, [weight])

    for value in values:
        step(tf.constant(value))
    return weight


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_two_hundred_bad_steps_and_a_good_one(jit):
    optimizer = LossScaleOptimizer(tko.SGD(0.5), min_scale=2.0)
    weight = scalar(optimizer, [INF, float("nan")] * 100 + [1.0], jit)
    assert float(optimizer.loss_scale) == 2.0
    assert float(weight) == 0.5
    assert number(optimizer.skipped_steps) == 200
    assert number(optimizer.iterations) == 1


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_the_scale_grows_backs_off_and_stays_within_bounds(jit):
    optimizer = LossScaleOptimizer(
        tko.SGD(0.0), initial_scale=8.0, dynamic_growth_steps=2, growth_factor=4.0,
        backoff_factor=0.25, min_scale=1.0, max_scale=64.0,
    )  # fmt: skip
    seen = []
    weight = tf.Variable(1.0)
    optimizer.build([weight])

    @tf.function(jit_compile=jit, autograph=False)
    def step(value):
        optimizer.minimize(lambda: value * weight, [weight])

    for value in [1.0, 1.0, 1.0, INF, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, INF, INF, INF, INF, 1.0]:
        step(tf.constant(value))
        seen.append(float(optimizer.loss_scale))
    assert seen == [8, 32, 32, 8, 8, 32, 32, 64, 64, 64, 16, 4, 1, 1, 1]
    assert number(optimizer.step_counter) == 1


@pytest.mark.one_keras
def test_hysteresis_forgives_single_overflows():
    optimizer = LossScaleOptimizer(tko.SGD(0.0), initial_scale=8.0, hysteresis=2)
    scalar(optimizer, [INF, 1.0, INF, 1.0])
    assert float(optimizer.loss_scale) == 8.0
    scalar(optimizer, [INF, INF])
    assert float(optimizer.loss_scale) == 4.0
    assert number(optimizer.skipped_steps) == 4


@pytest.mark.one_keras
def test_a_fixed_scale_stays_but_steps_are_skipped():
    optimizer = LossScaleOptimizer(tko.SGD(0.5), initial_scale=8.0, dynamic=False)
    weight = scalar(optimizer, [1.0, INF, 1.0])
    assert float(optimizer.loss_scale) == 8.0
    assert float(weight) == 0.0
    assert number(optimizer.skipped_steps) == 1


@pytest.mark.one_keras
@pytest.mark.parametrize("limited", ["scaled", "plain"])
def test_too_many_skips_in_a_row_raise_with_the_variables_name(limited):
    good, bad = tf.Variable([1.0], name="good"), tf.Variable([1.0], name="encoder/bad")
    if limited == "scaled":
        optimizer = LossScaleOptimizer(tko.SGD(), max_consecutive_skips=3)
    else:
        optimizer = tko.SGD(skip_nonfinite=True, max_consecutive_skips=3)
    for _ in range(2):
        for value in (INF, INF, 1.0):
            optimizer.apply_gradients([(tf.constant([1.0]), good), (tf.constant([value]), bad)])
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner.weight_decay = 0.1  # the limit outlives a change of anything else
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0]), good), (tf.constant([INF]), bad)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_consecutive_skips=3") as info:
        optimizer.apply_gradients([(tf.constant([1.0]), good), (tf.constant([INF]), bad)])
    assert "encoder/bad" in str(info.value)
    assert '"good"' not in str(info.value)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_any_optimizer_can_skip_nonfinite(regime):
    gradients, starts = harness.gradient_sequence(6), harness.starts()
    poisoned = [list(gradients[0]), *gradients]
    poisoned[0] = [np.full_like(poisoned[0][0], np.nan), *poisoned[0][1:]]
    arguments = {"weight_decay": 0.1, "clipnorm": 0.5, "use_ema": True}
    optimizer = tko.Adam(0.01, skip_nonfinite=True, **arguments)
    values = harness.run(optimizer, poisoned, starts, regime)
    plain = tko.Adam(0.01, **arguments)
    expected = harness.run(plain, gradients, starts, regime)
    for value, other in zip(values, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-7)
    assert (number(optimizer.iterations), number(optimizer.skipped_steps)) == (6, 1)
    assert len(optimizer.variables) == len(plain.variables) + 2


@pytest.mark.one_keras
def test_large_finite_gradients_are_no_overflow():
    """The squares overflow, the gradients do not."""
    optimizer = tko.SGD(1.0, skip_nonfinite=True)
    weight = tf.Variable([0.0, 0.0])
    optimizer.apply_gradients([(tf.constant([1e25, -3e30]), weight)])
    np.testing.assert_array_equal(weight.numpy(), np.float32([-1e25, 3e30]))
    assert number(optimizer.skipped_steps) == 0


@pytest.mark.one_keras
def test_gradients_are_tested_after_unscaling():
    optimizer = LossScaleOptimizer(tko.SGD(1.0), initial_scale=2.0**-20, min_scale=2.0**-30)
    weight = tf.Variable([0.0])
    # Its gradient is 1e33 with the scale: finite, but not once it is divided by that.
    optimizer.minimize(lambda: tf.reduce_sum(weight * (1e33 * 2.0**10) * 2.0**10), [weight])
    assert weight.numpy() == [0.0]
    assert number(optimizer.skipped_steps) == 1


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_a_bad_micro_batch_is_not_accumulated(jit):
    inner = tko.SGD(1.0, gradient_accumulation_steps=2)
    optimizer = LossScaleOptimizer(inner, initial_scale=8.0)
    weight = scalar(optimizer, [1.0, INF, 3.0], jit)
    assert float(weight) == -1.0  # 1 - (1 + 3) / 2, though the scale changed in between
    assert state.by_name(inner)["iterations"] == 2
    assert float(optimizer.loss_scale) == 4.0


@pytest.mark.one_keras
def test_sparse_gradients_overflow_too():
    for mode in ("exact", "lazy"):
        table = tf.Variable(tf.zeros([4, 2]))
        optimizer = tko.Adam(0.1, skip_nonfinite=True, sparse=mode)
        for value in (INF, 1.0):
            rows = tf.constant([[value, 1.0], [1.0, 1.0]])
            optimizer.apply_gradients([(tf.IndexedSlices(rows, tf.constant([1, 2])), table)])
        assert np.isfinite(table.numpy()).all()
        assert (number(optimizer.skipped_steps), number(optimizer.iterations)) == (1, 1)


def test_both_sequences_of_calls_give_the_same():
    """`scale_loss` and `apply_gradients` (Keras 3), or unscaling in between (Keras 2)."""
    weights = []
    for unscale in (True, False):
        if not unscale and not harness.IS_KERAS_3:
            continue
        optimizer, weight = LossScaleOptimizer(tko.SGD(0.5)), tf.Variable(1.0)
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = optimizer.get_scaled_loss(weight * weight)
            gradients = tape.gradient(loss, [weight])
            if unscale:
                gradients = optimizer.get_unscaled_gradients(gradients)
            optimizer.apply_gradients(zip(gradients, [weight]))
        weights.append(float(weight))
    assert set(weights) == {0.0}


def test_the_scale_is_applied_in_float32():
    optimizer = LossScaleOptimizer(tko.SGD(), initial_scale=2.0**15)
    scaled = optimizer.scale_loss(tf.constant(100.0, tf.float16))
    assert scaled.dtype == tf.float32
    assert float(scaled) == 100.0 * 2.0**15


def trained():
    optimizer = LossScaleOptimizer(tko.Adam(0.1), initial_scale=64.0)
    scalar(optimizer, [1.0, INF, 1.0, 2.0])
    return optimizer


@pytest.mark.parametrize("built", [True, False])
def test_state_is_restored_before_and_after_build(built, tmp_path):
    """One source of the scale: a loss scaled before `build` is unscaled by the same."""
    source = trained()
    store = {}
    source.save_own_variables(store)
    path = tf.train.Checkpoint(optimizer=source).save(str(tmp_path / "state"))
    for way in ("store", "checkpoint"):
        optimizer, weight = LossScaleOptimizer(tko.Adam(0.1)), tf.Variable(1.0)
        if built:
            optimizer.build([weight])
        if way == "store":
            optimizer.load_own_variables(store)
        else:
            tf.train.Checkpoint(optimizer=optimizer).restore(path)
        assert float(optimizer.loss_scale) == 32.0
        optimizer.minimize(lambda weight=weight: 1.0 * weight, [weight])
        assert number(optimizer.skipped_steps) == 1
        assert number(optimizer.step_counter) == 3
        assert number(optimizer.iterations) == 4


def test_a_saved_model_brings_its_scale_back(tmp_path, half_precision):
    model, optimizer = tiny_model(), LossScaleOptimizer(tko.AdamW(1e-2), initial_scale=256.0)
    model.compile(optimizer, "mse")
    model.fit(*batch(2), verbose=0)
    model.fit(*batch(2, bad=0), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is LossScaleOptimizer
    assert float(again.optimizer.loss_scale) == 128.0
    assert number(again.optimizer.skipped_steps) == 1
    for m in (model, again):
        m.fit(*batch(2, seed=3), verbose=0)
    for ours, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(ours, other)


def test_it_is_keras_own_and_round_trips():
    own = keras.mixed_precision.LossScaleOptimizer if not harness.IS_KERAS_3 else (
        keras.optimizers.LossScaleOptimizer
    )  # fmt: skip
    optimizer = LossScaleOptimizer(
        tko.AdamW(0.25, weight_decay=0.125), 64.0, 7, growth_factor=3.0, backoff_factor=0.25,
        min_scale=0.5, max_scale=512.0, hysteresis=2, max_consecutive_skips=9, dynamic=False,
    )  # fmt: skip
    assert isinstance(optimizer, own)
    config = json.loads(json.dumps(tko.serialize(optimizer)))
    for again in (tko.deserialize(config), LossScaleOptimizer.from_config(config["config"])):
        assert again.get_config() == optimizer.get_config()
        assert type(again.inner_optimizer) is tko.AdamW
    assert tko.get(optimizer) is optimizer
    assert optimizer.current_learning_rate == 0.25
    optimizer.learning_rate = 0.5
    assert optimizer.inner_optimizer.current_learning_rate == 0.5


def test_install_makes_the_automatic_wrapper_ours(half_precision):
    def compiled(optimizer):
        model = tiny_model()
        model.compile(optimizer, "mse")
        return model.optimizer

    tko.install()
    try:
        assert type(compiled("adam")) is LossScaleOptimizer
        assert type(compiled(tko.SGD())) is LossScaleOptimizer
        assert type(compiled(keras.optimizers.SGD())) is not LossScaleOptimizer
        ours = LossScaleOptimizer(tko.SGD())
        assert compiled(ours) is ours
    finally:
        tko.uninstall()
    assert type(compiled(tko.SGD())) is not LossScaleOptimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LossScaleOptimizer(keras.optimizers.SGD()),
            "must be an optimizer of tf_k",
        ),
        (lambda: LossScaleOptimizer(tko.SGD(skip_nonfinite=True)), "`skip_nonfinite`=True"),
        (lambda: LossScaleOptimizer(tko.SGD(), initial_scale=0.0), "`initial_scale` must be"),
        (
            lambda: LossScaleOptimizer(tko.SGD(), 2.0, max_scale=1.0),
            "min_scale <= initial",
        ),
        (lambda: LossScaleOptimizer(tko.SGD(), growth=2), "unknown argument 'growth'.*Did you"),
        (lambda: tko.SGD(max_consecutive_skips=3), "needs `skip_nonfinite=True`"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_factor_of_the_inner_optimizer_is_out_of_use():
    weight = tf.Variable([1.0, 2.0])
    with pytest.warns(UserWarning, match="`loss_scale_factor`=100.0, which has no effect now"):
        optimizer = LossScaleOptimizer(tko.SGD(0.5, loss_scale_factor=100.0), initial_scale=4.0)
    assert float(optimizer.scale_loss(tf.constant(1.0))) == 4.0
    (gradient,) = optimizer.get_unscaled_gradients([tf.constant([4.0, 8.0])])
    optimizer.apply_gradients([(gradient, weight)])
    np.testing.assert_array_equal(weight.numpy(), [0.5, 1.0])
    again = LossScaleOptimizer.from_config(optimizer.get_config())
    assert again.inner_optimizer.loss_scale_factor is None


def test_files_of_keras_own_wrapper_are_read(tmp_path, half_precision):
    if not harness.IS_KERAS_3:
        pytest.skip("Keras 2 writes no loss scale into its files")
    weights = tmp_path / "state.weights.h5"
    peer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), initial_scale=64.0)
    model = tiny_model()
    model.compile(peer, "mse")
    model.fit(*batch(2), verbose=0)
    model.save_weights(weights)
    ours = tiny_model()
    ours.compile(LossScaleOptimizer(tko.Adam(1e-2)), "mse")
    ours.load_weights(weights)
    assert float(ours.optimizer.loss_scale) == 64.0
    assert number(ours.optimizer.step_counter) == 1
    for m in (model, ours):
        m.fit(*batch(2, seed=3), verbose=0)
    for one, other in zip(model.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def wrapped_by_keras(optimizer, **arguments):
    model = tiny_model()
    wrapper = keras.optimizers.LossScaleOptimizer(optimizer, **arguments)
    model.compile(wrapper, "mse", auto_scale_loss=False, jit_compile=False)
    return model


def scale_and_counter(optimizer):
    return float(optimizer.dynamic_scale.numpy()), number(optimizer.step_counter)


needs_keras_3 = pytest.mark.skipif(
    not harness.IS_KERAS_3, reason="Keras 2 writes no loss scale into its files"
)


@needs_keras_3
@pytest.mark.parametrize("rate", [0.02, keras.optimizers.schedules.CosineDecay(0.02, 9)])
@pytest.mark.parametrize("inside", [tko.Adam, keras.optimizers.Adam])
def test_keras_own_wrapper_without_a_scale_yet_starts_one_again(inside, rate, tmp_path):
    weights = tmp_path / "begin.weights.h5"
    wrapped_by_keras(inside(rate), initial_scale=64.0).save_weights(weights)
    loaded = wrapped_by_keras(tko.Adam(rate), initial_scale=32.0)
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.optimizer.dynamic_scale.assign(8.0)
    loaded.optimizer.step_counter.assign(3)
    loaded.load_weights(weights)
    assert scale_and_counter(loaded.optimizer) == (32.0, 0)
    assert float(loaded.optimizer.learning_rate) == np.float32(0.02)
    ours = tiny_model()
    ours.compile(LossScaleOptimizer(tko.Adam(rate), initial_scale=16.0), "mse")
    ours.optimizer.build(ours.trainable_variables)
    ours.load_weights(weights)
    assert scale_and_counter(ours.optimizer) == (16.0, 0)
    assert number(ours.optimizer.iterations) == 0


@needs_keras_3
def test_keras_own_wrapper_keeps_a_loaded_scale_until_it_is_built(tmp_path):
    first, again = tmp_path / "first.weights.h5", tmp_path / "again.weights.h5"
    model = wrapped_by_keras(tko.SGD(1.0, momentum=0.9, skip_nonfinite=True))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(64.0)
    model.optimizer.step_counter.assign(7)
    model.save_weights(first)
    loaded = wrapped_by_keras(tko.SGD(1.0, momentum=0.9, skip_nonfinite=True))
    loaded.load_weights(first)
    loaded.save_weights(again)
    ours = tiny_model()
    ours.compile(LossScaleOptimizer(tko.SGD(1.0, momentum=0.9)), "mse")
    ours.load_weights(again)
    assert scale_and_counter(ours.optimizer) == (64.0, 7)
    variables = loaded.trainable_variables
    before = [v.numpy() for v in variables]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = loaded.optimizer.scale_loss(sum(tf.reduce_sum(v) for v in variables))
        loaded.optimizer.apply(tape.gradient(loss, variables), variables)

    step()
    for variable, value in zip(variables, before):
        np.testing.assert_allclose(variable.numpy(), value - 1.0, rtol=0, atol=1e-6)
    assert scale_and_counter(loaded.optimizer) == (64.0, 8)


@pytest.mark.one_keras
def test_skip_nonfinite_can_be_switched_off_again():
    optimizer, weight = tko.SGD(1.0, skip_nonfinite=True), tf.Variable([1.0])
    optimizer.apply_gradients([(tf.constant([INF]), weight)])
    optimizer.skip_nonfinite = False
    optimizer.apply_gradients([(tf.constant([INF]), weight)])
    assert weight.numpy() == [-INF]
    assert number(optimizer.skipped_steps) == 1
    with pytest.raises(AttributeError, match="skips no steps"):
        _ = tko.SGD().skipped_steps


@pytest.mark.one_keras
@pytest.mark.parametrize("bad", [0, 1])
def test_a_step_of_ones_own_is_skipped_on_all_replicas(bad, strategy):
    class Own(tko.Optimizer):
        def build(self, variables):
            super().build(variables)
            self.momentums = [
                self.add_variable_from_reference(reference_variable=v, name="momentum")
                for v in variables
            ]

        def update_step(self, gradient, variable, learning_rate):
            m = self.momentums[self._get_variable_index(variable)]
            self.assign(m, 0.5 * tf.convert_to_tensor(m) + gradient)
            self.assign_sub(variable, learning_rate * tf.convert_to_tensor(m))

    with strategy.scope():
        weight = tf.Variable([1.0], constraint=lambda w: tf.maximum(w, 0.0))
        other = tf.Variable([1.0])
        first = LossScaleOptimizer(Own(0.25), initial_scale=4.0)
        second = tko.SGD(0.25, skip_nonfinite=True)  # another optimizer in the same step
        first.build([weight])
        second.build([other])

    @tf.function(autograph=False)
    def step(value):
        def replica():
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = tf.where(tf.equal(own, bad), value, tf.constant([0.5]))
            first.minimize(lambda: tf.reduce_sum(mine * weight), [weight])
            second.apply_gradients([(mine, other)])

        strategy.run(replica)

    for value in (0.5, INF, 0.5):
        step(tf.constant([value]))
    # momentum 1, then 1.5: 1 - 0.25 - 0.375; the other: 1 - 2 * 0.25
    for variable, expected in ((weight, 0.375), (other, 0.5)):
        local = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
        assert local == [expected, expected]
    assert float(first.loss_scale) == 2.0
    assert [number(o.skipped_steps) for o in (first, second)] == [1, 1]
    step(tf.constant([100.0]))
    assert weight.numpy() == [0.0]  # the constraint holds


def test_a_constant_scale_inside_keras_wrapper_is_refused(half_precision):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"`loss_scale_factor`=8.0 is not possible"):
        model.compile(tko.SGD(0.1, loss_scale_factor=8.0), "mse")
    model.compile(tko.SGD(0.1), "mse")
