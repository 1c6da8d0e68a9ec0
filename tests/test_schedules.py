"""Schedules: Keras' own values, the papers' formulas, and what may follow a schedule."""

import inspect
import json
import math

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tf_keras_optim import schedules
from tf_keras_optim.optimizers.records import of

keras = tf.keras
STEPS = np.arange(400)

# For each of Keras' schedules, the ways it is used.
KERAS_CASES = {
    "ExponentialDecay": [
        {"decay_steps": 30, "decay_rate": 0.5},
        {"decay_steps": 30, "decay_rate": 0.9, "staircase": True},
    ],
    "InverseTimeDecay": [
        {"decay_steps": 30, "decay_rate": 0.5},
        {"decay_steps": 7, "decay_rate": 2.0, "staircase": True},
    ],
    "PolynomialDecay": [
        {"decay_steps": 100},
        {"decay_steps": 70, "end_learning_rate": 0.01, "power": 2.0, "cycle": True},
        {"decay_steps": 300, "end_learning_rate": 0.0, "power": 0.5},
    ],
    "CosineDecay": [
        {"decay_steps": 100},
        {"decay_steps": 200, "alpha": 0.25},
        {"decay_steps": 90, "alpha": 0.1, "warmup_target": 0.15, "warmup_steps": 30},
    ],
    "CosineDecayRestarts": [
        {"first_decay_steps": 50, "t_mul": 1.0, "m_mul": 0.5},
        {"first_decay_steps": 11, "alpha": 0.1},
        {"first_decay_steps": 20, "t_mul": 1.5, "m_mul": 0.8, "alpha": 0.01},
    ],
}

# One schedule of each kind, no field at its default.
ALL = [
    schedules.ExponentialDecay(0.1, 10, 0.5, True, name="a"),
    schedules.InverseTimeDecay(0.1, 10, 0.5, True, name="a"),
    schedules.PolynomialDecay(0.1, 10, 0.01, 2.0, True, name="a"),
    schedules.PiecewiseConstantDecay([3, 5], [0.1, 0.2, 0.3], name="a"),
    schedules.CosineDecay(0.1, 10, 0.2, "a", 0.3, 7),
    schedules.CosineDecayRestarts(0.1, 10, 3.0, 0.5, 0.2, name="a"),
    schedules.Warmup(schedules.Rex(0.1, 9), 5, 0.01, name="a"),
    schedules.Join([0.5, schedules.Rex(0.1, 9), 0.25], [7, 20], name="a"),
    schedules.OneCycle(0.1, 50, 0.4, 10.0, 100.0, name="a"),
    schedules.WarmupStableDecay(0.1, 5, 6, 7, 0.01, 0.02, "sqrt", name="a"),
    schedules.InverseSqrt(0.1, 10, 0.01, name="a"),
    schedules.Cyclical(0.1, 0.2, 10, "exponential", 0.9, name="a"),
    schedules.Rex(0.1, 10, name="a"),
]


def values(schedule, steps=STEPS, jit=False):
    @tf.function(jit_compile=jit, autograph=False)
    def compute(numbers):
        return tf.map_fn(schedule, numbers, fn_output_signature=tf.float32)

    return compute(tf.constant(np.asarray(steps, np.int64))).numpy().astype("d")


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", KERAS_CASES)
def test_keras_schedules_have_keras_values(name, jit):
    for arguments in KERAS_CASES[name]:
        ours = values(getattr(schedules, name)(0.1, **arguments), jit=jit)
        peer = values(getattr(keras.optimizers.schedules, name)(0.1, **arguments))
        exact = np.ones(len(STEPS), bool)
        if name == "CosineDecayRestarts" and arguments.get("t_mul", 2.0) != 1.0:
            exact = ~is_restart(arguments["first_decay_steps"], arguments.get("t_mul", 2.0))
        np.testing.assert_allclose(ours[exact], peer[exact], rtol=0, atol=1e-7)
        assert np.ptp(ours) > 0.01


