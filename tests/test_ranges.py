"""Numbers at the edges of their dtypes: large, small, exactly 0, and with all their digits."""

import contextlib

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime
from tf_keras_optim.optimizers.records import of

CLIPS = [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}]
LARGE, LARGEST = 2e19, 3e38  # the square of one is no float32, the other is hardly one


class Plain(tko.Optimizer):
    """Gradient descent, written as Keras 3 has it."""

    def update_step(self, gradient, variable, learning_rate):
        variable.assign(variable - tf.cast(learning_rate, gradient.dtype) * gradient)


def clipped(gradients, options):
    """What a step of rate 0.1 takes off each variable, in float64."""
    gradients = [np.asarray(g, "d") for g in gradients]
    largest = [np.abs(g).max() for g in gradients]
    norms = [m * np.linalg.norm(g / m) for g, m in zip(gradients, largest)]
    if "global_clipnorm" in options:
        norms = [max(norms) * np.linalg.norm(np.array(norms) / max(norms))] * len(norms)
    return [0.1 * g / max(n, 1.0) for g, n in zip(gradients, norms)]


def moved(make, batches, regime="eager", dtype=tf.float32, loss_scale=1.0):
    """What the steps take off variables that start at 0."""
    variables = [tf.Variable(np.zeros_like(g), dtype=dtype, name="w") for g in batches[0]]
    optimizer = make()
    optimizer.build(variables)

    def step(gradients):
        gradients = [g * loss_scale for g in gradients]
        if loss_scale != 1.0 and not harness.IS_KERAS_3:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, variables))

    step = in_regime(step, regime)
    for batch in batches:
        step([tf.constant(g, dtype) for g in batch])
    return [-v.numpy().astype("d") for v in variables]


def assert_close(found, expected, tolerance=1e-5):
    for value, other in zip(found, expected):
        np.testing.assert_allclose(value, other, rtol=tolerance, atol=1e-12)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: next(iter(clip)))
def test_clips_of_gradients_whose_squares_are_out_of_range(clip, regime):
    for size in (LARGE, LARGEST):
        gradients = [np.float32([size, -size]), np.float32([[0.5], [0.25]])]
        expected = clipped(gradients, clip)
        others = [{"skip_nonfinite": True}, {"jit_compile": False}] if size == LARGE else []
        for options in ({}, *others):
            found = moved(lambda: tko.SGD(0.1, **clip, **options), [gradients], regime)  # noqa: B023
            assert_close(found, expected)
        if size == LARGEST:
            continue
        halves = [[g / 2 for g in gradients]] * 2
        options = clip | {"gradient_accumulation_steps": 2}
        found = moved(lambda: tko.SGD(0.1, **options), halves, regime)  # noqa: B023
        assert_close(found, clipped([g / 2 for g in gradients], clip))


@pytest.mark.one_keras
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: next(iter(clip)))
def test_clips_of_float64(clip):
    gradients = [np.array([1e200, -2e300]), np.array([1.0, 2.0])]
    for regime in ("eager", "xla"):
        found = moved(lambda: tko.SGD(0.1, **clip), [gradients], regime, tf.float64)
        assert_close(found, clipped(gradients, clip), 1e-7)


@pytest.mark.one_keras
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: next(iter(clip)))
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_clips_under_a_loss_scale(clip, regime):
    gradients = [np.float32([1e15, -1e15])]

    def make():
        return tko.LossScaleOptimizer(tko.SGD(0.1, **clip), initial_scale=2.0**15)

    found = moved(make, [gradients], regime, loss_scale=2.0**15)
    assert_close(found, clipped(gradients, clip))


@pytest.mark.one_keras
def test_clips_of_lazy_rows_and_of_an_update_step():
    for clip in CLIPS:
        table = tf.Variable(np.zeros((4, 2), "f"))
        optimizer = tko.SGD(0.1, sparse="lazy", **clip)
        rows = tf.IndexedSlices(
            tf.fill([2, 2], LARGE), tf.constant([2, 2]), tf.constant([4, 2])
        )
        optimizer.apply_gradients([(rows, table)])
        np.testing.assert_allclose(table.numpy()[2], [-0.1 / 2**0.5] * 2, rtol=1e-5)
        for jit in (False, True):
            gradients = [np.float32([LARGE, 1e17])]
            found = moved(lambda: Plain(0.1, jit_compile=jit, **clip), [gradients])  # noqa: B023
            assert_close(found, clipped(gradients, clip))


