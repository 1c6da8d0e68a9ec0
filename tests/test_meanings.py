"""Slots that another class has saved: taken over where they are the same quantity."""

import functools
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras

MAKE = {
    "SGD": lambda: tko.SGD(0.1, momentum=0.9),
    "Lion": lambda: tko.Lion(0.1),
    "Adam": lambda: tko.Adam(0.1),
    "AMSGrad": lambda: tko.Adam(0.1, amsgrad=True),
    "AdamW": lambda: tko.AdamW(0.1),
    "Nadam": lambda: tko.Nadam(0.1),
    "Lamb": lambda: tko.Lamb(0.1),
    "Adamax": lambda: tko.Adamax(0.1),
    "RMSprop": lambda: tko.RMSprop(0.1, momentum=0.9),
    "Adagrad": lambda: tko.Adagrad(0.1),
    "Ftrl": lambda: tko.Ftrl(0.1),
    "Adafactor": lambda: tko.Adafactor(0.1),
}
MOMENTS = {"momentum", "velocity"}
ADAMS = ("Adam", "AMSGrad", "AdamW", "Nadam", "Lamb")
CASES = [(one, other, MOMENTS) for one in ("Adam", "Lamb") for other in ADAMS if one != other]
CASES += [("Adamax", "Adam", {"momentum"}), ("Nadam", "Adamax", {"momentum"})]
CASES += [
    (one, other, set())
    for one, other in [
        ("SGD", "Adam"),
        ("SGD", "Lion"),
        ("Lion", "SGD"),
        ("Lion", "Adam"),
        ("Adam", "SGD"),
        ("RMSprop", "Adam"),
        ("Lamb", "RMSprop"),
        ("Adafactor", "RMSprop"),
        ("RMSprop", "SGD"),
        ("Adagrad", "Ftrl"),
    ]
]


def trained(optimizer):
    weight = tf.Variable([1.0, 2.0], name="w")
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0, -2.0]), weight)])
    return weight


@functools.cache
def source_of(make):
    """An optimizer after some steps; it is only read."""
    optimizer = make()
    trained(optimizer)
    return optimizer


def fresh(optimizer):
    optimizer.build([tf.Variable([1.0, 2.0], name="w")])
    return optimizer


def slots(optimizer):
    kept = optimizer.state_dict()["variables"]["w"]
    return {name: v for name, v in kept.items() if name.split("/")[0] != "begun_at_update"}


def without(state, *keys):
    """A state as earlier versions wrote it."""
    return {key: value for key, value in state.items() if key not in keys}


def check_taken(before, source, target, taken):
    found, saved = slots(target), source.state_dict()["variables"]["w"]
    for name, value in found.items():
        expected = saved[name] if name in taken else before[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)


@pytest.mark.one_keras
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("one, other, taken", CASES)
def test_slots_are_taken_where_they_are_the_same_quantity(one, other, taken, old):
    source, target = source_of(MAKE[one]), fresh(MAKE[other]())
    before, state = slots(target), source.state_dict()
    report = target.load_state_dict(without(state, "meanings") if old else state, strict=False)
    check_taken(before, source, target, taken)
    saved = set(state["variables"]["w"])
    names = {kind: {line.split()[1] for line in getattr(report, kind) if line.startswith("w ")}
             for kind in ("loaded", "missing", "unexpected", "mismatched")}  # fmt: skip
    assert names["loaded"] == taken
    assert names["mismatched"] == (saved & before.keys()) - taken
    assert names["missing"] == before.keys() - saved
    assert names["unexpected"] == saved - before.keys()
    assert int(target.iterations) == 3
    with pytest.raises(ValueError, match="does not fit"):
        target.load_state_dict(state)


UNNAMED = [
    ("SGD", "Adam", set()),  # it could be Lion's
    ("SGD", "SGD", {"momentum"}),  # the same slots as here
    ("Adamax", "Adam", {"momentum"}),  # no other class has a norm
    ("RMSprop", "AMSGrad", set()),  # it could be Adam's
    ("AMSGrad", "Nadam", MOMENTS),
    ("Adafactor", "RMSprop", set()),
]


@pytest.mark.one_keras
@pytest.mark.parametrize("one, other, taken", UNNAMED)
def test_a_state_that_names_no_class_is_judged_by_its_slots(one, other, taken):
    source, target = source_of(MAKE[one]), fresh(MAKE[other]())
    before, state = slots(target), source.state_dict()
    target.load_state_dict(without(state, "meanings", "class_name"), strict=False)
    check_taken(before, source, target, taken)


class Heavy(tko.SGD):
    """A subclass: its parent's slots."""


class Own(tko.Optimizer):
    slots = ("momentum", "count")
    slot_meanings = {"momentum": "first moment"}  # noqa: RUF012

    def update(self, gradient, value, slots, scalars):
        momentum = 0.9 * slots["momentum"] + 0.1 * gradient
        after = {"momentum": momentum, "count": slots["count"] + 1.0}
        return value - scalars.learning_rate * momentum, after


class Silent(tko.Optimizer):
    slots = ("momentum",)

    def update(self, gradient, value, slots, scalars):
        momentum = slots["momentum"] + gradient
        return value - scalars.learning_rate * momentum, {"momentum": momentum}