def is_restart(length, factor):
    """The steps at which Keras may still be at the end of the piece before."""
    starts = [length * sum(factor**i for i in range(n)) for n in range(12)]
    return np.isin(STEPS, np.round(starts, 6))


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("factor", [1.0, 1.25, 1.5, 2.0, 3.0, 10.0])
def test_restarts_restart(factor, jit):
    length = 512
    schedule = schedules.CosineDecayRestarts(0.1, length, t_mul=factor, m_mul=0.5)
    start, steps, expected = 0.0, [], []
    for piece in range(5):
        steps += [start, start + length * factor**piece / 2]
        expected += [0.1 * 0.5**piece, 0.1 * 0.5**piece / 2]
        start += length * factor**piece
    np.testing.assert_allclose(values(schedule, steps, jit), expected, rtol=0, atol=1e-7)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_pieces_are_those_of_keras(jit):
    arguments = [10, 50, 51], [0.1, 0.02, 0.5, 0.3]
    ours = values(schedules.PiecewiseConstantDecay(*arguments), jit=jit)
    np.testing.assert_array_equal(
        ours, values(keras.optimizers.schedules.PiecewiseConstantDecay(*arguments))
    )
    assert set(ours[10:13]) == {ours[0], ours[11]}


def test_keras_schedules_have_keras_arguments():
    for name in [*KERAS_CASES, "PiecewiseConstantDecay"]:
        ours = inspect.signature(getattr(schedules, name)).parameters
        peer = inspect.signature(getattr(keras.optimizers.schedules, name)).parameters
        assert list(ours) == list(peer)
        for argument in set(ours) - {"name"}:
            assert ours[argument].default == peer[argument].default


def expected_values(t):
    """The published formulas at one step, in float64."""
    s = schedules
    half = lambda x: (1 + math.cos(math.pi * x)) / 2  # noqa: E731
    yield s.Warmup(0.1, 40, 0.02), 0.02 + 0.08 * min(t / 40, 1)
    rex = lambda t: 0.1 * (1 - min(t / 90, 1)) / (0.5 + 0.5 * (1 - min(t / 90, 1)))  # noqa: E731
    yield s.Rex(0.1, 90), rex(t)
    yield s.Warmup(s.Rex(0.1, 90), 40), 0.1 * t / 40 if t < 40 else rex(t - 40)
    joined = 0.05 if t < 30 else rex(t - 30) if t < 100 else 0.02
    yield s.Join([0.05, s.Rex(0.1, 90), 0.02], [30, 100]), joined
    cycle = 0.1 + (0.004 - 0.1) * half(t / 60) if t < 60 else 4e-7 + (0.1 - 4e-7) * half(
        min((t - 60) / 140, 1)
    )  # fmt: skip
    yield s.OneCycle(0.1, 200), cycle
    for form, left in {
        "linear": lambda x: 1 - x,
        "cosine": half,
        "sqrt": lambda x: 1 - math.sqrt(x),
    }.items():
        done = min(max((t - 150) / 100, 0), 1)
        level = 0.01 + 0.09 * t / 50 if t < 50 else 0.02 + (0.1 - 0.02) * left(done)
        yield s.WarmupStableDecay(0.1, 50, 100, 100, 0.01, 0.02, form), level
    root = 0.001 + 0.099 * t / 60 if t < 60 else 0.1 * math.sqrt(60 / t)
    yield s.InverseSqrt(0.1, 60, 0.001), root
    cycles = math.floor(1 + t / 80)
    height = max(0, 1 - abs(t / 40 - 2 * cycles + 1))
    for mode, scale in {
        "triangular": 1,
        "triangular2": 0.5 ** (cycles - 1),
        "exponential": 0.99**t,
    }.items():
        yield s.Cyclical(0.02, 0.1, 40, mode, 0.99), 0.02 + 0.08 * height * scale


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_further_schedules_follow_their_formulas(jit):
    chosen = [schedule for schedule, _ in expected_values(1)]
    expected = np.array([[value for _, value in expected_values(int(t))] for t in STEPS])
    for index, schedule in enumerate(chosen):
        ours = values(schedule, jit=jit)
        np.testing.assert_allclose(
            ours, expected[:, index], rtol=0, atol=1e-7, err_msg=repr(schedule)
        )
        assert np.ptp(ours) > 0.01


