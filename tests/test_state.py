"""State by name: what comes back, what is refused, and what fits."""

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.state import assert_equal
from tests.support.steps import train, trained, variables

keras = tf.keras


def test_the_state_is_named():
    optimizer = tko.Nadam(0.5, use_ema=True, gradient_accumulation_steps=2)
    trained(optimizer, "layer/a", "b", steps=3)
    state = optimizer.state_dict()
    assert (state["format"], state["version"]) == ("tf_keras_optim.state", 1)
    assert state["class_name"] == "Nadam"
    assert int(state["scalars"]["iterations"]) == 3
    assert float(state["scalars"]["learning_rate"]) == 0.5
    assert len(state["scalars"]) == 3  # and the product of Nadam
    slots = {"momentum", "velocity", "average", "gradient_accumulator"}
    assert {path: set(kept) for path, kept in state["variables"].items()} == {
        "layer/a": slots,
        "b": slots,
    }
    assert all(isinstance(v, np.ndarray) for kept in state["variables"].values()
               for v in kept.values())  # fmt: skip
    # Two of three gradients were applied; the third waits.
    third = np.cos(np.arange(2) + 2).astype("f")
    np.testing.assert_allclose(state["variables"]["b"]["gradient_accumulator"], third)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_state_goes_on_where_it_was(built, scaled):
    def make():
        inner = tko.AdamW(0.1, use_ema=True, amsgrad=True)
        return tko.LossScaleOptimizer(inner, initial_scale=4.0) if scaled else inner

    source, target = make(), make()
    first = trained(source, "a", "b")
    state, second = source.state_dict(), variables("a", "b")
    for v, w in zip(first, second):
        w.assign(v)
    if built:
        target.build(second)
    report = target.load_state_dict(state)
    assert report.waiting is not built
    assert int(target.iterations) == 2  # the counters are there at once
    assert_equal(target.state_dict(), state)
    train(source, first)
    train(target, second)
    for v, w in zip(first, second):
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    assert_equal(target.state_dict(), source.state_dict())


