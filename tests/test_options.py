"""The options that all optimizers share: clips, decay, averages, accumulation, scales."""

import itertools

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tests.support.steps import in_regime

JIT = [True, False]


def one_step(optimizer, pairs):
    variables = [tf.Variable(v, dtype=tf.float32) for v, _ in pairs]
    optimizer.apply_gradients([(tf.constant(g), v) for (_, g), v in zip(pairs, variables)])
    return [v.numpy() for v in variables]


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
def test_clipnorm_limits_each_gradient(jit):
    optimizer = tko.SGD(1.0, clipnorm=1.0, jit_compile=jit)
    long, short = one_step(optimizer, [([0.0, 0.0], [3.0, 4.0]), ([0.0], [0.5])])
    np.testing.assert_allclose(long, [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(short, [-0.5], rtol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
def test_global_clipnorm_limits_all_gradients_together(jit):
    optimizer = tko.SGD(1.0, global_clipnorm=1.0, jit_compile=jit)
    values = one_step(optimizer, [([0.0, 0.0], [3.0, 0.0]), ([0.0], [4.0])])
    np.testing.assert_allclose(np.concatenate(values), [-0.6, 0.0, -0.8], rtol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
def test_clipvalue_limits_each_element(jit):
    (value,) = one_step(
        tko.SGD(1.0, clipvalue=0.5, jit_compile=jit), [([0.0] * 3, [-2.0, 0.25, 2.0])]
    )
    np.testing.assert_allclose(value, [0.5, -0.25, -0.5])


@pytest.mark.one_keras
def test_zero_gradients_survive_a_clip():
    for options in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        (value,) = one_step(tko.SGD(1.0, **options), [([1.0, 2.0], [0.0, 0.0])])
        np.testing.assert_array_equal(value, [1.0, 2.0])


@pytest.mark.one_keras
def test_an_infinite_gradient_is_not_hidden_by_a_clip():
    for options in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        (value,) = one_step(tko.SGD(1.0, **options), [([1.0, 2.0], [np.inf, 0.0])])
        assert np.isnan(value).all()


@pytest.mark.one_keras
def test_weight_decay_comes_before_the_update_and_is_scaled_by_the_rate():
    (value,) = one_step(tko.SGD(0.5, weight_decay=0.1), [([2.0], [1.0])])
    np.testing.assert_allclose(value, [2.0 - 0.1 * 0.5 * 2.0 - 0.5], rtol=1e-6)


def test_weight_decay_leaves_out_excluded_variables():
    kernel, bias = (
        tf.Variable([1.0], name="layer/kernel"),
        tf.Variable([1.0], name="layer/bias"),
    )
    scale = tf.Variable([1.0], name="norm/scale")
    optimizer = tko.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[scale], var_names=["bias"])
    optimizer.apply_gradients([(tf.zeros([1]), v) for v in (kernel, bias, scale)])
    assert [float(v.numpy()[0]) for v in (kernel, bias, scale)] == [0.5, 1.0, 1.0]


def test_weight_decay_exclusions_after_build_raise():
    optimizer = tko.AdamW()
    optimizer.build([tf.Variable([1.0])])
    with pytest.raises(ValueError, match="built already"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.one_keras
def test_ema_equals_the_weights_after_one_step_then_follows():
    variable = tf.Variable([1.0])
    optimizer = tko.SGD(0.5, use_ema=True, ema_momentum=0.75)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    np.testing.assert_allclose(state.averages(optimizer)[0], [0.5])
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.0], atol=1e-7)
    np.testing.assert_allclose(state.averages(optimizer)[0], [0.375])
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), [0.375])