@pytest.mark.one_keras
def test_clips_in_two_replicas(strategy):
    share = np.float32([LARGE / 2, -LARGE / 2])
    for clip in CLIPS:
        _, (found,) = harness.run_in_replicas(
            strategy,
            lambda: tko.SGD(0.1, skip_nonfinite=True, **clip),  # noqa: B023
            [[[share], [share]]],
            [np.zeros(2)],
        )
        assert_close([-found], clipped([2 * share], clip))


@pytest.mark.one_keras
def test_norms_too_small_for_their_squares_are_clipped():
    gradients = [np.float32([3e-25, 4e-25])]
    for regime in ("eager", "xla"):
        (found,) = moved(lambda: tko.SGD(1.0, clipnorm=1e-26), [gradients], regime)
        np.testing.assert_allclose(found, [6e-27, 8e-27], rtol=1e-5)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_what_is_not_finite_is_not_hidden(regime):
    for bad in (np.inf, np.nan):
        gradients = [np.float32([bad, LARGE])]
        (found,) = moved(lambda: tko.SGD(0.1, clipnorm=1.0), [gradients], regime)
        assert np.isnan(found).any()
        make = lambda: tko.SGD(0.1, clipnorm=1.0, skip_nonfinite=True)  # noqa: E731
        (found,) = moved(make, [gradients], regime)
        np.testing.assert_array_equal(found, 0.0)


# Algorithms with norms or means of their own.


def after(optimizer, start, gradients, regime="eager", dtype=tf.float32):
    w = tf.Variable(start, dtype=dtype, name="w")
    optimizer.build([w])

    def step(gradient):
        optimizer.apply_gradients([(gradient, w)])

    step = in_regime(step, regime)
    for gradient in gradients:
        step(tf.constant(gradient, dtype))
    return w.numpy().astype("d")


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_adafactor_with_large_gradients_and_with_dead_rows_and_columns(regime):
    dead = np.ones((4, 3))
    dead[0, :] = dead[:, 2] = 0.0
    large = np.full((4, 3), 2e17)
    start = np.full((4, 3), 0.5)
    jit = False if regime == "function" else "auto"
    for gradient in (dead, large):
        found = after(tko.Adafactor(0.01, jit_compile=jit), start, [gradient] * 3, regime)
        expected = oracles.adafactor(start, [gradient] * 3, learning_rate=0.01)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for gradient, shape in ((1e20, (4,)), (LARGEST, (4, 3))):
        gradients = [np.full(shape, gradient), np.ones(shape)]
        found = after(tko.Adafactor(0.01, jit_compile=jit), np.ones(shape), gradients, regime)
        # The first step has full length, and the second next to none, as the mean is large.
        np.testing.assert_allclose(found, 0.99, rtol=1e-5)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_lambs_ratio_of_a_direction_whose_square_is_0(jit):
    start, gradient = np.array([3.0, 4.0]), np.array([3e-31, -4e-31])
    for weight in (start, start * 1e5):
        expected = weight - 0.1 * np.linalg.norm(weight) * gradient / np.linalg.norm(gradient)
        found = after(tko.Lamb(0.1, jit_compile=jit), weight, [gradient])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


# 0 / 0.

