"""Variables whose slots begin late: their corrections count from there."""

import contextlib

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime

pytestmark = pytest.mark.xla_in_one_keras
keras = tf.keras
CORRECTED = [tko.Adam, tko.AdamW, tko.Adamax, tko.Nadam, tko.Lamb, tko.Adafactor]
GRADIENTS = [g[0] for g in harness.gradient_sequence(12, [(6, 5)])]
RNG = np.random.default_rng(1)
LATER = [RNG.normal(size=(6, 5)).astype("f") for _ in range(6)]


def scheduled(**more):
    """Betas that stay, though they are given by schedules: the product is kept."""
    constant = {
        name: tko.schedules.Warmup(v, 1, v) for name, v in (("beta_1", 0.9), ("beta_2", 0.99))
    }
    return tko.Adam(0.01, **constant, jit_compile=False, **more)


def nadam(**more):
    return tko.Nadam(0.01, jit_compile=False, **more)


def variable(name):
    start = np.linspace(-1, 1, 30).reshape(6, 5)
    return tf.Variable(start, dtype=tf.float32, name=name)


def apply(optimizer, gradients, *variables, regime="eager"):
    def step(gradient):
        optimizer.apply_gradients([(gradient, v) for v in variables])

    step = in_regime(step, regime)
    for gradient in gradients:
        step(tf.constant(gradient))


def alone(make, gradients=LATER):
    """What a new optimizer makes of the late variable."""
    v = variable("new")
    apply(make(), gradients, v)
    return v.numpy()


