"""Sparse gradients: exact ones equal dense ones, lazy ones touch only their rows."""

import functools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tests.support.steps import in_regime

keras = tf.keras
ROWS, WIDTH, LENGTH = 12, 3, 5


def train(cls, one_hot, ids, targets):
    """Five steps of `fit`; ids repeat within a batch and some never occur."""
    keras.utils.set_random_seed(0)
    if one_hot:
        first = [
            keras.layers.Input((LENGTH, ROWS)),
            keras.layers.Dense(WIDTH, use_bias=False),
        ]
    else:
        first = [
            keras.layers.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH),
        ]
    model = keras.Sequential([*first, keras.layers.Flatten(), keras.layers.Dense(1)])
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape).astype("f") for w in model.get_weights()])
    model.compile(cls(0.05), "mse")
    inputs = np.eye(ROWS, dtype="f")[ids] if one_hot else ids
    model.fit(inputs, targets, batch_size=2, epochs=1, shuffle=False, verbose=0)
    return model.get_weights()


# One of each kind of state: none, slots and a number for all variables, slots that follow the
# shape, norms, a slot that does not start from zero. The conformance kit has all optimizers.
KINDS = [tko.SGD, tko.Nadam, tko.Adafactor, tko.Lamb, tko.Ftrl]


@pytest.mark.one_keras  # the gradient of an embedding is TensorFlow's
@pytest.mark.parametrize("cls", [tko.SGD, tko.Nadam, tko.Adafactor, tko.Ftrl])
def test_an_embedding_equals_a_dense_layer_on_one_hot_rows(cls):
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 8, (8, LENGTH))
    targets = generator.normal(size=(8, 1)).astype("f")
    assert len(np.unique(ids)) < ids.size  # repeated
    embedding, dense = (train(cls, one_hot, ids, targets) for one_hot in (False, True))
    for ours, expected in zip(embedding, dense):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


SPARSE_CASES = [
    *((cls, {}) for cls in KINDS),
    (tko.Adam, {"clipnorm": 0.5}),
    (tko.Adam, {"gradient_accumulation_steps": 2}),
]


def four_steps(optimizer, gradient, regime):
    table = tf.Variable(tf.ones([5, 2]))
    optimizer.build([table])

    def step():
        optimizer.apply_gradients([(gradient(), table)])

    step = in_regime(step, regime)
    for _ in range(4):
        step()
    return table.numpy()