def test_every_schedule_is_tried():
    classes = {
        value
        for value in vars(schedules).values()
        if isinstance(value, type) and issubclass(value, schedules.Schedule)
    } - {schedules.Schedule}
    assert {type(schedule) for schedule in ALL} == classes
    assert {cls.__name__ for cls in classes} < set(schedules.__all__)


@pytest.mark.one_keras
@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_a_step_may_be_any_number(schedule):
    expected = schedule(12)
    assert expected.dtype == tf.float32
    assert expected.shape == ()
    for step in (
        np.int64(12), 12.0, tf.constant(12), tf.constant(12, tf.int64), tf.constant(12.0),
        tf.constant(12, tf.float64), tf.Variable(12, dtype=tf.int64),
    ):  # fmt: skip
        assert float(schedule(step)) == float(expected)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_configurations_round_trip(schedule):
    config = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.deserialize(config)
    assert type(again) is type(schedule)
    assert repr(again) == repr(schedule)
    signature = inspect.signature(type(schedule)).parameters
    for name, value in schedule.get_config().items():
        assert value != signature[name].default
    optimizer = tko.deserialize(json.loads(json.dumps(tko.serialize(tko.Adam(schedule)))))
    rate = tko.schedules.deserialize(optimizer.get_config()["learning_rate"])
    assert repr(rate) == repr(schedule)


@pytest.mark.parametrize("name", KERAS_CASES)
def test_keras_configurations_are_understood(name):
    for arguments in KERAS_CASES[name]:
        peer = getattr(keras.optimizers.schedules, name)(0.1, **arguments)
        ours = getattr(schedules, name).from_config(peer.get_config())
        assert ours.get_config() == peer.get_config()


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_keras_optimizers_follow_our_schedules(schedule):
    results = []
    for optimizer in (keras.optimizers.SGD(schedule), tko.SGD(schedule)):
        variable = tf.Variable([0.0])
        optimizer.build([variable])
        for _ in range(4):
            optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        results.append(variable.numpy())
    np.testing.assert_allclose(*results, rtol=0, atol=1e-7)
    expected = -sum(float(schedule(step)) for step in range(4))
    np.testing.assert_allclose(results[1], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.CosineDecay(0.1, 0), "`decay_steps` must be .*above 0.*Received"),
        (lambda: schedules.CosineDecay(0.1, decay_step=3), "'decay_step'.*'decay_steps'"),
        (lambda: schedules.Rex(0.1), "missing a required argument: 'decay_steps'"),
        (lambda: schedules.Join([0.1], [5]), "one entry more than `boundaries`"),
        (lambda: schedules.Join([0.1, "fast"], [5]), "`schedules` takes schedules.*'fast'"),
        (lambda: schedules.Join(0.1, [5]), "`schedules` must be a list"),
        (lambda: schedules.PiecewiseConstantDecay([5, 5], [1, 2, 3]), "each larger"),
        (lambda: schedules.PiecewiseConstantDecay([5], [1]), "one entry more"),
        (lambda: schedules.PiecewiseConstantDecay([5], [1, math.inf]), "finite numbers"),
        (lambda: schedules.Warmup(lambda: 0.1, 5), "`schedule` takes schedules"),
        (lambda: schedules.WarmupStableDecay(0.1, 1, 1, 1, decay="log"), "one of 'linear'"),
        (lambda: schedules.Schedule()(1), "does not override `value`"),
        (lambda: setattr(schedules.Rex(0.1, 5), "decay_steps", 7), "Create a new schedule"),
    ],
)
def test_errors_name_what_is_wrong(make, message):
    kinds = (ValueError, TypeError, NotImplementedError, AttributeError)
    with pytest.raises(kinds, match=message):
        make()