def grown(optimizer, before=GRADIENTS, kept=None):
    """An optimizer with a history, and a variable that is new to it."""
    first, second = variable("old") if kept is None else kept, variable("late")
    apply(optimizer, before, first)
    optimizer.build([first, second])
    return first, second


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "cls, regime",
    [*((cls, "eager") for cls in CORRECTED), (tko.Adam, "graph"), (tko.Nadam, "xla")],
)
def test_a_late_variable_moves_as_with_a_new_optimizer(cls, regime):
    first, second = grown(optimizer := cls(0.01))
    expected = variable("old")
    apply(cls(0.01), GRADIENTS + LATER, expected)
    apply(optimizer, LATER, first, second, regime=regime)
    np.testing.assert_allclose(second.numpy(), alone(lambda: cls(0.01)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(first.numpy(), expected.numpy(), rtol=0, atol=1e-6)
    assert int(optimizer.iterations.numpy()) == 18


@pytest.mark.one_keras
@pytest.mark.parametrize("make", [scheduled, nadam])
def test_what_is_carried_from_step_to_step_is_carried_without_a_gradient_too(make):
    first, second = grown(optimizer := make())
    apply(optimizer, LATER[:1], first, second)
    apply(optimizer, LATER[1:3], first)
    apply(optimizer, LATER[3:4], second)
    apply(optimizer, LATER[4:], first, second)
    peer, other = variable("peer"), variable("other")
    fresh, lasting = make(), make()
    fresh.build([peer, other])
    apply(fresh, LATER[:1], peer, other)
    apply(fresh, LATER[1:3], other)
    apply(fresh, LATER[3:4], peer)
    apply(fresh, LATER[4:], peer, other)
    np.testing.assert_allclose(second.numpy(), peer.numpy(), rtol=0, atol=1e-6)
    kept, beside = variable("kept"), variable("beside")
    lasting.build([kept, beside])
    apply(lasting, GRADIENTS + LATER[:3], kept)
    apply(lasting, LATER[3:4], beside)
    apply(lasting, LATER[4:], kept, beside)
    np.testing.assert_allclose(first.numpy(), kept.numpy(), rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["eager", "graph"])
def test_every_unfreezing_counts_by_itself(regime):
    first, second = grown(optimizer := nadam())
    apply(optimizer, LATER[:3], first, second, regime=regime)
    third = variable("later")
    optimizer.build([first, second, third])
    apply(optimizer, LATER[3:], first, second, third, regime=regime)
    np.testing.assert_allclose(second.numpy(), alone(nadam), rtol=0, atol=1e-6)
    np.testing.assert_allclose(third.numpy(), alone(nadam, LATER[3:]), rtol=0, atol=1e-6)


OPTIONS = {
    "accumulation": {"gradient_accumulation_steps": 2},
    "average": {"use_ema": True, "ema_momentum": 0.5},
    "skips": {"skip_nonfinite": True},
    "float64": {},
}


@pytest.mark.one_keras
@pytest.mark.parametrize("name", OPTIONS)
def test_with_options(name):
    def make():
        return nadam(weight_decay=0.1, **OPTIONS[name])

    first, second = grown(optimizer := make())
    if name == "float64":
        second = tf.Variable(second.numpy().astype("d"), name="wide")
        optimizer.build([first, second])
    for gradient in LATER:
        optimizer.apply_gradients([(g, v) for g, v in (
            (tf.constant(gradient), first), (tf.cast(gradient, second.dtype), second))
        ])  # fmt: skip
    np.testing.assert_allclose(second.numpy(), alone(make), rtol=0, atol=1e-6)
    if name == "average":
        peer, fresh = variable("peer"), make()
        apply(fresh, LATER, peer)
        found, expected = (o.state_dict()["variables"] for o in (optimizer, fresh))
        # The late average starts from the weights, a new one at the first update.
        started = 0.5**6 * (variable("start").numpy() - first_step(make))
        np.testing.assert_allclose(
            found["late"]["average"] - started, expected["peer"]["average"], rtol=0, atol=1e-6
        )


def first_step(make):
    return alone(make, LATER[:1])


@pytest.mark.one_keras
def test_a_loss_scale_around_it():
    optimizer = tko.LossScaleOptimizer(tko.Adam(0.01), initial_scale=4.0)
    first, second = variable("old"), variable("late")

    def step(gradient, *variables):
        optimizer.apply_gradients([(gradient * 4.0, v) for v in variables])

    for gradient in GRADIENTS:
        step(gradient, first)
    optimizer.build([first, second])
    for gradient in LATER:
        step(gradient, first, second)
    np.testing.assert_allclose(second.numpy(), alone(lambda: tko.Adam(0.01)), rtol=0, atol=1e-5)


@pytest.mark.one_keras
def test_two_replicas(strategies):
    strategy = strategies[2]
    with strategy.scope():
        optimizer = tko.Nadam(0.01)
        first, second = variable("old"), variable("late")

    @tf.function(autograph=False)
    def step(gradient, both):
        def replica():
            pairs = [(gradient / 2.0, v) for v in ((first, second) if both else (first,))]
            optimizer.apply_gradients(pairs)

        strategy.run(replica)

    for gradient in GRADIENTS[:3]:
        step(tf.constant(gradient, tf.float32), False)
    for gradient in LATER:
        step(tf.constant(gradient), True)
    for component in second.values:
        np.testing.assert_allclose(component.numpy(), alone(nadam), rtol=0, atol=1e-6)


# Saved and loaded.


def by_state_dict(optimizer, other, variables, tmp_path):
    other.build(variables)
    other.load_state_dict(optimizer.state_dict())


def by_state_dict_before_build(optimizer, other, variables, tmp_path):
    other.load_state_dict(optimizer.state_dict())
    other.build(variables)


def by_file(optimizer, other, variables, tmp_path):
    tko.save_state(tmp_path / "state.tko", optimizer)
    other.build(variables)
    tko.load_state(tmp_path / "state.tko", other)


def by_weights(optimizer, other, variables, tmp_path):
    other.build(variables)
    other.set_weights(optimizer.get_weights())


def by_checkpoint(optimizer, other, variables, tmp_path):
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    other.build(variables)
    tf.train.Checkpoint(optimizer=other).read(path).assert_consumed()


def by_checkpoint_before_build(optimizer, other, variables, tmp_path):
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    status = tf.train.Checkpoint(optimizer=other).read(path)
    other.build(variables)
    status.assert_consumed()


WAYS = [
    by_state_dict,
    by_state_dict_before_build,
    by_file,
    by_weights,
    by_checkpoint,
    by_checkpoint_before_build,
]


@pytest.mark.one_keras
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [nadam, scheduled])
def test_where_slots_began_is_saved(make, way, tmp_path):
    first, second = grown(optimizer := make())
    apply(optimizer, LATER[:2], first, second)
    other = make()
    way(optimizer, other, [first, second], tmp_path)
    apply(other, LATER[2:], first, second)
    np.testing.assert_allclose(second.numpy(), alone(make), rtol=0, atol=1e-6)
    peer = variable("old")
    apply(make(), GRADIENTS + LATER, peer)
    np.testing.assert_allclose(first.numpy(), peer.numpy(), rtol=0, atol=1e-6)


def small(frozen=True):
    model = harness.small_model()
    model.layers[0].trainable = not frozen
    return model


def unfrozen(epochs=2):
    """A model whose first layer learns from some time on, with the same optimizer."""
    x, y = harness.classification_data()
    model, optimizer = small(), tko.Nadam(0.01, jit_compile=False)
    for frozen, count in ((True, epochs), (False, 1)):
        model.layers[0].trainable = not frozen
        model.compile(optimizer, harness.classification_loss())
        model.fit(x, y, batch_size=16, epochs=count, shuffle=False, verbose=0)
    return model


# Keras 3 restores no optimizer from a whole model in HDF5.
FILES = [
    "m.keras",
    "w.weights.h5",
    *([] if harness.IS_KERAS_3 else ["m.h5", "directory"]),
]


@pytest.mark.parametrize("name", FILES)
def test_where_slots_began_is_in_files(name, tmp_path):
    model, path = unfrozen(), str(tmp_path / name)
    x, y = harness.classification_data()
    weights = name == "w.weights.h5"
    (model.save_weights if weights else model.save)(path)
    if weights:
        other = small(frozen=False)
        other.compile(tko.Nadam(0.01, jit_compile=False), harness.classification_loss())
        other.load_weights(path)
    else:
        other = keras.models.load_model(path)
    for one in (model, other):
        one.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    for value, expected in zip(other.get_weights(), model.get_weights()):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


def test_without_late_variables_the_state_is_keras_own():
    first, optimizer = variable("old"), tko.Adam(0.01)
    apply(optimizer, GRADIENTS, first)
    count = len(optimizer.variables)
    other = tko.Adam(0.01)
    grown(other, kept=variable("old"))
    other.load_state_dict(optimizer.state_dict(), strict=False)
    assert count == (4 if harness.IS_KERAS_3 else 3)
    plain, sgd = tko.SGD(0.01, momentum=0.9), tko.SGD(0.01, momentum=0.9)
    plain.build([variable("a"), variable("b")])
    grown(sgd)
    assert len(sgd.variables) == len(plain.variables)  # it corrects nothing


def wrapped():
    return tko.LossScaleOptimizer(nadam(), initial_scale=1.0)


@pytest.mark.parametrize(
    "way, trained, make",
    [
        *(("state", trained, nadam) for trained in (0, 2)),
        ("checkpoint", 2, nadam),
        ("before build", 0, nadam),
        # Under Keras 3 TensorFlow restores the counter of a wrapped optimizer before its slots.
        *(("checkpoint", trained, wrapped) for trained in (0, 2)),
    ],
)
def test_what_a_saved_state_lacks_keeps_its_age(way, trained, make, tmp_path):
    old = variable("old")
    saved = make()
    apply(saved, GRADIENTS, old)
    first, second, other = variable("old"), variable("late"), make()
    if way != "before build":
        other.build([first, second])
    apply(other, LATER[:trained], first, second)
    first.assign(old)
    if way == "state":
        other.load_state_dict(saved.state_dict(), strict=False)
    else:
        path = tf.train.Checkpoint(optimizer=saved, v=[old]).write(str(tmp_path / "checkpoint"))
        tf.train.Checkpoint(optimizer=other, v=[first]).read(path)
        other.build([first, second])
    apply(other, LATER[trained:], first, second)
    np.testing.assert_allclose(second.numpy(), alone(nadam), rtol=0, atol=1e-6)
    apply(saved, LATER[trained:], old)
    np.testing.assert_allclose(first.numpy(), old.numpy(), rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("graph", [False, True])
def test_a_state_with_other_beginnings_renews_traced_steps(graph):
    make = lambda: tko.Adam(0.01)  # noqa: E731
    first, second = grown(optimizer := make())
    apply(optimizer, LATER[:2], first, second)
    other, pair = make(), (variable("old"), variable("late"))
    apply(other, LATER, *pair, regime="graph" if graph else "eager")
    for target, source in zip(pair, (first, second)):
        target.assign(source)
    told = pytest.warns(UserWarning, match="began later") if graph else contextlib.nullcontext()
    with told:
        other.load_state_dict(optimizer.state_dict())
    apply(other, LATER[2:], *pair)
    np.testing.assert_allclose(pair[1].numpy(), alone(make), rtol=0, atol=1e-6)


@pytest.mark.one_keras
def test_a_reset_begins_all_anew():
    first, second = grown(optimizer := tko.Nadam(0.01))
    apply(optimizer, LATER, first, second)
    optimizer.reset_state()
    for v in (first, second):
        v.assign(variable("start"))
    apply(optimizer, LATER, first, second)
    for v in (first, second):
        np.testing.assert_allclose(v.numpy(), alone(nadam), rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("value", [99, 1.5, [3]])
def test_a_beginning_that_cannot_be_is_refused(value):
    first, second = grown(optimizer := tko.Adam(0.01))
    apply(optimizer, LATER, first, second)
    state = optimizer.state_dict()
    state["variables"]["late"]["begun_at_update"] = np.asarray(value)
    before = optimizer.get_weights()
    with pytest.raises(ValueError, match=r"'late'.*`begun_at_update`.*nothing was"):
        optimizer.load_state_dict(state)
    for value, kept in zip(optimizer.get_weights(), before):
        np.testing.assert_array_equal(value, kept)


def test_a_conversion_to_keras_says_what_is_lost():
    first, second = grown(optimizer := tko.Adam(0.01))
    apply(optimizer, LATER, first, second)
    with pytest.warns(UserWarning, match=r"'late' began at update 12"):
        made = tko.to_keras(optimizer)
    assert int(made.iterations.numpy()) == 18


# Slots of another dtype.


@pytest.mark.one_keras
@pytest.mark.parametrize("kinds", [(None, "int8"), ("int8", "bfloat16")])
def test_slots_are_taken_into_another_slot_dtype(kinds):
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(64, 64)).astype("f") for _ in range(8)]
    v = tf.Variable(tf.zeros([64, 64]), name="w")
    first, second = (tko.Adam(0.01, slot_dtype=kind) for kind in kinds)
    apply(first, batches, v)
    u = tf.Variable(v, name="w")
    second.build([u])
    with pytest.raises(ValueError, match=r"w momentum"):
        second.load_state_dict(first.state_dict())
    report = second.load_state_dict(first.state_dict(), strict=False)
    assert not (report.missing or report.mismatched or report.unexpected)
    assert len(report.cast) >= 2
    before = v.numpy()
    apply(first, batches[:1], v)
    apply(second, batches[:1], u)
    moved, expected = u.numpy() - before, v.numpy() - before
    assert np.linalg.norm(moved - expected) <= 0.1 * np.linalg.norm(expected)