@pytest.mark.one_keras
def test_ema_goes_on_for_variables_without_a_gradient():
    a, b = tf.Variable([1.0]), tf.Variable([1.0])
    optimizer = tko.SGD(0.5, use_ema=True, ema_momentum=0.5)
    optimizer.build([a, b])
    optimizer.apply_gradients([(tf.constant([1.0]), a)])
    b.assign([3.0])
    optimizer.apply_gradients([(tf.constant([1.0]), a)])
    np.testing.assert_allclose(state.averages(optimizer)[1], [2.0])


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
def test_ema_overwrites_the_weights_at_its_frequency(jit):
    variable = tf.Variable([1.0])
    optimizer = tko.SGD(
        1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2, jit_compile=jit
    )
    seen = []
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        seen.append(float(variable.numpy()[0]))
    assert seen == pytest.approx([0.0, -0.5, -1.5])  # second: (0 + -1) / 2


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_ema_does_not_overwrite_what_got_no_gradient(regime):
    frozen, trained = tf.Variable([1.0]), tf.Variable([1.0])
    optimizer = tko.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    optimizer.build([frozen, trained])
    gradient = tf.constant([1.0])
    optimizer.apply_gradients([(gradient, frozen), (gradient, trained)])

    def step():
        optimizer.apply_gradients([(gradient, trained)])

    step = in_regime(step, regime)
    frozen.assign([3.0])
    for _ in range(3):
        step()
    assert float(frozen.numpy()[0]) == 3.0
    assert float(trained.numpy()[0]) == pytest.approx(-1.75)  # -0.5 at 2, -1.5, (-1 - 2.5) / 2
    (average,) = state.averages(optimizer)[0]
    assert average == pytest.approx(2.625)  # 0, 1.5, 2.25, 2.625


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("jit", "regime"), [(True, "eager"), (False, "function"), (False, "eager"), (True, "xla")]
)
def test_accumulated_micro_batches_equal_one_batch(jit, regime):
    """AdamW, a schedule, a global clip and an average act once per real update."""

    def make(steps):
        schedule = tf.keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
        return tko.AdamW(
            schedule,
            weight_decay=0.1,
            global_clipnorm=0.5,
            use_ema=True,
            ema_momentum=0.9,
            ema_overwrite_frequency=3,
            gradient_accumulation_steps=steps,
            jit_compile=jit,
        )

    micro = harness.gradient_sequence(20)
    means = [
        [np.mean(group, axis=0) for group in zip(*micro[i : i + 4])] for i in range(0, 20, 4)
    ]
    accumulating, plain = make(4), make(None)
    values = harness.run(accumulating, micro, harness.starts(), regime)
    expected = harness.run(plain, means, harness.starts(), regime)
    for value, other in zip(values, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    assert int(accumulating.iterations) == int(plain.iterations) == 5
    for ours, other in zip(state.averages(accumulating), state.averages(plain)):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-6)


def test_four_micro_batches_of_eight_equal_one_batch_of_32_in_fit():
    def train(steps, batch_size):
        schedule = tf.keras.optimizers.schedules.CosineDecay(0.01, 6)
        optimizer = tko.AdamW(
            schedule,
            weight_decay=0.1,
            global_clipnorm=0.05,
            use_ema=True,
            gradient_accumulation_steps=steps,
            jit_compile=False,
        )
        model, _ = harness.fit(optimizer, batch_size=batch_size, jit_compile=False)
        return model.get_weights()

    for ours, expected in zip(train(4, 8), train(None, 32)):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("regime", "scaled"),
    [("eager", False), ("eager", True), ("function", True), ("xla", False)],
)
@pytest.mark.filterwarnings("ignore:.*no gradient for")
def test_accumulation_updates_what_had_a_gradient_in_any_of_its_calls(regime, scaled):
    """An expert that is not used in the last call, or in none, as one big batch gives.

    Its variable is given without a gradient, then not at all.
    """

    def make(steps):
        optimizer = tko.AdamW(
            0.1, weight_decay=0.1, global_clipnorm=1.0, use_ema=True, ema_momentum=0.5,
            gradient_accumulation_steps=steps,
        )  # fmt: skip
        return tko.LossScaleOptimizer(optimizer, initial_scale=8.0) if scaled else optimizer

    def variables():
        bounded = tf.Variable([0.9, -1.0], constraint=lambda v: tf.clip_by_value(v, -1.0, 1.0))
        return [bounded, tf.Variable([1.0, 2.0])]

    windows = [  # of slopes of the expert's and the trunk's gradient
        [(1.0, 2.0), (None, 1.0), (None, 3.0)],
        [(None, 2.0), (None, 1.0), (None, -3.0)],
        [(None, 1.0), (-4.0, 1.0), (None, 1.0)],
        [(2.0, 1.0), (1.0, 1.0), (3.0, 1.0)],
    ]
    optimizers, kept, functions = [make(3), make(None)], [variables(), variables()], {}

    def apply(number, listed, *slopes):
        def step(*given):
            given = iter(given)
            pairs = [
                (None if s is None else next(given) * tf.constant([1.0, -0.5]), v)
                for s, v in zip(slopes, kept[number])
                if listed or s is not None
            ]
            optimizers[number].apply_gradients(pairs)

        key = (number, listed, *(s is None for s in slopes))
        step = functions.setdefault(key, in_regime(step, regime))
        step(*(tf.constant(s) for s in slopes if s is not None))

    for listed, window in itertools.product([True, False], windows):
        scale = 8.0 if scaled else 1.0
        for slopes in window:
            apply(0, listed, *(None if s is None else s * scale for s in slopes))
        sums = [[s for s in column if s is not None] for column in zip(*window)]
        apply(1, True, *(sum(column) * scale / 3.0 if column else None for column in sums))
        for value, other in zip(*kept):
            np.testing.assert_allclose(value.numpy(), other.numpy(), rtol=0, atol=1e-6)
    for value, other in zip(*map(state.averages, optimizers)):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


