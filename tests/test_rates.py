"""The learning rate in every form, set and replaced at every moment of a training."""

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import schedules

keras = tf.keras
Base = keras.optimizers.schedules.LearningRateSchedule


class Branch(Base):
    """Plain Python: its step must be a number."""

    def __call__(self, step):
        return 1.0 if step < 2 else 0.5


class Table(Base):
    """A table in NumPy."""

    def __call__(self, step):
        return np.array([1.0, 1.0, 0.5, 0.5, 0.25, 0.25])[int(step)]


def one_weight():
    return tf.Variable(0.0)


def moves(optimizer, variable, steps, apply=None):
    """How far the variable goes down in each step, with a gradient of 1."""
    apply = apply or (lambda: optimizer.apply_gradients([(tf.constant(1.0), variable)]))
    found = []
    for _ in range(steps):
        before = float(variable.numpy())
        apply()
        found.append(round(before - float(variable.numpy()), 6))
    return found


def line_model(optimizer, **arguments):
    """A model of one weight whose gradient is -1, so that it shows the rate of each step."""
    start = keras.layers.Input((1,))
    dense = keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)
    model = keras.Sequential([start, dense])
    model.compile(optimizer, loss=lambda y, p: -p, **arguments)
    return model


def fitted(model, steps):
    """The sum of the rates of some steps of `fit`."""
    before = float(model.get_weights()[0][0, 0])
    ones = np.ones((steps, 1), "float32")
    model.fit(ones, ones, batch_size=1, verbose=0, shuffle=False)
    return round(float(model.get_weights()[0][0, 0]) - before, 5)


# A rate that is replaced after `fit` has traced its step.

WAYS = [{}, {"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 3}]


@pytest.mark.one_keras
@pytest.mark.parametrize("arguments", WAYS, ids=str)
def test_the_next_fit_follows_a_schedule_that_was_assigned(arguments):
    pieces = schedules.PiecewiseConstantDecay
    model = line_model(tko.SGD(0.5), **arguments)
    assert fitted(model, 3) == 1.5
    model.optimizer.learning_rate = pieces([4], [0.25, 0.125])  # for a number
    assert fitted(model, 6) == 2 * 0.25 + 4 * 0.125
    model.optimizer.learning_rate = pieces([9], [4.0, 2.0])  # for a schedule
    assert fitted(model, 3) == 4.0 + 2 * 2.0
    model.optimizer.learning_rate = 0.5  # a factor on the schedule
    assert fitted(model, 3) == 1.5
    assert float(model.optimizer.learning_rate_multiplier) == 0.25


def test_the_next_fit_follows_a_number_that_was_assigned_to_a_schedule():
    model = line_model(tko.SGD(schedules.PiecewiseConstantDecay([1], [1.0, 0.5])))
    assert fitted(model, 3) == 2.5
    model.optimizer.learning_rate = 0.25
    assert fitted(model, 3) == 0.75


def test_the_next_fit_asks_a_callable_at_every_step():
    rate = [0.5]
    model = line_model(tko.SGD(lambda: rate[0]))
    assert fitted(model, 3) == 1.5
    rate[0] = 0.25
    assert fitted(model, 3) == 0.75
    model.optimizer.learning_rate = 2.0
    assert fitted(model, 3) == 6.0
    model.optimizer.learning_rate = lambda: rate[0]
    assert fitted(model, 2) == 0.5


def test_a_schedule_is_assigned_around_everything_else():
    optimizer = tko.SGD(0.5, gradient_accumulation_steps=2, global_clipnorm=10.0)
    model = line_model(tko.LossScaleOptimizer(optimizer))
    assert fitted(model, 4) == 1.0
    model.optimizer.learning_rate = schedules.PiecewiseConstantDecay([2], [0.25, 0.125])
    assert fitted(model, 4) == 0.25 + 0.125


def test_replicas_follow_a_schedule_that_was_assigned(strategy):
    with strategy.scope():
        weight = tf.Variable(0.0)
        optimizer = tko.SGD(0.5)
        optimizer.build([weight])

    @tf.function
    def step():
        def replica():
            optimizer.apply_gradients([(tf.constant(0.5), weight)])

        strategy.run(replica)

    assert moves(optimizer, weight, 2, step) == [0.5, 0.5]
    optimizer.learning_rate = schedules.PiecewiseConstantDecay([2], [0.25, 0.125])
    assert moves(optimizer, weight, 2, step) == [0.25, 0.125]
    for component in strategy.experimental_local_results(weight):
        assert float(component.numpy()) == -1.375


@pytest.mark.one_keras
def test_a_long_run_after_the_assignment_stays_exact():
    """More updates than are computed at a time."""
    weight, optimizer = tf.Variable(0.0, dtype=tf.float64), tko.SGD(0.5)
    optimizer.build([weight])

    @tf.function
    def steps(count):
        for _ in tf.range(count):
            optimizer.apply_gradients([(tf.constant(1.0, tf.float64), weight)])

    steps(tf.constant(1))
    schedule = schedules.Cyclical(0.25, 1.0, 64)
    optimizer.learning_rate = schedule
    for count in (3, 400, 400, 400, 400, 400):
        steps(tf.constant(count))
    expected = -0.5 - sum(float(schedule(t)) for t in range(1, 2004))
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-9)


@pytest.mark.one_keras
def test_a_call_of_too_many_steps_is_told():
    weight, optimizer = one_weight(), tko.SGD(0.5)
    optimizer.build([weight])

    @tf.function
    def steps(count):
        for _ in tf.range(count):
            optimizer.apply_gradients([(tf.constant(1.0), weight)])

    steps(tf.constant(1))
    optimizer.learning_rate = schedules.Rex(0.5, 100)
    steps(tf.constant(2000))
    with pytest.raises(RuntimeError, match=r"one call of a function made 2000 updates"):
        steps(tf.constant(1))


def test_a_function_with_such_a_step_can_be_saved(tmp_path):
    module = tf.Module()
    module.weight, module.optimizer = one_weight(), tko.SGD(0.5)
    module.optimizer.build([module.weight])

    @tf.function(input_signature=[])
    def step():
        module.optimizer.apply_gradients([(tf.constant(1.0), module.weight)])
        return module.weight.read_value()

    module.step = step
    module.step()
    tf.saved_model.save(module, str(tmp_path))
    again = tf.saved_model.load(str(tmp_path))
    assert float(again.step()) == -1.0


# Schedules in plain Python.


@pytest.mark.one_keras
@pytest.mark.parametrize("schedule", [Branch, Table])
def test_a_schedule_in_plain_python_is_called_at_every_eager_step(schedule):
    assert moves(tko.SGD(schedule()), one_weight(), 4) == [1.0, 1.0, 0.5, 0.5]
    weight, scaled = one_weight(), tko.LossScaleOptimizer(tko.SGD(schedule()))
    step = lambda: scaled.minimize(lambda: 1.0 * weight, [weight])  # noqa: E731
    assert moves(scaled, weight, 4, step) == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.one_keras
def test_other_hyperparameters_follow_such_schedules_too():
    weight = one_weight()
    optimizer = tko.SGD(1.0, momentum=Branch(), weight_decay=Branch())
    twin, other = one_weight(), tko.SGD(1.0, momentum=1.0, weight_decay=1.0)
    for step in range(4):
        if step == 2:
            other.momentum = other.weight_decay = 0.5
        optimizer.apply_gradients([(tf.constant(1.0), weight)])
        other.apply_gradients([(tf.constant(1.0), twin)])
    assert weight.numpy() == twin.numpy() != 0.0


@pytest.mark.one_keras
def test_sparse_gradients_go_with_such_schedules():
    table = tf.Variable(tf.zeros([3, 2]))
    optimizer = tko.SGD(Branch(), sparse="lazy")
    for _ in range(3):
        rows = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([1]), tf.constant([3, 2]))
        optimizer.apply_gradients([(rows, table)])
    np.testing.assert_array_equal(table.numpy(), [[0, 0], [-2.5, -2.5], [0, 0]])