def test_plot_draws_the_values():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    schedule = schedules.Warmup(keras.optimizers.schedules.CosineDecay(0.1, 50), 10)
    axes = schedule.plot(60)
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), values(schedule, range(60)), atol=1e-7)
    assert schedule.plot(10, ax=axes) is axes
    assert len(axes.lines) == 2


# What follows a schedule besides the learning rate.


def scheduled_adam(gradients, starts, rate, beta_1, beta_2, decay):
    """Adam in float64, every hyperparameter a function of the number of updates."""
    values = [s.copy() for s in starts]
    m, v = ([np.zeros_like(s) for s in starts] for _ in range(2))
    product_1 = product_2 = 1.0
    for t, batch in enumerate(gradients):
        lr, b1, b2 = rate(t), beta_1(t), beta_2(t)
        product_1, product_2 = product_1 * b1, product_2 * b2
        alpha = lr * np.sqrt(1 - product_2) / (1 - product_1)
        for i, g in enumerate(batch):
            values[i] *= 1 - decay(t) * lr
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g**2
            values[i] -= alpha * m[i] / (np.sqrt(v[i]) + 1e-7)
    return values


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_betas_decay_and_rate_follow_schedules(regime):
    arguments = {
        "learning_rate": schedules.Rex(0.02, 60),
        "beta_1": schedules.CosineDecay(0.95, 40, alpha=0.8),
        "beta_2": schedules.Warmup(0.999, 30, 0.9),
        "weight_decay": schedules.InverseTimeDecay(0.5, 10, 1.0),
    }
    gradients, starts = harness.gradient_sequence(50), harness.starts()
    expected = scheduled_adam(
        gradients,
        starts,
        *(lambda t, s=arguments[n]: float(s(t)) for n in arguments),
    )
    optimizer = tko.Adam(**arguments)
    ours = harness.run(optimizer, gradients, starts, regime)
    assert harness.distance_error(ours, expected, starts) <= 2e-5
    assert optimizer.trace_count == 1


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", harness.OPTIMIZERS)
def test_a_constant_schedule_equals_the_number(cls):
    names = [n for n, p in state.hyperparameters(cls).items() if p.schedulable]
    numbers = {n: getattr(cls(), n) or 0.05 for n in names}
    constants = {
        name: schedules.PiecewiseConstantDecay([100], [number, 0.0])
        for name, number in numbers.items()
    }
    shapes = [(7,), (2, 3, 4)]
    gradients, starts = harness.gradient_sequence(6, shapes), harness.starts(shapes)
    expected = harness.run(cls(0.01, jit_compile=False, **numbers), gradients, starts)
    jit = "auto" if of(cls).keras.name else False  # what Keras has not runs in one way only
    optimizer = cls(0.01, jit_compile=jit, **constants)
    values = harness.run(optimizer, gradients, starts, "function")
    # A scheduled decay is a float32: what it leaves of one has fewer digits. Bias corrections
    # take that out again; elsewhere a step goes with its root.
    decays = [numbers[n] for n in names if n.startswith("beta_") and n not in cls.corrected]
    rounding = sum(0.5 * 2.0**-25 / (1.0 - decay) for decay in decays)
    assert harness.distance_error(values, expected, starts) <= 2e-5 + rounding
    assert "weight_decay" in names


@pytest.mark.one_keras
def test_momentum_follows_a_schedule():
    variable = tf.Variable([0.0])
    momentum = schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    optimizer = tko.SGD(1.0, momentum=momentum)
    steps = []
    for _ in range(4):
        before = variable.numpy()[0]
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        steps.append(before - variable.numpy()[0])
    assert steps == [1.0, 1.5, 1.375, 1.34375]