@pytest.mark.one_keras
def test_nothing_moves_while_gradients_accumulate():
    variable = tf.Variable([1.0])
    optimizer = tko.AdamW(0.1, gradient_accumulation_steps=3, use_ema=True)
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy() == [1.0]
    assert int(optimizer.iterations) == 0
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy() < [0.95]
    assert int(optimizer.iterations) == 1
    assert state.slots(optimizer)["gradient_accumulator"] == [0.0]


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}, {"gradient_accumulation_steps": 1}])
def test_static_loss_scale_is_taken_out_again(options):
    variable, other = tf.Variable([1.0]), tf.Variable([1.0])
    scaled = tko.SGD(0.1, loss_scale_factor=1024.0, **options)
    plain = tko.SGD(0.1, **options)
    assert float(scaled.scale_loss(tf.constant(2.0))) == 2048.0
    for _ in range(3):
        scaled.minimize(lambda: tf.reduce_sum(variable**2), [variable])
        plain.minimize(lambda: tf.reduce_sum(other**2), [other])
    np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=1e-6)


def test_static_loss_scale_in_fit_changes_nothing_but_rounding():
    scaled, _ = harness.fit(tko.SGD(0.1, loss_scale_factor=256.0))
    plain, _ = harness.fit(tko.SGD(0.1))
    for ours, expected in zip(scaled.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("steps", [None, 2])
def test_constraints_hold_after_every_update(steps):
    variable = tf.Variable([1.0, 1.0], constraint=lambda w: tf.clip_by_value(w, 0.0, 1.0))
    optimizer = tko.SGD(1.0, gradient_accumulation_steps=steps)
    for _ in range(steps or 1):
        optimizer.apply_gradients([(tf.constant([5.0, 0.25]), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.0, 0.75])


@pytest.mark.parametrize("steps", [None, 2])
def test_a_variable_that_asks_for_it_takes_its_gradient_as_value(steps):
    scale, weight = tf.Variable([1.0]), tf.Variable([1.0])
    scale.overwrite_with_gradient = True
    optimizer = tko.Adam(0.1, gradient_accumulation_steps=steps, loss_scale_factor=2.0)
    for value in ([7.0], [3.0])[: steps or 1]:
        optimizer.apply_gradients(
            zip([tf.constant(value), tf.constant([1.0])], [scale, weight])
        )
    assert scale.numpy() == [7.0]  # the largest of the accumulated ones
    assert weight.numpy() == pytest.approx([0.9], abs=1e-5)
    paths = [v.path if harness.IS_KERAS_3 else v.name for v in optimizer.variables]
    assert sum("velocity" in path for path in paths) == 1


@pytest.mark.one_keras
def test_changed_hyperparameters_take_effect_and_are_checked():
    start, gradients = np.array([1.0]), [np.array([1.0]), np.array([-0.5])]
    variable = tf.Variable(start, dtype=tf.float32)
    optimizer = tko.Adam(0.1, beta_1=0.5)
    optimizer.beta_1 = 0.9
    optimizer.apply_gradients([(tf.constant(gradients[0], tf.float32), variable)])
    optimizer.apply_gradients([(tf.constant(gradients[1], tf.float32), variable)])
    expected = oracles.adam(start, gradients, learning_rate=0.1)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="below 1"):
        optimizer.beta_1 = 1.5
    optimizer.beta_1 = 0.0
    optimizer.learning_rate = 0.2
    before = variable.numpy()
    optimizer.apply_gradients([(tf.constant([3.0]), variable)])
    assert abs(before - variable.numpy()) > 0.2


def test_a_change_that_a_traced_function_cannot_see_is_said():
    variable = tf.Variable([1.0])
    optimizer = tko.Adam(0.1)

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.ones([1]), variable)])

    step()
    with pytest.warns(UserWarning, match="'beta_1' was changed"):
        optimizer.beta_1 = 0.8