def test_fit_follows_a_schedule_in_plain_python():
    assert fitted(line_model(tko.SGD(Branch())), 4) == 3.0
    assert fitted(line_model(tko.SGD(Table()), jit_compile=True), 4) == 3.0


def test_a_hyperparameter_in_a_function_says_why_it_cannot_follow_one():
    weight, optimizer = one_weight(), tko.SGD(1.0, momentum=Branch())
    optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.constant(1.0), weight)]))
    with pytest.raises(
        TypeError, match=r"`momentum` follows .* fails inside a traced function"
    ):
        step()


def test_an_error_of_the_schedule_itself_goes_through():
    class Broken(Base):
        def __call__(self, step):
            raise ValueError("no rate today")

    with pytest.raises(ValueError, match="no rate today"):
        tko.SGD(Broken()).apply_gradients([(tf.constant(1.0), one_weight())])


# Callables.


def test_a_callable_may_return_a_variable():
    rate, weight = tf.Variable(0.5), one_weight()
    optimizer = tko.SGD(lambda: rate)
    assert moves(optimizer, weight, 1) == [0.5]
    rate.assign(0.25)
    assert moves(optimizer, weight, 1) == [0.25]
    step = tf.function(lambda: optimizer.apply_gradients([(tf.constant(1.0), weight)]))
    assert moves(optimizer, weight, 1, step) == [0.25]
    rate.assign(2.0)
    assert moves(optimizer, weight, 1, step) == [2.0]
    assert optimizer.current_learning_rate == 2.0