@pytest.mark.one_keras
def test_decay_of_a_step_of_ones_own_follows_a_schedule():
    class Plain(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * gradient)

    decay = schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    variable = tf.Variable([1.0])
    optimizer = Plain(1.0, weight_decay=decay)
    for expected in (0.5, 0.375):
        optimizer.apply_gradients([(tf.constant([0.0]), variable)])
        assert variable.numpy() == [expected]


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_two_replicas_follow_one_schedule(jit, strategy):
    def make():
        return tko.AdamW(
            schedules.Rex(0.02, 15),
            beta_1=schedules.Cyclical(0.8, 0.95, 3),
            weight_decay=schedules.Rex(0.1, 15),
            gradient_accumulation_steps=2,
            jit_compile=jit,
        )

    gradients, starts = harness.gradient_sequence(20), harness.starts()
    shares = [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]
    _, ours = harness.run_in_replicas(strategy, make, shares, starts)
    expected = harness.run(make(), gradients, starts, "function")
    for value, other in zip(ours, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


def test_scheduled_hyperparameters_are_checked_and_serialized():
    with pytest.raises(ValueError, match=r"`beta_1` must be .*below 1.0, a schedule of such"):
        tko.Adam(beta_1=schedules.Rex(1.5, 10))
    with pytest.raises(ValueError, match="`epsilon` must be"):
        tko.Adam(epsilon=schedules.Rex(0.5, 10))
    optimizer = tko.AdamW(
        beta_1=schedules.Rex(0.9, 10),
        weight_decay=schedules.Warmup(schedules.Rex(0.1, 9), 5),
    )
    config = json.loads(json.dumps(tko.serialize(optimizer)))
    again = tko.deserialize(config)
    assert repr(again.weight_decay) == repr(optimizer.weight_decay)
    assert repr(again.beta_1) == repr(optimizer.beta_1)


# The rate now, and a factor on top of the schedule.


def test_the_rate_now_is_a_number():
    variable = tf.Variable([0.0])
    for rate, expected in ((0.5, [0.5] * 3), (schedules.Rex(0.75, 2), [0.75, 0.5, 0.0])):
        optimizer = tko.SGD(rate)
        for number in expected:
            assert optimizer.current_learning_rate == number
            assert isinstance(optimizer.current_learning_rate, float)
            optimizer.apply_gradients([(tf.constant([1.0]), variable)])

    @tf.function
    def traced():
        return optimizer.current_learning_rate

    assert traced().numpy() == 0.0


def test_reduce_on_plateau_halves_a_cosine():
    schedule = schedules.CosineDecay(0.1, 40)
    model = harness.small_model()
    optimizer = tko.SGD(schedule)
    model.compile(optimizer, harness.classification_loss())
    callback = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=1, min_delta=100.0
    )
    x, y = harness.classification_data()
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(optimizer.current_learning_rate)

    model.fit(
        x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=[callback, Watch()]
    )
    factors = [1.0] * 8 + [0.5] * 4 + [0.25] * 4
    expected = [f * float(schedule(t)) for t, f in enumerate(factors)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert float(optimizer.learning_rate_multiplier) == pytest.approx(0.125, rel=1e-6)
    # The weights moved by these very rates.
    other = harness.small_model()
    rates = iter(expected)
    other.compile(tko.SGD(0.1), harness.classification_loss())

    class Follow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = next(rates)

    other.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=[Follow()])
    for ours, same in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, same, rtol=0, atol=1e-6)


def test_the_factor_is_kept_with_the_state(tmp_path):
    def make(rate=None):
        optimizer = tko.Adam(schedules.Rex(0.5, 100) if rate is None else rate)
        optimizer.build([tf.Variable([1.0, 2.0], name="w")])
        return optimizer

    optimizer = make()
    optimizer.learning_rate_multiplier = 0.25
    store, plain = {}, {}
    optimizer.save_own_variables(store)
    again = make()
    again.save_own_variables(plain)
    assert set(store) - set(plain) == {"learning_rate_multiplier"}
    again.load_own_variables(store)
    assert float(again.learning_rate_multiplier) == 0.25
    again.load_own_variables(plain)
    assert float(again.learning_rate_multiplier) == 1.0
    with pytest.raises(ValueError, match=r"follows no schedule, but the saved one did"):
        make(0.1).load_own_variables(store)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "state"))
    third = make()
    tf.train.Checkpoint(optimizer=third).restore(path).assert_consumed()
    assert float(third.learning_rate_multiplier) == 0.25