@functools.cache
def four_dense_steps(case):
    """In one regime: what the others give for dense gradients is known from elsewhere."""
    cls, options = SPARSE_CASES[case]
    dense = tf.constant([[0.0, 0.0], [6.0, 8.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    return four_steps(cls(0.1, **options), lambda: dense, "function")


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize(
    "case", range(len(SPARSE_CASES)), ids=[f"{c.__name__}-{o}" for c, o in SPARSE_CASES]
)
def test_duplicate_rows_are_summed_before_anything_else(case, regime):
    def gradient():
        rows = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        return tf.IndexedSlices(rows, tf.constant([1, 3, 1]), tf.constant([5, 2]))

    cls, options = SPARSE_CASES[case]
    sparse = four_steps(cls(0.1, **options), gradient, regime)
    np.testing.assert_allclose(sparse, four_dense_steps(case), rtol=0, atol=1e-6)


@pytest.mark.one_keras
def test_row_counts_that_vary_do_not_retrace_again_and_again():
    table = tf.Variable(tf.zeros([10, 2]))
    optimizer = tko.SGD(1.0)
    for count in range(1, 9):
        rows = tf.IndexedSlices(tf.ones([count, 2]), tf.range(count), tf.constant([10, 2]))
        optimizer.apply_gradients([(rows, table)])
    np.testing.assert_allclose(table.numpy()[:, 0], [-8, -7, -6, -5, -4, -3, -2, -1, 0, 0])
    assert optimizer.trace_count <= 2


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", KINDS)
def test_rows_are_summed_over_replicas_too(cls, strategy):
    def gradient(replica):
        rows = tf.constant([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]]) * (1.0 + replica)
        return tf.IndexedSlices(rows, tf.constant([1, 3, 1]), tf.constant([5, 2]))

    def make():
        return tf.Variable(tf.ones([5, 2])), cls(0.05, global_clipnorm=2.0)

    with strategy.scope():
        table, optimizer = make()

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply_gradients([(gradient(tf.cast(number, tf.float32)), table)])

    step = tf.function(lambda: strategy.run(replica), autograph=False)
    alone, other = make()
    whole = tf.convert_to_tensor(gradient(0.0)) + tf.convert_to_tensor(gradient(1.0))
    for _ in range(4):
        step()
        other.apply_gradients([(whole, alone)])
    np.testing.assert_allclose(table.numpy(), alone.numpy(), rtol=0, atol=1e-6)
    assert np.abs(table.numpy() - 1.0).max() > 5e-5


# Lazy.

ELEMENTWISE = [cls for cls in harness.OPTIMIZERS if cls.elementwise]
LAZY = [cls for cls in KINDS if cls.elementwise]
OPTIONS = {"weight_decay": 0.1, "global_clipnorm": 3.0, "use_ema": True, "ema_momentum": 0.9}
TABLE_ROWS, TABLE_WIDTH = 9, 3


def slices_of(ids, seed):
    values = np.random.default_rng(seed).normal(1.0, 0.5, (len(ids), TABLE_WIDTH))
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(ids, tf.int64))


def table_values():
    return np.random.default_rng(7).normal(size=(TABLE_ROWS, TABLE_WIDTH)).astype("f")


def run_sparse(optimizer, id_lists, regime, start=None):
    """Applies slices step by step; returns the table and the state, both as arrays."""
    table = tf.Variable(table_values() if start is None else start, name="table")
    optimizer.build([table])

    def step(gradient):
        optimizer.apply_gradients([(gradient, table)])

    step = in_regime(step, regime)
    for seed, ids in enumerate(id_lists):
        step(slices_of(ids, seed))
    return table.numpy(), state.slots(optimizer)


ALL_ROWS = [*range(TABLE_ROWS), 0, 4, 4]
TOUCHED, OTHERS = [2, 5, 6], [0, 1, 3, 4, 7, 8]
LISTS = [[5, 2, 5, 6], [2, 2, 6, 5]] * 3


@functools.cache
def dense_table(cls):
    """What dense gradients give where every row is touched."""
    return run_sparse(cls(0.05, **OPTIONS), [ALL_ROWS] * 5, "function")


@functools.cache
def small_table(cls):
    """What a table of the touched rows alone becomes under dense gradients."""
    renamed = [[TOUCHED.index(i) for i in ids] for ids in LISTS]
    return run_sparse(cls(0.05, **OPTIONS), renamed, "function", table_values()[TOUCHED])


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("cls", LAZY)
def test_lazy_equals_dense_where_every_row_is_touched(cls, regime):
    lazy, kept = run_sparse(cls(0.05, sparse="lazy", **OPTIONS), [ALL_ROWS] * 5, regime)
    dense, other = dense_table(cls)
    np.testing.assert_allclose(lazy, dense, rtol=0, atol=1e-6)
    assert set(kept) == set(other)
    assert "average" in kept
    for name, value in kept.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("cls", LAZY)
def test_lazy_changes_nothing_but_the_rows_it_touches(cls, regime):
    """Rows 2, 5 and 6 move as a table of three rows would; the others stay, bit for bit."""
    optimizer = cls(0.05, sparse="lazy", **OPTIONS)
    fresh, before = run_sparse(cls(0.05, sparse="lazy", **OPTIONS), [], regime)
    table, after = run_sparse(optimizer, LISTS, regime)
    np.testing.assert_array_equal(table[OTHERS], fresh[OTHERS])
    for name, value in after.items():
        np.testing.assert_array_equal(value[OTHERS], before[name][OTHERS])
    small, expected = small_table(cls)
    np.testing.assert_allclose(table[TOUCHED], small, rtol=0, atol=1e-6)
    for name, value in after.items():
        np.testing.assert_allclose(value[TOUCHED], expected[name], rtol=1e-5, atol=1e-6)
    assert np.abs(small - table_values()[TOUCHED]).max() > 0.004
    assert int(optimizer.iterations) == 6


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", LAZY)
def test_lazy_rows_of_two_replicas_are_those_of_one(cls, strategy):
    lists = [[5, 2, 5, 6], [2, 1]]
    with strategy.scope():
        table = tf.Variable(table_values(), name="table")
        optimizer = cls(0.05, sparse="lazy", **OPTIONS)
        optimizer.build([table])

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.cond(
            tf.equal(number, 0), lambda: slices_of(lists[0], 0), lambda: slices_of(lists[1], 1)
        )
        optimizer.apply_gradients([(gradient, table)])

    step = tf.function(lambda: strategy.run(replica), autograph=False)
    other, alone = cls(0.05, sparse="lazy", **OPTIONS), tf.Variable(table_values())
    first, second = (slices_of(ids, seed) for seed, ids in enumerate(lists))
    whole = tf.IndexedSlices(
        tf.concat([first.values, second.values], 0),
        tf.concat([first.indices, second.indices], 0),
    )
    for _ in range(4):
        step()
        other.apply_gradients([(whole, alone)])
    np.testing.assert_allclose(table.numpy(), alone.numpy(), rtol=0, atol=1e-6)
    for local in strategy.experimental_local_results(table):
        np.testing.assert_array_equal(
            local.numpy()[[0, 3, 4, 7, 8]], table_values()[[0, 3, 4, 7, 8]]
        )


@pytest.mark.one_keras
@pytest.mark.parametrize("mode", ["exact", "lazy"])
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_indices_may_be_of_any_kind(mode, regime):
    values = np.arange(8.0, dtype="f").reshape(4, 2)
    empty = tf.IndexedSlices(tf.zeros([0, 2]), tf.zeros([0], tf.int32), tf.constant([5, 2]))
    kinds = {
        "tuple": tf.IndexedSlices(tf.constant(values), (3, 1, 3, 0)),
        "int64": tf.IndexedSlices(tf.constant(values), tf.constant([3, 1, 3, 0], tf.int64)),
        "rank 2": tf.IndexedSlices(
            tf.constant(values.reshape(2, 2, 2)), tf.constant([[3, 1], [3, 0]])
        ),
    }
    for name, gradient in kinds.items():
        table = tf.Variable(tf.zeros([5, 2]))
        optimizer = tko.SGD(1.0, sparse=mode)
        optimizer.build([table])

        def step(chosen, table=table, optimizer=optimizer):
            optimizer.apply_gradients([(chosen, table)])

        for chosen in (gradient, empty):
            in_regime(functools.partial(step, chosen), regime)()
        expected = [[-6, -7], [-2, -3], [0, 0], [-4, -6], [0, 0]]
        np.testing.assert_array_equal(table.numpy(), expected, err_msg=name)
        assert int(optimizer.iterations) == 2


@pytest.mark.one_keras
@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_repeated_float16_rows_are_summed_in_float32(mode):
    table = tf.Variable(tf.zeros([2, 1], tf.float16))
    rows = tf.constant([[60000.0]] * 4, tf.float16)
    optimizer = tko.SGD(1e-4, sparse=mode)
    optimizer.apply_gradients([(tf.IndexedSlices(rows, tf.constant([1, 1, 1, 1])), table)])
    np.testing.assert_allclose(table.numpy(), [[0.0], [-24.0]], rtol=1e-3)


@pytest.mark.one_keras
def test_modes_are_chosen_by_pattern():
    tables = {n: tf.Variable(tf.ones([2, 1]), name=n) for n in ("users/table", "items/table")}
    optimizer = tko.SGD(1.0, momentum=0.5, sparse={"^users": "lazy", "table$": "exact"})
    for ids in ([0, 1], [0]):
        gradient = tf.IndexedSlices(tf.ones([len(ids), 1]), tf.constant(ids))
        optimizer.apply_gradients([(gradient, table) for table in tables.values()])
    assert tables["users/table"].numpy().tolist() == [[-1.5], [0.0]]
    assert tables["items/table"].numpy().tolist() == [[-1.5], [-0.5]]  # it coasts on


@pytest.mark.parametrize("jit", ["auto", False])
def test_a_lazy_embedding_trains_in_fit(jit):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    optimizer = tko.Adam(0.05, sparse="lazy")
    compiled = {"jit_compile": jit} if harness.IS_KERAS_3 or not jit else {}
    model.compile(optimizer, "mse", **compiled)
    before = model.get_weights()[0]
    ids = np.array([[1, 2, 3, 3, 7]] * 8)
    targets = np.ones((8, 1), "f")
    history = model.fit(ids, targets, batch_size=4, epochs=20, verbose=0)
    after = model.get_weights()[0]
    touched = np.isin(np.arange(ROWS), ids)
    np.testing.assert_array_equal(after[~touched], before[~touched])
    assert np.abs(after[touched] - before[touched]).min() > 1e-3
    assert history.history["loss"][-1] < 0.01 * history.history["loss"][0]


def test_what_cannot_be_lazy_says_so():
    for cls in set(harness.OPTIMIZERS) - set(ELEMENTWISE):
        with pytest.raises(ValueError, match=r"depend on other rows.*sparse='exact'"):
            cls(sparse="lazy")
        with pytest.raises(ValueError, match="depend on other rows"):
            cls(sparse={"table": "lazy"})
        cls(sparse={"table": "exact"})
    with pytest.raises(ValueError, match="`gradient_accumulation_steps`"):
        tko.Adam(sparse="lazy", gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="`ema_overwrite_frequency`"):
        tko.Adam(sparse="lazy", use_ema=True, ema_overwrite_frequency=2)
    for value in ("sparse", None, {"(": "lazy"}, {"table": "quick"}, ["lazy"]):
        with pytest.raises(ValueError, match="argument `sparse` must be 'exact', 'lazy'"):
            tko.Adam(sparse=value)

    class Normalized(tko.SGD):
        def update(self, gradient, value, slots, scalars):
            return super().update(gradient / tf.norm(gradient), value, slots, scalars)

    with pytest.raises(ValueError, match="depend on other rows"):
        Normalized(sparse="lazy")


@pytest.mark.one_keras
@pytest.mark.parametrize("sparse", ["exact", "lazy"])
@pytest.mark.parametrize(
    ("row", "regime", "jit_compile"),
    [
        (-1, "eager", "auto"),
        (6, "function", "auto"),
        (6, "eager", False),
        (-1, "function", False),
    ],
)
def test_a_row_that_does_not_exist_raises_before_anything_changes(
    row, regime, jit_compile, sparse
):
    table, bias = tf.Variable(tf.ones([6, 1]), name="table"), tf.Variable([1.0], name="bias")
    optimizer = tko.Adam(0.1, sparse=sparse, use_ema=True, jit_compile=jit_compile)
    optimizer.build([bias, table])

    def step(indices):
        slices = tf.IndexedSlices(tf.ones([2, 1]), indices, tf.constant([6, 1]))
        optimizer.apply_gradients([(tf.constant([1.0]), bias), (slices, table)])

    step = in_regime(step, regime)
    step(tf.constant([2, 5]))
    before = [*optimizer.get_weights(), bias.numpy(), table.numpy()]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"table.*6 rows.*\[{row}\]"):
        step(tf.constant([2, row]))
    for value, other in zip([*optimizer.get_weights(), bias.numpy(), table.numpy()], before):
        np.testing.assert_array_equal(value, other)
    step(tf.constant([0, 0]))
    step(tf.zeros([2], tf.int32))
    assert int(optimizer.iterations) == 3


@pytest.mark.one_keras
def test_slices_of_another_width_are_refused():
    table = tf.Variable(tf.ones([4, 3]), name="table")
    for mode in ("exact", "lazy"):
        with pytest.raises(ValueError, match=r"'table' has shape \(None, 2\).*\(4, 3\)"):
            gradient = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([0]))
            tko.SGD(sparse=mode).apply_gradients([(gradient, table)])
    np.testing.assert_array_equal(table.numpy(), np.ones([4, 3]))