def test_a_callable_must_return_one_number():
    optimizer = tko.SGD(lambda: tf.constant([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"must return one number.*shape \(2,\)"):
        optimizer.apply_gradients([(tf.constant(1.0), one_weight())])


def test_a_plateau_replaces_a_callable():
    model = line_model(tko.SGD(lambda: 0.5))
    plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=100.0)
    ones = np.ones((2, 1), "float32")
    model.fit(ones, ones, batch_size=1, epochs=4, verbose=0, callbacks=[plateau])
    # Epochs 0 and 1 at 0.5, then half as much after each.
    assert float(model.get_weights()[0][0, 0]) == 2 * (0.5 + 0.5 + 0.25 + 0.125)


# Setting the rate.


@pytest.mark.parametrize("schedule", [schedules.Warmup(0.1, 4), schedules.CosineDecay(0.1, 2)])
def test_giving_the_rate_back_keeps_the_factor(schedule):
    model = line_model(tko.SGD(schedule))
    model.optimizer.learning_rate_multiplier = 0.3
    seen = []

    def same(epoch, rate):
        seen.append(rate)
        return rate

    keep = keras.callbacks.LearningRateScheduler(same)
    ones = np.ones((1, 1), "float32")
    model.fit(ones, ones, epochs=6, verbose=0, callbacks=[keep])
    factor = np.float32(0.3)
    assert float(model.optimizer.learning_rate_multiplier) == factor
    np.testing.assert_allclose(seen, [float(schedule(t)) * factor for t in range(6)], rtol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [False, True])
def test_the_rate_can_be_set_in_a_function(jit):
    for start, first, scale in ((0.1, 0.5, 1.0), (schedules.Rex(0.5, 1000), 0.25, 1.0)):
        weight, optimizer = one_weight(), tko.SGD(start)
        optimizer.build([weight])

        @tf.function(jit_compile=jit)
        def step(rate, optimizer=optimizer, weight=weight):
            optimizer.learning_rate = rate
            optimizer.apply_gradients([(tf.constant(1.0), weight)])

        for rate in (first, 2.0, first):
            before = float(weight.numpy())
            step(tf.constant(rate))
            assert before - float(weight.numpy()) == pytest.approx(rate * scale, rel=1e-6)


@pytest.mark.one_keras
def test_replicas_set_the_rate_in_a_function(strategy):
    with strategy.scope():
        weight = tf.Variable(0.0)
        optimizer = tko.SGD(0.1)
        optimizer.build([weight])

    @tf.function
    def step(rate):
        def replica():
            optimizer.learning_rate = rate
            optimizer.apply_gradients([(tf.constant(0.5), weight)])

        strategy.run(replica)

    step(tf.constant(0.5))
    step(tf.constant(0.25))
    for component in strategy.experimental_local_results(weight):
        assert float(component.numpy()) == -0.75


def test_an_optimizer_cannot_be_made_with_a_tensor_of_a_graph():
    @tf.function
    def make(rate):
        tko.SGD(rate)

    with pytest.raises(ValueError, match="`learning_rate` is a tensor of a graph"):
        make(tf.constant(0.5))


def test_everything_can_be_read_in_the_scope_of_a_strategy(strategy):
    with strategy.scope():
        weight = tf.Variable(1.0)
        optimizer = tko.SGD(schedules.Rex(0.5, 8), gradient_accumulation_steps=2)
        optimizer.build([weight])
        assert float(optimizer.learning_rate) == optimizer.current_learning_rate == 0.5
        assert int(optimizer.iterations) == 0
        optimizer.learning_rate = 0.25
        assert optimizer.current_learning_rate == 0.25
        scaled = tko.LossScaleOptimizer(tko.SGD(0.1), initial_scale=8.0)
        assert float(scaled.loss_scale) == 8.0
        assert float(scaled.scale_loss(tf.constant(2.0))) == 16.0


# float64.


@pytest.fixture
def float64():
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx(before)


class Tenth(Base):
    def __call__(self, step):
        return tf.constant(0.1, tf.float64) + 0.0 * tf.cast(step, tf.float64)


@pytest.mark.one_keras
@pytest.mark.parametrize("in_function", [False, True])
def test_rates_have_the_digits_of_float64(float64, in_function):
    for rate in (0.1, Tenth(), lambda: 0.1):
        weight = tf.Variable(1.0, dtype=tf.float64)
        optimizer = tko.SGD(rate)
        optimizer.build([weight])
        pairs = [(tf.constant(1.0, tf.float64), weight)]
        apply = optimizer.apply_gradients
        (tf.function(apply) if in_function else apply)(pairs)
        assert abs(float(weight.numpy()) - 0.9) < 1e-15
        assert optimizer.current_learning_rate == 0.1


def test_a_schedule_keeps_its_digits_for_float64_variables():
    weight = tf.Variable(1.0, dtype=tf.float64)
    tko.SGD(Tenth()).apply_gradients([(tf.constant(1.0, tf.float64), weight)])
    assert abs(float(weight.numpy()) - 0.9) < 1e-15


def test_files_of_both_dtypes_are_loaded(float64, tmp_path):
    def saved(rate, name):
        optimizer = tko.Adam(rate)
        optimizer.build([tf.Variable([1.0], name="w")])
        tko.save_state(str(tmp_path / name), optimizer)
        return optimizer

    wide = saved(0.1, "wide")
    keras.backend.set_floatx("float32")
    narrow = saved(0.2, "narrow")
    tko.load_state(str(tmp_path / "wide"), narrow)
    assert narrow.current_learning_rate == float(np.float32(0.1))
    saved(0.2, "narrow")
    tko.load_state(str(tmp_path / "narrow"), wide)
    assert wide.current_learning_rate == float(np.float32(0.2))
