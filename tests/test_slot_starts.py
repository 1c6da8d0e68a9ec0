"""Slots that start from their variable's value, at its own first update, or from identity."""

import copy

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

RATE, PULL = 0.1, 0.25
keras = tf.keras


class Anchored(tko.Optimizer):
    """Steps that are drawn back to an anchor, which follows; it starts as the weights."""

    elementwise = True
    learning_rate = tko.LearningRate(RATE)
    slots = ("momentum", tko.Slot("anchor", start="value"))

    def update(self, gradient, value, slots, scalars):
        momentum = 0.5 * slots["momentum"] + gradient
        new = value - scalars.learning_rate * momentum + PULL * (slots["anchor"] - value)
        anchor = 0.5 * (slots["anchor"] + new)
        return new, {"momentum": momentum, "anchor": anchor}


class Measured(Anchored):
    """The rate grows with how far all variables are from their anchors."""

    def measure(self, gradient, value, slots, scalars):
        return {"far": tf.reduce_sum(tf.abs(value - slots["anchor"]))}

    def conclude(self, sums, scalars):
        return {"far": sums["far"]}

    def update(self, gradient, value, slots, scalars):
        gradient = gradient * (1.0 + scalars.far)
        return super().update(gradient, value, slots, scalars)


def reference(value, gradients, decay=0.0):
    """The same in float64, for one variable from its first update on."""
    value = np.asarray(value, "d")
    momentum, anchor = np.zeros_like(value), value
    for gradient in gradients:
        value = value * (1.0 - RATE * decay)
        momentum = 0.5 * momentum + gradient
        value = value - RATE * momentum + PULL * (anchor - value)
        anchor = 0.5 * (anchor + value)
    return value, anchor


def data(steps=4, shapes=((3, 2), (4,))):
    generator = np.random.default_rng(7)
    starts = [generator.normal(size=shape).astype("f") for shape in shapes]
    batches = [[generator.normal(size=s).astype("f") for s in shapes] for _ in range(steps)]
    return starts, batches


def column(batches, number):
    return [batch[number] for batch in batches]


def anchors(optimizer):
    return [kept["anchor"] for kept in optimizer.state_dict()["variables"].values()]


def plain(**options):
    return Anchored(jit_compile=False, **options)


def assert_as_reference(variables, optimizer, expected, atol=2e-6):
    for variable, anchor, (value, own) in zip(variables, anchors(optimizer), expected):
        np.testing.assert_allclose(np.asarray(variable).astype("d"), value, rtol=0, atol=atol)
        np.testing.assert_allclose(anchor.astype("d"), own, rtol=0, atol=atol)