COPIES = {
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "deepcopy": copy.deepcopy,
    "twice": lambda optimizer: copy.deepcopy(copy.deepcopy(optimizer)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_copy_of_an_optimizer_goes_on_where_it_was(way, scaled):
    def make():
        schedule = tko.schedules.CosineDecay(0.1, 9)
        inner = tko.AdamW(schedule if scaled else 0.1, use_ema=True, global_clipnorm=1.0)
        return tko.LossScaleOptimizer(inner, initial_scale=4.0) if scaled else inner

    source = make()
    first = trained(source, "a", "b")
    if not scaled:
        source.learning_rate = 0.05
    copied = COPIES[way](source)
    assert type(copied) is type(source) and int(copied.iterations) == 2
    second = variables("a", "b")
    for v, w in zip(first, second):
        w.assign(v)
    before = source.state_dict()
    train(copied, second)
    assert int(copied.iterations) == 4
    assert_equal(source.state_dict(), before)  # the copy has variables of its own
    train(source, first)
    for v, w in zip(first, second):
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    assert_equal(copied.state_dict(), source.state_dict())


def test_another_order_of_the_variables_changes_nothing():
    source, target = tko.Adam(0.1), tko.Adam(0.1)
    trained(source, "a", "b", "c")
    chosen = variables("c", "a", "b")
    target.build(chosen)
    target.load_state_dict(source.state_dict())
    for path, slots in source.state_dict()["variables"].items():
        for name, value in slots.items():
            np.testing.assert_array_equal(target.state_dict()["variables"][path][name], value)


DIFFERENCES = {
    "one more": (lambda: tko.Adam(), ("a", "b", "c"), r"c momentum \(2,\) float32"),
    "one less": (lambda: tko.Adam(), ("a",), r"b velocity \(2,\) float32"),
    "another name": (lambda: tko.Adam(), ("a", "d"), r"d momentum[^#]*b momentum"),
    "a slot more": (lambda: tko.Adam(amsgrad=True), ("a", "b"), r"a velocity_hat \(2,\)"),
    "averages": (lambda: tko.Adam(use_ema=True), ("a", "b"), r"a average \(2,\) float32"),
    "another class": (lambda: tko.AdamW(), ("a", "b"), r"saved by 'Adam', here 'AdamW'"),
    "a schedule": (
        lambda: tko.Adam(tko.schedules.CosineDecay(0.1, 10)),
        ("a", "b"),
        r"saved as learning_rate, here learning_rate_multiplier.*keep_hyperparameters",
    ),
    "another dtype": (
        lambda: tko.Adam(slot_dtype="bfloat16"),
        ("a", "b"),
        r"saved \(2,\) float32, here a momentum \(2,\) bfloat16",
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
@pytest.mark.parametrize("built", [True, False])
def test_what_differs_is_refused_with_the_difference(case, built):
    make, names, message = DIFFERENCES[case]
    source, target = tko.Adam(0.1), make()
    trained(source, "a", "b")
    chosen = variables(*names)
    if built:
        target.build(chosen)
        train(target, chosen, steps=1)
    before = target.state_dict()
    with pytest.raises(ValueError, match=message):
        target.load_state_dict(source.state_dict())
        target.build(chosen)
    after = target.state_dict()
    if built:
        assert_equal(before, after)
    else:
        assert int(after["scalars"]["iterations"]) == 0
        assert after["scalars"].keys() == before["scalars"].keys()


def test_another_shape_is_refused_and_left_out():
    source, target = tko.Adam(0.1), tko.Adam(0.1)
    trained(source, "a", "b")
    (a,), (b,) = variables("a"), variables("b", size=3)
    target.build([a, b])
    with pytest.raises(ValueError, match=r"saved \(2,\) float32, here b momentum \(3,\)"):
        target.load_state_dict(source.state_dict())
    report = target.load_state_dict(source.state_dict(), strict=False)
    assert len(report.mismatched) == 2 and len(report.loaded) == 4
    assert target.state_dict()["variables"]["a"]["momentum"].any()
    assert not target.state_dict()["variables"]["b"]["momentum"].any()


def test_what_fits_is_taken_over_and_the_rest_reported():
    source = tko.Adam(0.1)
    first = trained(source, "a", "b")
    state = source.state_dict()
    target = tko.Adam(tko.schedules.CosineDecay(0.5, 100), amsgrad=True, use_ema=True)
    second = variables("a", "b", "c")
    target.build(second)
    for v, w in zip(first, second):
        w.assign(v)
    report = target.load_state_dict(state, strict=False, keep_hyperparameters=True)
    assert not report.fits
    assert sum("velocity_hat" in line for line in report.missing) == 3
    assert sum(line.startswith("c ") for line in report.missing) == 5
    assert not report.unexpected and not report.mismatched
    after = target.state_dict()["variables"]
    for path in ("a", "b"):
        for slot, value in state["variables"][path].items():
            np.testing.assert_array_equal(after[path][slot], value)
    # An average that was not saved starts from the weights that are there now.
    np.testing.assert_array_equal(after["a"]["average"], first[0].numpy())
    assert target.current_learning_rate == pytest.approx(0.5, rel=1e-2)
    assert int(target.iterations) == 2
    train(target, second)


def test_a_new_learning_rate_may_be_kept():
    source, target = tko.Adam(0.1), tko.Adam(0.25)
    trained(source, "a")
    target.build(variables("a"))
    report = target.load_state_dict(source.state_dict(), keep_hyperparameters=True)
    assert report.fits and report.kept
    assert float(target.learning_rate.numpy()) == 0.25
    target.load_state_dict(source.state_dict())
    assert float(target.learning_rate.numpy()) == np.float32(0.1)


def test_slots_of_another_slot_dtype_are_cast_where_that_is_asked_for():
    source, target = tko.Adam(0.1), tko.Adam(0.1, slot_dtype="bfloat16")
    trained(source, "a")
    target.build(variables("a"))
    report = target.load_state_dict(source.state_dict(), strict=False)
    assert len(report.cast) == 2
    value = target.state_dict()["variables"]["a"]["momentum"]
    expected = source.state_dict()["variables"]["a"]["momentum"]
    np.testing.assert_array_equal(value, expected.astype(value.dtype))
    again = tko.Adam(0.1, slot_dtype="bfloat16")
    again.build(variables("a"))
    again.load_state_dict(target.state_dict())
    assert_equal(again.state_dict(), target.state_dict())


def test_variables_of_other_automatic_names_are_taken_in_order():
    source = tko.Adam(0.1)
    first = trained(source, "net/dense/kernel", "net/dense/bias", "net/dense_1/bias")
    state = source.state_dict()
    names = ("dense_7/kernel", "dense_7/bias", "dense_8/bias")
    target, second = tko.Adam(0.1), variables(*names)
    target.build(second)
    assert target.load_state_dict(state).fits  # whatever the weights are
    for v, w in zip(first, second):
        w.assign(v)
    assert target.load_state_dict(state).fits
    found = [slots["momentum"] for slots in target.state_dict()["variables"].values()]
    for value, slots in zip(found, state["variables"].values()):
        np.testing.assert_array_equal(value, slots["momentum"])
    # By hand, whatever the values are.
    third = tko.Adam(0.1)
    third.build(variables(*names))
    assert third.load_state_dict(state, names=dict(zip(state["variables"], names))).fits
    assert third.load_state_dict(
        state, names=lambda path: dict(zip(state["variables"], names))[path]
    ).fits
    with pytest.raises(ValueError, match=r"the same names: \['x'\]\. Map each"):
        third.load_state_dict(state, names=lambda path: "x")


def test_what_is_no_state_is_refused():
    optimizer = tko.Adam()
    optimizer.build(variables("a"))
    good = optimizer.state_dict()
    with pytest.raises(TypeError, match="Received: list"):
        optimizer.load_state_dict([good])
    for wrong, message in (
        ({"state": {}, "param_groups": []}, "'format' is None.*convert"),
        (good | {"version": 2}, "version 2"),
        (good | {"scalars": 3}, "'scalars' of the state must be a dict"),
        (good | {"variables": {"a": 3}}, "state of variable 'a' must be a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(wrong)
    scalars = good["scalars"] | {"iterations": np.float32(1.5)}
    with pytest.raises(ValueError, match="iterations"):
        optimizer.load_state_dict(good | {"scalars": scalars})
    text = {"a": {"momentum": np.array(["x", "y"]), "velocity": np.zeros(2, "f")}}
    with pytest.raises(ValueError, match="here a momentum"):
        optimizer.load_state_dict(good | {"variables": text})
    with pytest.raises(ValueError, match="has no slots yet"):
        tko.Adam().load_state_dict(good, strict=False)


def subclassed():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = keras.layers.Dense(3), keras.layers.Dense(2)

        def call(self, x):
            return self.two(self.one(x))

    model = Net()
    model.compile(tko.Adam(0.1), "mse")
    return model


def test_keras_files_find_variables_whose_layers_were_numbered_anew(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    x, y = np.ones((4, 4), "f"), np.ones((4, 2), "f")
    model = subclassed()
    model.fit(x, y, verbose=0)
    model.save_weights(path)
    other = subclassed()
    other(x)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path)
    for m in (model, other):
        m.fit(x, y, verbose=0)
    for one, two in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(model.optimizer.get_weights(), other.optimizer.get_weights()):
        np.testing.assert_array_equal(one, two)