EDGES = {
    "rate 0": {"learning_rate": 0.0},
    "epsilon 0": {"epsilon": 0.0, "epsilon_1": 0.0, "initial_accumulator_value": 0.0},
    "epsilon that float32 has not": {"epsilon": 1e-45, "epsilon_1": 1e-60},
    "betas 0": dict.fromkeys(("beta_1", "beta_2", "beta_3", "rho", "momentum"), 0.0),
    "betas near 1": dict.fromkeys(("beta_1", "beta_2", "beta_3", "rho"), 1.0 - 1e-9),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("cls", harness.OPTIMIZERS)
def test_no_optimizer_divides_0_by_0(cls, edge):
    known = cls.__signature__.parameters if hasattr(cls, "__signature__") else ()
    options = {name: value for name, value in EDGES[edge].items() if name in known}
    if cls in (tko.ScheduleFreeAdamW, tko.ScheduleFreeSGD):  # a share that must be above 0
        shares = {n: options[n] or 1e-6 for n in ("beta_1", "momentum") if n in options}
        options |= shares
    rate = options.pop("learning_rate", 0.1)
    start = np.array([[1.0, 2.0], [3.0, 0.0]])
    zero, gradient = np.zeros((2, 2)), np.array([[0.0, 0.0], [0.0, 1.0]])
    values = []
    # One way for those that Keras has not; `auto` and False in turn.
    turn = list(EDGES).index(edge) + harness.OPTIMIZERS.index(cls)
    both = of(cls).keras.name or edge == "epsilon 0"
    for jit in ("auto", False) if both else (("auto", False)[turn % 2],):
        optimizer = cls(rate, jit_compile=jit, **options)
        values.append(after(optimizer, start, [zero, gradient, zero]))
        state = optimizer.variables() if callable(optimizer.variables) else optimizer.variables
        for array in [values[-1], *(v.numpy() for v in state)]:
            assert np.isfinite(array).all()
    np.testing.assert_allclose(values[0], values[-1], rtol=1e-4, atol=1e-6)
    if rate == 0.0:
        np.testing.assert_array_equal(values[0], start)


@pytest.mark.one_keras
def test_ftrl_stands_still_at_a_rate_of_0_and_then_goes_on_as_if_nothing_had_been():
    start, gradients = np.array([1.0, 2.0]), [np.array([1.0, -1.0])] * 4
    warm = after(tko.Ftrl(tko.schedules.Warmup(0.5, steps=2)), start, gradients)
    schedule = tko.schedules.PiecewiseConstantDecay([0], [0.25, 0.5])
    np.testing.assert_array_equal(warm, after(tko.Ftrl(schedule), start, gradients[1:]))


@pytest.mark.one_keras
def test_ftrl_from_accumulators_of_0_is_tensorflows_own():
    gradients = [np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.5, 0.0])]
    found = after(tko.Ftrl(0.1, initial_accumulator_value=0.0), np.ones(3), gradients)
    w, n, z = (tf.Variable([x] * 3) for x in (1.0, 0.0, 0.0))
    for gradient in gradients:
        tf.raw_ops.ResourceApplyFtrl(
            var=w.handle,
            accum=n.handle,
            linear=z.handle,
            grad=tf.constant(gradient, tf.float32),
            lr=0.1,
            l1=0.0,
            l2=0.0,
            lr_power=-0.5,
        )
    np.testing.assert_allclose(found, w.numpy(), rtol=1e-6)


# All digits of float64.


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_ema_is_taken_in_float64(regime):
    w = tf.Variable([1.0], dtype=tf.float64)
    optimizer = tko.SGD(0.0625, use_ema=True, ema_momentum=0.99)
    optimizer.build([w])

    def step():
        optimizer.apply_gradients([(tf.constant([0.3], tf.float64), w)])

    step = in_regime(step, regime)
    value, average = 1.0, None
    for _ in range(50):
        step()
        value -= 0.0625 * 0.3
        average = value if average is None else 0.99 * average + 0.01 * value
    optimizer.finalize_variable_values([w])
    np.testing.assert_allclose(w.numpy(), [average], rtol=1e-14)


@pytest.mark.one_keras
def test_what_is_carried_from_step_to_step_is_float64_where_a_step_is():
    gradients = [np.array([0.3, -0.2])] * 30
    for others in ([], [tf.Variable([1.0])]):
        w = tf.Variable([1.0, 2.0], dtype=tf.float64)
        optimizer = tko.Nadam(0.0625)
        for gradient in gradients:
            pairs = [(tf.constant([0.1]), v) for v in others]
            optimizer.apply_gradients([*pairs, (tf.constant(gradient), w)])
        expected = oracles.nadam(np.array([1.0, 2.0]), gradients, learning_rate=0.0625)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-12)


@pytest.mark.one_keras
def test_scheduled_hyperparameters_and_loss_scales_are_float64_where_a_step_is():
    gradients = [np.array([0.3])] * 5
    tenths = tko.schedules.PiecewiseConstantDecay([100], [0.1, 0.2])
    found = after(tko.SGD(0.0625, momentum=tenths), [1.0], gradients, dtype=tf.float64)
    expected = oracles.sgd(np.array([1.0]), gradients, learning_rate=0.0625, momentum=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    found = moved(
        lambda: tko.LossScaleOptimizer(tko.SGD(0.0625), initial_scale=1000.0),
        [[np.array([0.3])]],
        dtype=tf.float64,
        loss_scale=1000.0,
    )
    np.testing.assert_allclose(found[0], [0.0625 * 0.3], rtol=1e-14)


# Gradients that are not what they should be.

OPTIONS = [{}, {"clipvalue": 1.0}, {"skip_nonfinite": True}, {"gradient_accumulation_steps": 2}]


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: next(iter(o), "plain"))
def test_shapes_that_are_known_late_are_checked_before_anything_changes(options, jit):
    first, w = tf.Variable(tf.zeros([2])), tf.Variable(tf.zeros([4, 3]), name="wide")
    optimizer = tko.RMSprop(0.1, **options)
    optimizer.build([first, w])
    spec = tf.TensorSpec(None, tf.float32)

    @tf.function(input_signature=[spec, spec], jit_compile=jit)
    def step(a, b):
        optimizer.apply_gradients([(a, first), (b, w)])

    for shape in ([1, 3], [1, 1], [], [3], [4, 3, 1], [3, 4]):
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=r"shape"):
            step(tf.ones([2]), tf.ones(shape))
    assert not first.numpy().any() and not w.numpy().any()
    assert int(optimizer.get_weights()[0]) == 0
    for _ in range(2):
        step(tf.ones([2]), tf.ones([4, 3]))
    assert (first.numpy() < 0.0).all() and (w.numpy() < 0.0).all()