@pytest.mark.parametrize("regime", harness.REGIMES)
def test_a_slot_starts_from_the_weights_that_the_first_update_finds(regime):
    """Weights come after `build`, and one variable gets its first gradient later."""
    starts, batches = data()
    variables = [tf.Variable(np.full_like(s, 9.0)) for s in starts]
    optimizer = Anchored()
    optimizer.build(variables)

    def step(*gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    if regime != "eager":
        step = tf.function(step, jit_compile=regime == "xla", autograph=False)
    variables[0].assign(starts[0])
    for batch in batches[:2]:
        step(tf.constant(batch[0]))
    variables[1].assign(starts[1])
    for batch in batches[2:]:
        step(*map(tf.constant, batch))
    expected = [
        reference(starts[0], column(batches, 0)),
        reference(starts[1], column(batches[2:], 1)),
    ]
    assert_as_reference(variables, optimizer, expected)


@pytest.mark.parametrize("skips", [False, True])
def test_neither_gathering_nor_skipped_steps_are_first_updates(skips):
    starts, batches = data(steps=2)
    variables = [tf.Variable(np.full_like(s, 9.0)) for s in starts]
    options = {"skip_nonfinite": True} if skips else {"gradient_accumulation_steps": 2}
    optimizer = plain(weight_decay=0.5, **options)
    for batch in batches:
        optimizer.apply_gradients(
            zip([np.nan * g for g in batch] if skips else batch, variables)
        )
        for variable, start in zip(variables, starts):
            variable.assign(start)
        optimizer.apply_gradients(zip(batch, variables))
        starts = [v.numpy() for v in variables]
        if batch is batches[0]:
            # The anchor is the weight before decay.
            expected = [reference(s, [g], 0.5) for s, g in zip(data()[0], batch)]
            assert_as_reference(variables, optimizer, expected)


def test_a_variable_that_gathered_nothing_has_not_been_updated():
    starts, batches = data(steps=2)
    variables = [tf.Variable(np.full_like(s, 9.0)) for s in starts]
    optimizer = plain(gradient_accumulation_steps=2)
    optimizer.build(variables)
    variables[0].assign(starts[0])
    for batch in batches:
        for _ in range(2):
            optimizer.apply_gradients([(batch[0], variables[0])])
    variables[1].assign(starts[1])
    for batch in batches:
        optimizer.apply_gradients([(2.0 * batch[1], variables[1])])
        optimizer.apply_gradients([(0.0 * batch[0], variables[0])])
    expected = reference(starts[1], column(batches, 1))
    np.testing.assert_allclose(variables[1].numpy(), expected[0], rtol=0, atol=2e-6)


def test_what_is_measured_has_started():
    """At first nothing is away from its anchor, so that the sums are 0."""
    starts, batches = data(steps=1)
    variables = [tf.Variable(s) for s in starts]
    optimizer = Measured(jit_compile=False)
    optimizer.apply_gradients(zip(batches[0], variables))
    expected = [reference(s, [g]) for s, g in zip(starts, batches[0])]
    assert_as_reference(variables, optimizer, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_table_starts_as_a_whole_when_rows_of_it_are_updated_first(compiled):
    start = np.arange(8.0).reshape(4, 2).astype("f")
    table = tf.Variable(np.zeros_like(start))
    optimizer = Anchored(sparse="lazy")
    optimizer.build([table])
    table.assign(start)

    @tf.function(jit_compile=compiled)
    def step(values, rows):
        gradient = tf.IndexedSlices(values, rows, table.shape)
        optimizer.apply_gradients([(gradient, table)])

    step(tf.ones([1, 2]), tf.constant([2]))
    table.assign_add([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    step(2.0 * tf.ones([1, 2]), tf.constant([1]))
    expected, anchor = start.astype("d"), start.astype("d")
    expected[2], anchor[2] = reference(start[2], [np.ones(2)])
    expected[1] = start[1] + 1.0 - RATE * 2.0 - PULL
    anchor[1] = 0.5 * (start[1] + expected[1])
    assert_as_reference([table], optimizer, [(expected, anchor)])


def test_replicas_start_alike(strategy):
    starts, batches = data()
    with strategy.scope():
        variables = [tf.Variable(np.full_like(s, 9.0)) for s in starts]
        optimizer = plain()
        optimizer.build(variables)

    @tf.function
    def step(batch):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.cast(tf.gather([0.25, 0.75], number), tf.float32)
            optimizer.apply_gradients([(share * g, v) for g, v in zip(batch, variables)])

        strategy.run(replica)

    for variable, start in zip(variables, starts):
        variable.assign(start)
    for batch in batches:
        step(list(map(tf.constant, batch)))
    expected = [reference(s, column(batches, i)) for i, s in enumerate(starts)]
    assert_as_reference(variables, optimizer, expected)
    for variable in [*variables, *optimizer.variables]:
        parts = strategy.experimental_local_results(getattr(variable, "value", variable))
        for part in parts[1:]:
            np.testing.assert_array_equal(part.numpy(), parts[0].numpy())


@pytest.mark.parametrize("slot_dtype", [None, "bfloat16"])
def test_narrow_and_wide_variables_start_with_all_digits_that_are_kept(slot_dtype):
    starts, batches = data(steps=3, shapes=((8,), (8,)))
    variables = [tf.Variable(tf.cast(s, d)) for s, d in zip(starts, (tf.float64, tf.bfloat16))]
    begun = [v.numpy().astype("d") for v in variables]
    optimizer = plain(slot_dtype=slot_dtype)
    for batch in batches:
        optimizer.apply_gradients([(tf.cast(g, v.dtype), v) for g, v in zip(batch, variables)])
    given = [[g.astype("d"), np.asarray(tf.cast(h, tf.bfloat16), "d")] for g, h in batches]
    expected = [reference(s, column(given, i)) for i, s in enumerate(begun)]
    atol = 2e-2 if slot_dtype else 1e-2
    assert_as_reference(variables, optimizer, expected, atol)
    if slot_dtype is None:
        assert_as_reference(variables[:1], optimizer, expected[:1], 1e-7)
        (anchor,) = anchors(optimizer)[1:]
        np.testing.assert_allclose(anchor, expected[1][1], rtol=0, atol=2e-6)


class Optional(Anchored):
    """Without an anchor on demand."""

    anchored = tko.Hyperparameter(True)

    @property
    def slots(self):
        return Anchored.slots[: 1 + self.anchored]

    def update(self, gradient, value, slots, scalars):
        known = {"anchor": value, **slots}
        value, after = super().update(gradient, value, known, scalars)
        return value, {name: after[name] for name in slots}


@pytest.mark.parametrize("first", [True, False])
def test_an_option_takes_a_slot_away_and_brings_it_back(first):
    """With what it had; one that an option calls for later starts from the weights then."""
    starts, batches = data(steps=3, shapes=((4,),))
    gradients, value = column(batches, 0), starts[0].astype("d")
    variable = tf.Variable(starts[0])
    optimizer = Optional(anchored=first, jit_compile=False)
    momentum, anchor = np.zeros(4), None
    for gradient, anchored in zip(gradients, (first, False, True)):
        optimizer.anchored = anchored
        optimizer.apply_gradients([(gradient, variable)])
        momentum = 0.5 * momentum + gradient
        anchor = value if anchored and anchor is None else anchor
        pull = PULL * (anchor - value) if anchored else 0.0
        value = value - RATE * momentum + pull
        anchor = 0.5 * (anchor + value) if anchored else anchor
    assert_as_reference([variable], optimizer, [(value, anchor)])


# Saved state.


def by_dict(optimizer, other, path, variables, others):
    other.load_state_dict(optimizer.state_dict())


def by_file(optimizer, other, path, variables, others):
    tko.save_state(path / "state.npz", optimizer)
    tko.load_state(path / "state.npz", other)


def by_weights(optimizer, other, path, variables, others):
    weights = optimizer.get_weights()
    other.set_weights(weights)


def by_checkpoint(optimizer, other, path, variables, others):
    written = tf.train.Checkpoint(optimizer=optimizer, variables=variables)
    saved = written.write(str(path / "checkpoint"))
    values = [v.numpy() for v in others]
    tf.train.Checkpoint(optimizer=other, variables=others).read(saved).assert_consumed()
    for variable, value in zip(others, values):
        variable.assign(value)


@pytest.mark.parametrize("way", [by_dict, by_file, by_weights, by_checkpoint])
def test_a_state_says_which_slots_have_started(way, tmp_path):
    """One variable had its first update before it was saved, the other not."""
    starts, batches = data()
    variables = [tf.Variable(s, name=n) for s, n in zip(starts, "ab")]
    others = [tf.Variable(s, name=n) for s, n in zip(starts, "ab")]
    optimizer, other = plain(), plain()
    for using, chosen in ((optimizer, variables), (other, others)):
        using.build(chosen)
    for batch in batches[:2]:
        optimizer.apply_gradients([(batch[0], variables[0])])
    other.apply_gradients(zip(batches[3], others))  # what is loaded counts, not this
    way(optimizer, other, tmp_path, variables, others)
    others[0].assign(variables[0])
    others[1].assign(2.0 * starts[1])
    for batch in batches[2:]:
        other.apply_gradients(zip(batch, others))
    expected = [
        reference(starts[0], column(batches, 0)),
        reference(2.0 * starts[1], column(batches[2:], 1)),
    ]
    assert_as_reference(others, other, expected)


MEANINGS = {"momentum": "momentum", "anchor": "anchor"}


class Numbered(Anchored):
    """The same slots, of which none starts from the weights."""

    slots = ("momentum", "anchor")
    slot_meanings = MEANINGS


class Named(Anchored):
    slot_meanings = MEANINGS


def test_a_slot_that_is_loaded_has_started_and_one_that_is_not_has_not():
    starts, batches = data(steps=1)
    source, target = Numbered(), Named(jit_compile=False)
    first, second = ([tf.Variable(s, name=n) for s, n in zip(starts, "ab")] for _ in range(2))
    source.build(first)
    state = source.state_dict()
    state["variables"]["a"]["anchor"] = starts[0] + 1.0
    del state["variables"]["b"]["anchor"]
    state["variables"]["b"]["anchor_started"] = np.int64(1)
    target.build(second)
    target.load_state_dict(state, strict=False)
    target.apply_gradients(zip(batches[0], second))
    moved = starts[0] - RATE * batches[0][0] + PULL  # towards the anchor that was loaded
    np.testing.assert_allclose(second[0].numpy(), moved, rtol=0, atol=2e-6)
    expected = reference(starts[1], [batches[0][1]])[0]
    np.testing.assert_allclose(second[1].numpy(), expected, rtol=0, atol=2e-6)


def test_a_reset_makes_the_next_update_the_first_one():
    starts, batches = data()
    variables = [tf.Variable(s) for s in starts]
    optimizer = plain()
    for batch in batches[:2]:
        optimizer.apply_gradients(zip(batch, variables))
    optimizer.reset_state()
    for variable, start in zip(variables, starts):
        variable.assign(start)
    for batch in batches[2:]:
        optimizer.apply_gradients(zip(batch, variables))
    expected = [reference(s, column(batches[2:], i)) for i, s in enumerate(starts)]
    assert_as_reference(variables, optimizer, expected)


# Models.


def model_of(optimizer, shape=None):
    inputs = [] if shape is None else [keras.layers.Input(shape)]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*inputs, keras.layers.Dense(2, use_bias=False)])
    model.compile(optimizer, "mse")
    return model


def fit(model):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f")
    model.fit(x, x[:, :2], batch_size=4, epochs=1, shuffle=False, verbose=0)
    return model.get_weights()[0]


def test_a_model_that_fit_builds_starts_as_one_that_was_built(tmp_path):
    known = {"Anchored": Anchored}
    built, model = model_of(plain(use_ema=True), (4,)), model_of(plain(use_ema=True))
    np.testing.assert_array_equal(fit(model), fit(built))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=known)
    np.testing.assert_array_equal(fit(loaded), fit(built))


def test_a_model_that_was_not_trained_is_saved_and_copied(tmp_path):
    start, gradients = np.arange(8.0).reshape(4, 2).astype("f"), data(shapes=((4, 2),))[1]
    model = model_of(plain(), (4,))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    with keras.utils.custom_object_scope({"Anchored": Anchored}):
        others = [model, keras.models.load_model(tmp_path / "model.keras")]
        others.append(copy.deepcopy(model))
    for other in others:
        other.set_weights([start])
        for batch in gradients:
            other.optimizer.apply_gradients(zip(batch, other.trainable_variables))
        expected = reference(start, column(gradients, 0))
        assert_as_reference(other.trainable_variables, other.optimizer, [expected])


def test_an_average_that_comes_late_begins_from_the_weights_of_the_next_step():
    a, b = tf.Variable([1.0]), tf.Variable([9.0])
    optimizer = tko.SGD(0.5, use_ema=True, ema_momentum=0.5, jit_compile=False)
    optimizer.apply_gradients([([1.0], a)])
    optimizer.build([a, b])
    b.assign([2.0])  # loaded after `build`
    optimizer.apply_gradients([([0.0], a), ([2.0], b)])
    optimizer.finalize_variable_values([b])
    assert b.numpy().tolist() == [1.5]  # between 2 and 1


# Other starts, and what cannot be.


class Bases(tko.Optimizer):
    """Steps along a basis, which starts as the axes, one for each leading index."""

    def slots_for(self, variable):
        if variable.rank < 2:
            return (tko.Slot("scale", start=2.0),)
        shape = (*variable.shape[:-1], variable.shape[-2])
        return (tko.Slot("basis", shape=shape, start="identity"),)

    def update(self, gradient, value, slots, scalars):
        if "scale" in slots:
            return value - slots["scale"] * gradient, {"scale": slots["scale"]}
        basis = slots["basis"]
        return value - tf.linalg.matmul(basis, gradient), {"basis": 2.0 * basis}


def test_a_slot_starts_as_an_identity_matrix_or_as_a_number():
    variables = [tf.Variable(tf.zeros(shape)) for shape in ((2, 2, 3), (2,))]
    optimizer = Bases(jit_compile=False)
    for _ in range(2):
        optimizer.apply_gradients([(tf.ones_like(v), v) for v in variables])
    np.testing.assert_array_equal(variables[0].numpy(), np.full((2, 2, 3), -3.0))
    np.testing.assert_array_equal(variables[1].numpy(), np.full((2,), -4.0))
    optimizer.reset_state()
    (basis,) = optimizer.state_dict()["variables"]["Variable"].values()
    np.testing.assert_array_equal(basis, np.stack([np.eye(2)] * 2))


def with_slots(*slots, **others):
    return type("Wrong", (Anchored,), {"slots": slots, **others})


def test_starts_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match="'x': `start` must be a number, 'value' or 'identity'"
    ):
        tko.Slot("x", start="zeros")
    with pytest.raises(
        ValueError, match=r"'x': `start` and `initial_value` both.*start='value'"
    ):
        tko.Slot("x", 0.5, start="value")
    with pytest.raises(ValueError, match=r"must start from 0.*start='value'"):
        tko.Slot("x", start="value", eight_bit="signed")
    assert tko.Slot("x", initial_value=0.5).first == tko.Slot("x", start=0.5).first == 0.5
    table = tf.Variable(tf.zeros([2, 3]), name="net/table")
    wrong = {
        "'x' of variable 'net/table'.*must have its shape. Received: shape=(3,)": tko.Slot(
            "x", shape=(3,), start="value"
        ),
        "'x' of variable 'net/table'.*must be equal. Received: shape (2, 3)": tko.Slot(
            "x", start="identity"
        ),
    }
    for message, slot in wrong.items():
        optimizer = with_slots(slot)()
        with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
            optimizer.build([table])
        assert not optimizer.built
    twice = with_slots("x_started", tko.Slot("x", start="value"))()
    with pytest.raises(ValueError, match=r"must have different names. .*: x_started"):
        twice.build([table])
    scalar = with_slots(step_slots=(tko.Slot("d", start="value"),))()
    with pytest.raises(ValueError, match="`step_slots`: 'd' belongs to no variable"):
        scalar.build([table])
