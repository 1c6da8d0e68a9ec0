"""float16 and bfloat16 weights: master copies, rounding by chance, narrow slots."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state, xla
from tf_keras_optim.engine.numerics import precision

JIT = [True, False]
HALVES = [tf.bfloat16, tf.float16]


def float64(variable):
    return variable.numpy().astype("d")


def train(optimizer, value=1.0, steps=20, size=4096, gradient=1.0, dtype=tf.bfloat16):
    weight = tf.Variable(tf.fill([size], tf.constant(value, dtype)), name="weight")
    for _ in range(steps):
        optimizer.apply_gradients([(tf.fill([size], tf.constant(gradient, dtype)), weight)])
    return weight


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("jit", JIT)
def test_master_weights_add_up_small_steps(jit, dtype):
    """At 100, neighbours in bfloat16 are 0.5 apart; a step is 0.1."""
    if jit is True:
        xla.need(dtype)
    weight = train(tko.Adam(0.1, jit_compile=jit), value=100.0, dtype=dtype)
    assert np.all(np.abs(100.0 - float64(weight) - 2.0) <= 0.05)
    without = tko.Adam(0.1, jit_compile=jit, master_weights=False)
    lost = train(without, value=100.0, dtype=tf.bfloat16)
    assert np.all(float64(lost) == 100.0)


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", [tko.Adam, tko.AdamW, tko.Lamb, tko.Nadam])
def test_what_keras_leaves_standing_moves(cls):
    weight = train(cls(0.1))
    wide = train(cls(0.1), dtype=tf.float32)
    moved = np.abs(float64(wide) - 1.0)
    assert np.all(moved > 0.3)
    np.testing.assert_allclose(float64(weight), float64(wide), atol=0.01)


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_stochastic_rounding_is_right_on_average(jit, dtype, sign):
    if jit is True:
        xla.need(dtype)
    optimizer = tko.Adam(0.1, stochastic_rounding=True, jit_compile=jit)
    # So many that the bound is five standard deviations of the mean or more.
    weight = train(optimizer, value=sign * 1000.0, size=65_536, dtype=dtype, gradient=sign)
    moved = sign * 1000.0 - float64(weight)
    assert abs(np.mean(moved) * sign - 2.0) <= 0.02 * (8 if dtype == tf.bfloat16 else 1)
    assert len(np.unique(float64(weight))) > 1
    assert set(state.slots(optimizer)) == {"momentum", "velocity"}


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
def test_stochastic_rounding_moves_four_thousand_weights_by_two_on_average(jit):
    optimizer = tko.Adam(0.1, stochastic_rounding=True, jit_compile=jit)
    weight = train(optimizer, value=100.0)
    assert abs(np.mean(100.0 - float64(weight)) - 2.0) <= 0.02


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "value", [1.0 + 2**-13, -1.0 - 2**-13, 3e-5, -1.7e-7, 5e-8, 0.0, 60000.3, -1e-3]
)
def test_a_rounded_value_is_a_neighbour_and_unbiased(value, dtype):
    values = tf.fill([100_000], tf.constant(value, tf.float32))
    found = precision.stored(values, dtype, tf.constant([3, 5])).numpy().astype("d")
    neighbours = np.unique(found)
    exact = float(np.float32(value))
    assert len(neighbours) <= 2
    assert neighbours[0] <= exact <= neighbours[-1]
    gap = neighbours[-1] - neighbours[0]
    assert abs(found.mean() - exact) <= 4 * gap * 0.5 / np.sqrt(found.size)
    if gap:
        adjacent = tf.bitcast(tf.cast(tf.constant(neighbours), dtype), tf.int16).numpy()
        assert abs(int(adjacent[1]) - int(adjacent[0])) == 1


@pytest.mark.one_keras
def test_what_is_not_finite_stays_so():
    special = tf.constant([np.inf, -np.inf, np.nan])
    for dtype in HALVES:
        found = precision.stored(special, dtype, tf.constant([1, 2])).numpy().astype("d")
        np.testing.assert_array_equal(found, special.numpy())


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("dtype", HALVES)
def test_numbers_near_the_largest_are_rounded_to_the_nearest(dtype, jit):
    if jit is True:
        xla.need(dtype)
    largest = float(dtype.max)
    above = np.float32(largest * (1.0 + 2.0**-13))  # nearer to it than to what comes next
    below = np.nextafter(np.float32(largest), np.float32(0.0))
    for value in (above, np.float32(largest), below):
        values = tf.constant([value, -value] * 1000)
        store = tf.function(
            lambda: precision.stored(values, dtype, tf.constant([1, 2])),  # noqa: B023
            jit_compile=jit is True,
        )
        found = np.abs(store().numpy().astype("d"))
        assert found.max() == largest
        if value != below:
            assert found.min() == largest


@pytest.mark.one_keras
def test_stochastic_rounding_makes_no_infinities():
    largest = float(tf.float16.max)
    w = tf.Variable(tf.fill([2000], tf.constant(largest, tf.float16)))
    optimizer = tko.SGD(1.0, stochastic_rounding=True)
    for _ in range(3):
        optimizer.apply_gradients([(tf.fill([2000], tf.constant(-8.0, tf.float16)), w)])
        np.testing.assert_array_equal(w.numpy(), np.float16(largest))


@pytest.mark.one_keras
def test_stochastic_rounding_follows_its_seed():
    def final(**arguments):
        optimizer = tko.Adam(0.1, stochastic_rounding=True, **arguments)
        return float64(train(optimizer, value=100.0, steps=3))

    np.testing.assert_array_equal(final(), final())
    assert np.mean(final() != final(rounding_seed=1)) > 0.1


@pytest.mark.one_keras
@pytest.mark.parametrize("option", [{}, {"stochastic_rounding": True}])
@pytest.mark.parametrize("slots", [None, "bfloat16"])
def test_replicas_round_alike_and_equal_one(option, slots, strategy):
    def make():
        return tko.AdamW(0.1, slot_dtype=slots, use_ema=True, **option)

    with strategy.scope():
        weight = tf.Variable(tf.fill([512], tf.constant(100.0, tf.bfloat16)), name="weight")
        optimizer = make()

    @tf.function(autograph=False)
    def step():
        gradient = tf.fill([512], tf.constant(0.5, tf.bfloat16))
        strategy.run(lambda: optimizer.apply_gradients([(gradient, weight)]))

    for _ in range(5):
        step()
    first, second = (float64(v) for v in strategy.experimental_local_results(weight))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, float64(train(make(), 100.0, 5, size=512)))


@pytest.mark.one_keras
@pytest.mark.parametrize("option", [{}, {"stochastic_rounding": True}])
def test_a_stopped_run_goes_on_bit_for_bit(option):
    whole = train(tko.Adam(0.1, slot_dtype="bfloat16", **option), 100.0, steps=6, size=64)
    first = tko.Adam(0.1, slot_dtype="bfloat16", **option)
    weight = train(first, 100.0, steps=3, size=64)
    store = {}
    first.save_own_variables(store)
    again = tko.Adam(0.1, slot_dtype="bfloat16", **option)
    again.load_own_variables(store)
    for _ in range(3):
        again.apply_gradients([(tf.fill([64], tf.constant(1.0, tf.bfloat16)), weight)])
    np.testing.assert_array_equal(float64(weight), float64(whole))


@pytest.mark.one_keras
def test_weights_that_someone_else_sets_count():
    """The master copy must not bring back what was overwritten, as by `load_weights`."""
    optimizer = tko.SGD(0.125)
    weight = train(optimizer, value=100.0, steps=3, size=4)  # 99.625, seen as 99.5
    weight.assign(tf.constant([8.0, 8.0, 8.0, 99.5], tf.bfloat16))
    optimizer.apply_gradients([(tf.fill([4], tf.constant(1.0, tf.bfloat16)), weight)])
    np.testing.assert_array_equal(float64(weight), [7.875, 7.875, 7.875, 99.5])
    master = state.slots(optimizer)["master"]
    np.testing.assert_array_equal(master, [7.875, 7.875, 7.875, 99.5])


@pytest.mark.one_keras
@pytest.mark.parametrize("option", [{}, {"stochastic_rounding": True}])
def test_lazy_rows_of_narrow_tables(option):
    table = tf.Variable(tf.fill([5, 4096], tf.constant(100.0, tf.bfloat16)), name="table")
    optimizer = tko.Adam(0.1, sparse="lazy", **option)
    rows = tf.IndexedSlices(tf.ones([2, 4096], tf.bfloat16), tf.constant([1, 3]))
    for _ in range(20):
        optimizer.apply_gradients([(rows, table)])
    values = float64(table)
    assert np.all(values[[0, 2, 4]] == 100.0)
    assert np.abs(100.0 - values[[1, 3]].mean() - 2.0) <= 0.05


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_slot_dtype_bfloat16_stays_close_to_float32(regime):
    gradients = harness.gradient_sequence(60, [(64, 64)])
    starts = harness.starts([(64, 64)])
    narrow = tko.Adam(0.01, slot_dtype="bfloat16")
    values = harness.run(narrow, gradients, starts, regime)
    expected = harness.run(tko.Adam(0.01), gradients, starts, "function")
    error = np.mean(np.abs(values[0] - expected[0])) / np.mean(np.abs(expected[0] - starts[0]))
    assert error <= 0.01
    assert {slot.dtype.name for slot in state.slots(narrow).values()} == {"bfloat16"}
    assert abs(np.mean(values[0] - expected[0])) <= 1e-4  # no bias


@pytest.mark.one_keras
def test_what_does_not_go_together_is_refused():
    class Own(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * gradient)

    with pytest.raises(ValueError, match="exclude one another"):
        tko.Adam(stochastic_rounding=True, master_weights=True)
    for arguments in ({"slot_dtype": "bfloat16"}, {"stochastic_rounding": True}):
        with pytest.raises(ValueError, match="needs an algorithm written as `update`"):
            Own(**arguments)
    optimizer = tko.Adam()
    train(optimizer, steps=1, size=2)
    with pytest.raises(ValueError, match="Create a new optimizer for another `slot_dtype`"):
        optimizer.slot_dtype = "bfloat16"
    optimizer = tko.Adam()
    train(optimizer, steps=1, size=2)
    with pytest.raises(ValueError, match="has a master copy already"):
        optimizer.master_weights = False