@pytest.mark.one_keras
def test_rows_whose_shapes_are_known_late_are_checked():
    for sparse in ("exact", "lazy"):
        w = tf.Variable(tf.zeros([4, 3]), name="table")
        optimizer = tko.SGD(0.1, sparse=sparse)
        optimizer.build([w])
        signature = [tf.TensorSpec(None), tf.TensorSpec([None], tf.int32)]

        @tf.function(input_signature=signature)
        def step(values, rows):
            slices = tf.IndexedSlices(values, rows, tf.constant([4, 3]))
            optimizer.apply_gradients([(slices, w)])  # noqa: B023

        for shape in ([2, 1], [2], [1, 3], [3, 3]):
            with pytest.raises(tf.errors.InvalidArgumentError, match="table"):
                step(tf.ones(shape), tf.constant([1, 2]))
        assert not w.numpy().any()
        step(tf.ones([2, 3]), tf.constant([1, 2]))
        np.testing.assert_allclose(w.numpy()[:, 0], [0.0, -0.1, -0.1, 0.0])


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}], ids=["plain", "clipnorm"])
def test_what_float32_cannot_hold_is_skipped(options):
    for jit in (False, True):
        w = tf.Variable([1.0, 1.0])
        optimizer = tko.SGD(0.1, skip_nonfinite=True, **options)
        step = tf.function(lambda g: optimizer.apply_gradients([(g, w)]), jit_compile=jit)  # noqa: B023
        step(tf.constant([1e60, 1.0], tf.float64))
        np.testing.assert_array_equal(w.numpy(), 1.0)
        assert int(optimizer.skipped_steps) == 1


@pytest.mark.one_keras
def test_what_a_loss_scale_has_saved_is_kept_when_it_is_taken_out():
    optimizer = tko.LossScaleOptimizer(tko.SGD(1.0), initial_scale=2.0**15)
    narrow = tf.constant([1e-8 * 2**15], tf.float16)
    dense, none, rows = optimizer.get_unscaled_gradients(
        [narrow, None, tf.IndexedSlices(narrow[None], tf.constant([0]))]
    )
    assert none is None and dense.dtype == rows.values.dtype == tf.float32
    np.testing.assert_allclose([dense[0], rows.values[0, 0]], 1e-8, rtol=1e-3)


# Operations that are watched.


@contextlib.contextmanager
def watched():
    tf.debugging.enable_check_numerics()
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{}, {"use_ema": True, "jit_compile": True}, CLIPS[1]])
def test_numerics_are_checked_before_and_after_the_first_step(options):
    gradient = np.array([0.0, 1.0])
    for cls in (tko.Adam, tko.Lamb):
        expected = after(cls(0.1, **options), [1.0, 2.0], [gradient] * 3)
        w = tf.Variable([1.0, 2.0])
        optimizer = cls(0.1, **options)
        pairs = [(tf.constant(gradient, tf.float32), w)]
        optimizer.apply_gradients(pairs)
        with watched():
            optimizer.apply_gradients(pairs)
        optimizer.apply_gradients(pairs)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6)
        with watched(), pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
            optimizer.apply_gradients([(tf.constant([np.nan, 1.0]), w)])
    with watched():
        np.testing.assert_allclose(
            after(tko.Adam(0.1, **options), [1.0, 2.0], [gradient] * 3),
            after(tko.Adam(0.1, jit_compile=False), [1.0, 2.0], [gradient] * 3),
            rtol=1e-5,
        )
    optimizer = tko.Adam(0.1, **options)
    optimizer.build([w])
    optimizer.apply_gradients([(tf.constant([np.nan, 1.0]), w)])  # nobody looks any more
    assert np.isnan(w.numpy()).any()