class Louder(Silent):
    """Says nothing either."""


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "one, other, taken",
    [
        (lambda: Heavy(0.1, momentum=0.9), MAKE["SGD"], {"momentum"}),
        (MAKE["SGD"], lambda: Heavy(0.1, momentum=0.9), {"momentum"}),
        (lambda: Heavy(0.1, momentum=0.9), MAKE["Lion"], set()),
        (lambda: Own(0.1), MAKE["Adam"], {"momentum"}),
        (MAKE["Adamax"], lambda: Own(0.1), {"momentum"}),
        (lambda: Silent(0.1), MAKE["Adam"], set()),
        (MAKE["Lion"], lambda: Silent(0.1), set()),
        (lambda: Louder(0.1), lambda: Silent(0.1), {"momentum"}),
    ],
)
def test_classes_of_ones_own(one, other, taken):
    source, target = source_of(one), fresh(other())
    before = slots(target)
    target.load_state_dict(source.state_dict(), strict=False)
    check_taken(before, source, target, taken)


def test_a_class_that_is_not_known_here_says_itself_what_its_slots_are():
    source, target = source_of(MAKE["Adam"]), fresh(MAKE["Nadam"]())
    state, before = source.state_dict() | {"class_name": "Elsewhere"}, slots(target)
    target.load_state_dict(without(state, "meanings"), strict=False)
    check_taken(before, source, target, set())
    target.load_state_dict(state, strict=False)
    check_taken(before, source, target, MOMENTS)
    with pytest.raises(ValueError, match="section 'meanings'"):
        target.load_state_dict(state | {"meanings": {"momentum": 3}}, strict=False)


@pytest.mark.parametrize("kind", ["int8", "average"])
def test_slot_dtype_goes_with_its_slot_and_an_ema_is_an_ema(kind):
    options = {"slot_dtype": "int8"} if kind == "int8" else {"use_ema": True}

    def built(make):
        optimizer, weight = make(0.1, **options), tf.Variable(tf.ones([4096]), name="w")
        optimizer.build([weight])
        return optimizer, weight

    for make, taken in (
        (lambda rate, **more: tko.SGD(rate, momentum=0.9, **more), set()),
        (tko.AdamW, {"momentum", "momentum_scale", "velocity", "velocity_scale"}),
    ):
        (source, weight), (target, _) = built(make), built(tko.Adam)
        source.apply_gradients([(tf.range(4096.0), weight)])
        before = slots(target)
        target.load_state_dict(source.state_dict(), strict=False)
        check_taken(before, source, target, taken | {"average"})


@pytest.mark.parametrize("name", ["x.npz", "x.weights.h5", "x.keras"])
@pytest.mark.parametrize("one, taken", [("SGD", False), ("Nadam", True)])
def test_files_keep_what_the_slots_are(name, one, taken, tmp_path):
    path = str(tmp_path / name)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    (weight,) = model.trainable_variables
    source, other = MAKE[one](), MAKE["Adam"]()
    model.compile(source, "mse")
    source.apply_gradients([(tf.constant([[1.0], [-2.0]]), weight)])
    other.build([weight])
    if name == "x.npz":
        tko.save_state(path, source)
    elif name == "x.keras":
        model.save(path)
    else:
        model.save_weights(path)
    tko.load_state(path, other, strict=False)
    (saved,), (found,) = (o.state_dict()["variables"].values() for o in (source, other))
    for slot in MOMENTS:
        expected = saved[slot] if taken else np.zeros([2, 1])
        np.testing.assert_array_equal(found[slot], expected)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("one, other, taken", [c for c in CASES if c[0] in ("SGD", "Adamax")])
def test_checkpoints_give_no_slot_to_what_is_something_else(one, other, taken, late, tmp_path):
    source, target = source_of(MAKE[one]), MAKE[other]()
    path = tf.train.Checkpoint(o=source).write(str(tmp_path / "x"))
    second = tf.Variable([1.0, 2.0], name="w")
    before = slots(fresh(MAKE[other]()))
    if not late:
        target.build([second])
    checkpoint = tf.train.Checkpoint(o=target)
    refused = source.state_dict()["variables"]["w"].keys() & before.keys() - taken
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint.restore(path).expect_partial()
        target.build([second])
    told = [str(w.message) for w in caught if "something else" in str(w.message)]
    assert len(told) == bool(refused)
    assert all(f"w {name} saved by {one!r}" in told[0] for name in refused)
    check_taken(before, source, target, taken)


def test_convert_does_not_take_a_file_for_what_it_is_not(tmp_path):
    path = str(tmp_path / "x.keras")
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    theirs, variables = keras.optimizers.SGD(0.1, momentum=0.9), model.trainable_variables
    model.compile(theirs, "mse")
    theirs.apply_gradients([(tf.ones_like(v), v) for v in variables])
    model.save(path)
    with pytest.raises(ValueError, match="'SGD', whose momentum is not that of Lion"):
        tko.convert(path, variables, optimizer=tko.Lion())
    found = tko.convert(path, variables, optimizer=Heavy(0.1, momentum=0.9))
    value = next(iter(found.state_dict()["variables"].values()))["momentum"]
    np.testing.assert_array_equal(value, theirs.momentums[0].numpy())