def test_the_factor_is_refused_where_it_cannot_be():
    optimizer = tko.SGD(0.1)
    assert not hasattr(optimizer, "learning_rate_multiplier")
    with pytest.raises(ValueError, match="Set `learning_rate`"):
        optimizer.learning_rate_multiplier = 0.5
    optimizer = tko.SGD(schedules.Warmup(0.1, 10))
    with pytest.raises(ValueError, match="which is 0 at this step"):
        optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="`learning_rate_multiplier` must be a finite number"):
        optimizer.learning_rate_multiplier = math.nan
    optimizer.learning_rate_multiplier = 2.0
    optimizer.learning_rate = schedules.Rex(0.5, 10)  # another schedule starts without one
    assert float(optimizer.learning_rate_multiplier) == 1.0


@pytest.mark.one_keras
def test_a_stopped_run_sees_the_rates_of_one_that_went_on(tmp_path):
    """A schedule, inside accumulation, inside `fit`; 100 calls, 50 updates."""
    x, y = harness.classification_data(samples=8 * 50)
    path = str(tmp_path / "state.weights.h5")

    def rates(models, stop):
        seen = []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                seen.append(self.model.optimizer.current_learning_rate)

        for number in range(models):
            model = harness.small_model()
            schedule = schedules.Warmup(schedules.CosineDecay(0.1, 40), 10, 0.01)
            optimizer = tko.Adam(schedule, gradient_accumulation_steps=2)
            model.compile(optimizer, harness.classification_loss())
            checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
            if number:
                optimizer.build(model.trainable_variables)
                checkpoint.restore(path + "-1").assert_consumed()
            model.fit(
                x[:stop], y[:stop], batch_size=8, epochs=2 // models, shuffle=False,
                verbose=0, callbacks=[Watch()],
            )  # fmt: skip
            checkpoint.save(path)
        return seen, model.get_weights()

    whole, weights = rates(1, 400)
    stopped, same = rates(2, 400)
    assert len(whole) == len(stopped) == 100
    assert whole == stopped
    schedule = schedules.Warmup(schedules.CosineDecay(0.1, 40), 10, 0.01)
    np.testing.assert_allclose(whole, [float(schedule(t // 2)) for t in range(100)], rtol=1e-6)
    for one, other in zip(weights, same):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_keras
def test_one_minus_power_keeps_its_digits_for_a_tensor():
    from tf_keras_optim.engine.numerics import formulas

    for rate in (0.0, 0.5, 0.9, 0.999):
        for step in (1.0, 2.0, 1000.0):
            rate32 = float(np.float32(rate))
            value = formulas.one_minus_power(tf.constant(rate32), tf.constant(step))
            np.testing.assert_allclose(value.numpy(), 1 - rate32**step, rtol=1e-6)


# Counts that float32 cannot tell apart.

FAR = 2**24

FAR_CASES = {
    "pieces": (
        schedules.PiecewiseConstantDecay([FAR, FAR + 1], [0.5, 0.25, 0.125]),
        lambda t: 0.5 if t <= FAR else 0.25 if t <= FAR + 1 else 0.125,
    ),
    "join": (
        schedules.Join([0.5, schedules.Rex(0.75, 2), 0.25], [FAR + 1, FAR + 3]),
        lambda t: {FAR + 1: 0.75, FAR + 2: 0.5}.get(t, 0.5 if t <= FAR else 0.25),
    ),
    "join of Keras' own": (
        schedules.Join(
            [0.5, keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.25, 0.125])],
            [FAR - 1],
        ),
        lambda t: 0.5 if t < FAR - 1 else 0.25 if t <= FAR else 0.125,
    ),
    "warmup": (
        schedules.Warmup(schedules.PiecewiseConstantDecay([0], [0.5, 0.25]), FAR + 1),
        lambda t: 0.5 * t / (FAR + 1) if t < FAR + 1 else 0.5 if t == FAR + 1 else 0.25,
    ),
    "cyclical": (
        schedules.Cyclical(0.0, 1.0, 4),
        lambda t: 1.0 - abs(t % 8 / 4 - 1.0),
    ),
    "staircase": (
        schedules.ExponentialDecay(0.5, FAR + 1, 0.5, staircase=True),
        lambda t: 0.5 if t < FAR + 1 else 0.25,
    ),
    "inverse time": (
        schedules.InverseTimeDecay(0.5, FAR + 1, 1.0, staircase=True),
        lambda t: 0.5 if t < FAR + 1 else 0.25,
    ),
    "polynomial": (
        schedules.PolynomialDecay(0.5, FAR // 2 + 2, 0.0, cycle=True),
        lambda t: 0.5 * (1 - t / (FAR + 4)),
    ),
    "restarts": (
        schedules.CosineDecayRestarts(0.5, FAR + 1, t_mul=1.0),
        lambda t: 0.25 * (1 + math.cos(math.pi * (t % (FAR + 1)) / (FAR + 1))),
    ),
    "growing restarts": (
        schedules.CosineDecayRestarts(0.5, 3, t_mul=1.0),
        lambda t: 0.25 * (1 + math.cos(math.pi * (t % 3) / 3)),
    ),
    "cosine": (
        schedules.CosineDecay(0.1, 4, warmup_target=0.5, warmup_steps=FAR - 1),
        lambda t: (
            0.1 + 0.4 * t / (FAR - 1)
            if t < FAR - 1
            else 0.25 * (1 + math.cos(math.pi * min(t - FAR + 1, 4) / 4))
        ),
    ),
    "level and decay": (
        schedules.WarmupStableDecay(0.5, 0, FAR - 1, 8),
        lambda t: 0.5 * (1 - max(t - FAR + 1, 0) / 8),
    ),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("case", FAR_CASES)
def test_steps_beyond_what_float32_counts_are_told_apart(case, jit):
    schedule, expected = FAR_CASES[case]
    steps = [FAR - 2, FAR - 1, FAR, FAR + 1, FAR + 2, FAR + 3]
    found = values(schedule, steps, jit)
    np.testing.assert_allclose(found, [expected(t) for t in steps], rtol=1e-6, atol=1e-9)
    counter = tf.Variable(FAR + 1, dtype=tf.int64)
    np.testing.assert_allclose(schedule(counter), expected(FAR + 1), rtol=1e-6, atol=1e-9)
    as_float = tf.constant(FAR + 1, tf.float64)
    np.testing.assert_allclose(schedule(as_float), expected(FAR + 1), rtol=1e-6, atol=1e-9)


@pytest.mark.one_keras
def test_an_optimizer_changes_its_rate_at_the_very_step():
    schedule = schedules.PiecewiseConstantDecay([FAR], [1.0, 0.5])
    optimizer, w = tko.SGD(schedule), tf.Variable([0.0])
    optimizer.build([w])
    optimizer.iterations.assign(FAR - 1)
    moved = []
    for _ in range(4):
        before = w.numpy()[0]
        optimizer.apply_gradients([(tf.constant([1.0]), w)])
        moved.append(float(before - w.numpy()[0]))
    assert moved == [1.0, 1.0, 0.5, 0.5]


def test_a_schedule_of_a_users_own_counts_as_far_as_it_says():
    class Plain(schedules.Schedule):
        def value(self, step):
            return tf.where(step > FAR, tf.constant(0.5), tf.constant(1.0))

    class Exact(schedules.Schedule):
        step_dtype = tf.float64

        def value(self, step):
            return tf.where(step > FAR, 0.5, 1.0)

    assert float(Plain()(FAR + 1)) == 1.0 and float(Plain()(FAR + 2)) == 0.5
    assert float(Exact()(FAR)) == 1.0 and float(Exact()(FAR + 1)) == 0.5
