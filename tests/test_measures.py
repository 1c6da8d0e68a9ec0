"""Algorithms that use numbers over all variables: `measure` for each, `conclude` for all."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

SHAPES = ((4, 3), (5,), (2, 2))
STEPS = 6


class Largest(tko.Optimizer):
    """Momentum in units of the largest norm that gradient and momentum together had so far."""

    elementwise = True
    slots = ("momentum",)
    step_slots = (tko.Slot("largest"),)

    def measure(self, gradient, value, slots, scalars):
        moved = tf.reduce_sum(tf.square(slots["momentum"]))
        return {"squares": tf.reduce_sum(tf.square(gradient)), "moved": moved}

    def conclude(self, sums, scalars):
        norm = tf.sqrt(sums["squares"] + sums["moved"])
        return {"largest": tf.maximum(tf.cast(scalars.largest, norm.dtype), norm)}

    def update(self, gradient, value, slots, scalars):
        momentum = 0.5 * slots["momentum"] + gradient
        new = value - scalars.learning_rate * momentum / scalars.largest
        return new, {"momentum": momentum}


def reference(starts, batches, rate=0.1, decay=0.0):
    """The same on one long vector, in float64."""
    value = np.concatenate([start.ravel() for start in starts]).astype("d")
    momentum, largest = np.zeros_like(value), 0.0
    for batch in batches:
        gradient = np.concatenate([g.ravel() for g in batch]).astype("d")
        value = value * (1.0 - rate * decay)
        largest = max(largest, np.sqrt(np.sum(gradient**2) + np.sum(momentum**2)))
        momentum = 0.5 * momentum + gradient
        value = value - rate * momentum / largest
    return value


def data(shapes=SHAPES, steps=STEPS):
    generator = np.random.default_rng(3)
    starts = [generator.normal(size=shape).astype("f") for shape in shapes]
    batches = [[generator.normal(size=s).astype("f") for s in shapes] for _ in range(steps)]
    return starts, batches


def flat(values):
    return np.concatenate([np.asarray(v, "d").ravel() for v in values])


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_the_sums_are_over_all_variables(regime):
    starts, batches = data()
    values = harness.run(Largest(0.1), batches, starts, regime)
    np.testing.assert_allclose(flat(values), reference(starts, batches), rtol=0, atol=2e-6)


@pytest.mark.one_keras
def test_neither_order_nor_division_of_variables_counts():
    starts, batches = data()
    whole = flat(harness.run(Largest(0.1), batches, starts))
    turned = harness.run(Largest(0.1), [batch[::-1] for batch in batches], starts[::-1])
    np.testing.assert_allclose(flat(turned[::-1]), whole, rtol=0, atol=1e-6)

    def cut(arrays):
        return [arrays[0][:1], arrays[0][1:], *arrays[1:]]

    halves = harness.run(Largest(0.1), [cut(batch) for batch in batches], cut(starts))
    np.testing.assert_allclose(flat(halves), whole, rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("cut", [False, True])
def test_replicas_find_the_same_sums(strategy, cut):
    starts, batches = data()
    expected = reference(starts, batches)
    if cut:
        starts = [starts[0][:1], starts[0][1:], *starts[1:]]
        batches = [[batch[0][:1], batch[0][1:], *batch[1:]] for batch in batches]
    shares = [[[0.25 * g for g in batch], [0.75 * g for g in batch]] for batch in batches]
    _, values = harness.run_in_replicas(strategy, lambda: Largest(0.1), shares, starts)
    np.testing.assert_allclose(flat(values), expected, rtol=0, atol=2e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{}, {"jit_compile": False}, {"weight_decay": 0.1}])
def test_what_is_measured_is_what_the_update_is_given(options):
    """Gathered, averaged, unscaled and decayed; the sums come before any variable moves."""
    starts, batches = data(steps=8)
    optimizer = Largest(0.1, gradient_accumulation_steps=2, loss_scale_factor=4.0, **options)
    scaled = [[4.0 * g for g in batch] for batch in batches]
    values = harness.run(optimizer, scaled, starts)
    means = [
        [(a + b) / 2 for a, b in zip(first, second)]
        for first, second in zip(batches[::2], batches[1::2])
    ]
    expected = reference(starts, means, decay=options.get("weight_decay", 0.0))
    np.testing.assert_allclose(flat(values), expected, rtol=0, atol=2e-6)


@pytest.mark.one_keras
def test_a_clip_comes_first():
    starts, batches = data()
    norms = [np.sqrt(sum(np.sum(g.astype("d") ** 2) for g in batch)) for batch in batches]
    clipped = [[g / n for g in batch] for batch, n in zip(batches, norms)]
    values = harness.run(Largest(0.1, global_clipnorm=1.0), batches, starts)
    np.testing.assert_allclose(flat(values), reference(starts, clipped), rtol=0, atol=2e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_that_overflows_leaves_the_numbers_alone(compiled):
    starts, batches = data()
    variables = [tf.Variable(start) for start in starts]
    wrapped = tko.LossScaleOptimizer(Largest(0.1), initial_scale=8.0)

    @tf.function(jit_compile=compiled)
    def step(*gradients):
        if not harness.IS_KERAS_3:  # there a loop unscales them itself
            gradients = wrapped.get_unscaled_gradients(gradients)
        wrapped.apply_gradients(zip(gradients, variables))

    wrapped.build(variables)
    for number, batch in enumerate(batches):
        scale = float(wrapped.dynamic_scale.numpy())
        if number == 2:
            step(*[tf.constant(g) * np.inf for g in batch])
            scale /= 2.0
        step(*[tf.constant(g * scale) for g in batch])
    np.testing.assert_allclose(flat(variables), reference(starts, batches), rtol=0, atol=2e-6)


@pytest.mark.one_keras
def test_narrow_and_wide_variables_share_one_number():
    starts, batches = data()
    dtypes = (tf.float32, tf.float64, tf.bfloat16)
    starts = [np.asarray(tf.cast(s, d), "d") for s, d in zip(starts, dtypes)]
    variables = [tf.Variable(tf.cast(s, d)) for s, d in zip(starts, dtypes)]
    optimizer = Largest(0.1)
    for batch in batches:
        optimizer.apply_gradients([(tf.cast(g, v.dtype), v) for g, v in zip(batch, variables)])
    batches = [[np.asarray(tf.cast(g, d), "d") for g, d in zip(b, dtypes)] for b in batches]
    expected = reference(starts, batches)
    np.testing.assert_allclose(flat(variables)[:17], expected[:17], rtol=0, atol=2e-6)
    np.testing.assert_allclose(flat(variables)[17:], expected[17:], rtol=2**-8, atol=0)


@pytest.mark.one_keras
def test_rows_of_a_table_count_as_they_are_updated():
    start = np.ones((4, 2), "f")
    table = tf.Variable(start)
    optimizer = Largest(0.1, sparse="lazy")
    rows = tf.IndexedSlices(tf.constant([[1.0, 2.0], [2.0, 0.0]]), tf.constant([1, 1]))
    optimizer.apply_gradients([(rows, table)])
    expected = start.copy()
    expected[1] -= 0.1 * np.array([3.0, 2.0]) / np.sqrt(13.0)
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-6)


@pytest.mark.one_keras
def test_variables_that_gathered_nothing_do_not_count():
    """Neither their gradients, which are zero, nor their momentum, which is not."""
    starts, batches = data(steps=1)
    variables = [tf.Variable(start) for start in starts]
    optimizer = Largest(0.1, gradient_accumulation_steps=2)
    for _ in range(2):
        optimizer.apply_gradients(zip(batches[0], variables))
    middle = [v.numpy() for v in variables]
    gradient = 10.0 * batches[0][0].astype("d")
    for _ in range(2):
        optimizer.apply_gradients([(gradient, variables[0])])
    largest = np.sqrt(np.sum(gradient**2) + np.sum(batches[0][0].astype("d") ** 2))
    moved = 0.1 * (0.5 * batches[0][0] + gradient) / largest
    np.testing.assert_allclose(variables[0].numpy(), middle[0] - moved, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(variables[1].numpy(), middle[1])


@pytest.mark.one_keras
def test_what_is_concluded_is_saved_and_is_the_same_for_variables_that_came_late():
    starts, batches = data(steps=4)
    variables = [tf.Variable(start) for start in starts]
    optimizer = Largest(0.1)
    for batch in batches[:2]:
        optimizer.apply_gradients(zip(batch[:2], variables[:2]))
    saved = optimizer.state_dict()
    resumed, others = Largest(0.1), [tf.Variable(v) for v in variables]
    resumed.build(others[:2])
    resumed.load_state_dict(saved)
    for chosen, using in ((variables, optimizer), (others, resumed)):
        for batch in batches[2:]:
            using.apply_gradients(zip(batch, chosen))
    zeros = [[*batch[:2], np.zeros_like(batch[2])] for batch in batches[:2]]
    expected = reference(starts, [*zeros, *batches[2:]])
    np.testing.assert_allclose(flat(variables), expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(flat(variables), flat(others))


class Half(Largest):
    conclude = tko.Optimizer.conclude


class Wrong(Largest):
    def measure(self, gradient, value, slots, scalars):
        return {"squares": tf.square(gradient)}


class Uneven(Largest):
    def measure(self, gradient, value, slots, scalars):
        return {str(gradient.shape.rank): tf.reduce_sum(gradient)}


class WithAStep(Largest):
    def update_step(self, gradient, variable, learning_rate):
        variable.assign_sub(gradient)


@pytest.mark.one_keras
def test_what_cannot_have_an_effect_or_is_no_number_is_refused():
    with pytest.raises(TypeError, match="Half overrides `measure` and not `conclude`"):
        Half()
    with pytest.raises(TypeError, match=r"WithAStep overrides `measure`.*`update_step`"):
        WithAStep()
    variables = [tf.Variable([1.0, 2.0]), tf.Variable([[1.0]])]
    gradients = [tf.ones_like(v) for v in variables]
    with pytest.raises(ValueError, match=r"`Wrong.measure` must return 0-d.*shape \(2,\)"):
        Wrong().apply_gradients(zip(gradients, variables))
    with pytest.raises(ValueError, match=r"`Uneven.measure` must return the same names"):
        Uneven().apply_gradients(zip(gradients, variables))
    with pytest.raises(TypeError, match="`update_step` updates one variable"):
        Largest().update_step(gradients[0], variables[0], 0.1)
    assert flat(variables).tolist() == [1.0, 2.0, 1.0]


@pytest.mark.one_keras
@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_that_fit_builds_goes_on_from_its_file(tmp_path, scaled):
    """Compiled without an input shape, saved, loaded under other automatic names."""
    keras = tf.keras
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("f")

    def fit(model):
        model.fit(x, x[:, :2], batch_size=8, epochs=2, shuffle=False, verbose=0)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    optimizer = Largest(0.1)
    model.compile(tko.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")
    fit(model)
    start = model.get_weights()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Largest": Largest}
    )
    fit(model)
    fit(loaded)
    for value, other, before in zip(loaded.get_weights(), model.get_weights(), start):
        np.testing.assert_array_equal(value, other)
        assert np.any(value != before)
