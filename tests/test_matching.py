"""State of models that have other names, other weights, or no slots yet."""

import copy
import pickle

import h5py
import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
FEATURES, TARGETS = np.ones((8, 4), "f"), np.ones((8, 1), "f")


def variables(*names, shapes=None, seed=0):
    generator = np.random.default_rng(seed)
    shapes = shapes or [(2, 2)] * len(names)
    return [
        tf.Variable(generator.normal(size=shape).astype("f"), name=name)
        for name, shape in zip(names, shapes)
    ]


def trained(optimizer, chosen):
    """Gives each variable a momentum of its own, by place: 0.1, 0.2, ..."""
    gradients = [tf.fill(v.shape, 1.0 + i) for i, v in enumerate(chosen)]
    optimizer.apply_gradients(zip(gradients, chosen))
    return optimizer


def momenta(optimizer):
    return [round(float(np.ravel(s["momentum"])[0]), 4)
            for s in optimizer.state_dict()["variables"].values()]  # fmt: skip


def loaded(state, chosen, **options):
    optimizer = tko.Adam(0.1)
    optimizer.build(chosen)
    optimizer.load_state_dict(state, **options)
    return momenta(optimizer)


# Names.


@pytest.mark.parametrize("names", [("w", "w_1", "w"), ("w", "w", "w_1"), ("w_1", "w", "w")])
def test_no_two_variables_have_one_path(names, tmp_path):
    chosen = variables(*names)
    optimizer = trained(tko.Adam(0.1), chosen)
    state = optimizer.state_dict()
    assert list(state["variables"]) == [{"w": "w", "w_1": "w_1"}[n] if n not in names[:i] else
        "w_2" for i, n in enumerate(names)]  # fmt: skip
    assert momenta(optimizer) == [0.1, 0.2, 0.3]
    # In whatever order they come, each finds its own.
    own = dict(zip(state["variables"], momenta(optimizer)))
    for order in [("w", "w_1", "w"), ("w", "w", "w_1")]:
        other = tko.Adam(0.1)
        other.build(variables(*order, seed=1))
        other.load_state_dict(state)
        assert dict(zip(other.state_dict()["variables"], momenta(other))) == own
    path = tmp_path / "state"
    tko.save_state(path, optimizer, chosen)
    targets = variables("w", "w", "w_1", seed=2)
    tko.load_state(path, other, targets)
    by_name = dict(zip(state["variables"], chosen))
    for name, target in zip(("w", "w_2", "w_1"), targets):
        np.testing.assert_array_equal(target.numpy(), by_name[name].numpy())


def test_a_path_stays_when_more_variables_come():
    a, b, c = variables("w", "w", "w_1")
    optimizer = trained(tko.Adam(0.1), [a, b])
    optimizer.build([a, b, c])
    assert list(optimizer.state_dict()["variables"]) == ["w", "w_1", "w_1_1"]
    assert momenta(optimizer) == [0.1, 0.2, 0.0]


def test_slots_of_a_user_written_optimizer_keep_apart():
    class Own(tko.Optimizer):
        def build(self, variables):
            super().build(variables)
            self.kept = [self.add_variable_from_reference(v, "kept") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            self.assign(self.kept[self._get_variable_index(variable)], gradient)

    optimizer = trained(Own(0.1), variables("w", "w_1", "w"))
    kept = {p: float(s["kept"][0, 0]) for p, s in optimizer.state_dict()["variables"].items()}
    assert kept == {"w": 1.0, "w_1": 2.0, "w_2": 3.0}


# Other names.


def renamed(*names):
    return [f"{name}/{part}" for name in names for part in ("kernel", "bias")]


SHAPES = [(2, 2), (2,)] * 3


@pytest.mark.parametrize("names", [
    ("dense", "dense_1", "dense_2"),  # what two of them were called before
    ("net_1/dense_7", "net_1/dense_8", "net_1/dense_9"),
    ("one", "two", "three"),
])  # fmt: skip
@pytest.mark.parametrize("weights", ["other", "equal", "partly"])
def test_renumbered_layers_are_taken_in_order(names, weights):
    first = variables(*renamed("dense_1", "dense_2", "dense_3"), shapes=SHAPES)
    state = trained(tko.Adam(0.1), first).state_dict()
    second = variables(*renamed(*names), shapes=SHAPES, seed=1)
    for v, w in list(zip(first, second))[: {"other": 0, "equal": 6, "partly": 3}[weights]]:
        w.assign(v)
    assert loaded(state, second) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_model_of_another_name_is_known_by_its_layers():
    state = trained(tko.Adam(0.1), variables(*renamed("net/a", "net/b", "net/c"))).state_dict()
    other = variables(*renamed("net_1/c", "net_1/a", "net_1/b"), seed=1)
    assert loaded(state, other) == [0.5, 0.6, 0.1, 0.2, 0.3, 0.4]


def test_the_weights_decide_where_layers_changed_places():
    first = variables(*renamed("dense", "dense_1", "dense_2"), shapes=SHAPES)
    source = trained(tko.Adam(0.1), first)
    for v in first[1::2]:
        v.assign(tf.zeros(2))
    state = source.state_dict()
    second = variables(*renamed("dense", "dense_1", "dense_2"), shapes=SHAPES, seed=1)
    order = [2, 3, 4, 5, 0, 1]  # as if a layer had been made later; biases are all zeros
    for i, w in zip(order, second):
        w.assign(first[i])
    target = tko.Adam(0.1)
    target.build([second[i] for i in (4, 5, 0, 1, 2, 3)])
    target.load_state_dict(state)
    found = target.state_dict()["variables"]
    for name, i in zip([w.name.split(":")[0] for w in second], order):
        expected = state["variables"][first[i].name.split(":")[0]]["momentum"]
        np.testing.assert_array_equal(found[name]["momentum"], expected)


def test_weights_of_another_layer_are_a_mix_up():
    first = variables(*renamed("dense_1", "dense_2"), shapes=SHAPES)
    state = trained(tko.Adam(0.1), first).state_dict()
    second = variables(*renamed("dense_4", "dense_5"), shapes=SHAPES, seed=1)
    second[0].assign(first[2])
    with pytest.raises(ValueError, match="dense_2/kernel: the saved weight is that of dense_4"):
        loaded(state, second)
    # Said by hand, it is taken.
    names = dict(zip(state["variables"], renamed("dense_4", "dense_5")))
    assert loaded(state, second, names=names) == [0.1, 0.2, 0.3, 0.4]


def test_another_layer_of_ones_own_naming_is_no_renumbered_one():
    state = trained(tko.Adam(0.1), variables("a/kernel", "b/kernel")).state_dict()
    with pytest.raises(ValueError, match=r"c/kernel momentum[^#]*a/kernel momentum"):
        loaded(state, variables("b/kernel", "c/kernel", seed=1))


def test_what_is_left_over_takes_nobodys_place():
    state = trained(tko.Adam(0.1), variables(*renamed("dense", "dense_1"), shapes=[
        (3, 2), (2,), (2, 1), (1,)])).state_dict()  # fmt: skip
    # Only the second layer is trained here, and it is called as the first one was.
    target = tko.Adam(0.1)
    target.build(variables(*renamed("dense"), shapes=[(2, 1), (1,)], seed=1))
    with pytest.raises(ValueError, match=r"not here:[^#]*dense/kernel momentum \(3, 2\)"):
        target.load_state_dict(state)
    report = target.load_state_dict(state, strict=False)
    assert momenta(target) == [0.3, 0.4] and len(report.unexpected) == 6


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="tf_keras has no LoRA")
def test_a_merged_lora_goes_on(tmp_path):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(1)]
    )
    model.get_layer("a").enable_lora(2)
    model.compile(tko.Adam(0.1), "mse")
    model.fit(FEATURES, TARGETS, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    again.fit(FEATURES, TARGETS, verbose=0)
    assert int(again.optimizer.iterations) == 2


def small(optimizer):
    layers = [keras.layers.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, keras.losses.MeanSquaredError())
    return model


def test_a_layer_that_was_reset_keeps_the_state(tmp_path):
    model = small(tko.Adam(0.1))
    trained(model.optimizer, model.trainable_variables)
    model.save_weights(tmp_path / "m.weights.h5")
    other = small(tko.Adam(0.1))
    other.load_weights(tmp_path / "m.weights.h5")
    other.layers[-1].set_weights([np.zeros((4, 1)), np.zeros(1)])
    other.optimizer.build(other.trainable_variables)
    assert momenta(other.optimizer) == momenta(model.optimizer)
    assert np.any(momenta(model.optimizer))


# No slots yet.


def keras_file(model, path):
    model.save(path / "m.keras")
    return keras.models.load_model(path / "m.keras")


def weights_file(model, path):
    model.save_weights(path / "m.weights.h5")
    other = small(model.optimizer.__class__.from_config(model.optimizer.get_config()))
    other.load_weights(path / "m.weights.h5")
    return other


def old_file(model, path):
    if harness.IS_KERAS_3:
        pytest.skip("Keras 3 builds the optimizer of such a file without variables")
    model.save(path / "m.h5")
    return keras.models.load_model(path / "m.h5")


def directory(model, path):
    if harness.IS_KERAS_3:
        pytest.skip("Keras 3 has no such directories")
    model.save(path / "m")
    return keras.models.load_model(path / "m")


def own_file(model, path):
    tko.save_model(model, path / "m.keras")
    return tko.load_model(path / "m.keras")


def state_file(model, path):
    tko.save_state(path / "state", model.optimizer)
    other = small(model.optimizer.__class__.from_config(model.optimizer.get_config()))
    tko.load_state(path / "state", other.optimizer)
    return other


def pickled(model, path):
    return pickle.loads(pickle.dumps(model))


def copied(model, path):
    return copy.deepcopy(model)


WAYS = [keras_file, weights_file, old_file, directory, own_file, state_file, pickled, copied]
MADE = {
    "plain": lambda: tko.Adam(0.1, jit_compile=False),
    "skipping": lambda: tko.Nadam(0.1, use_ema=True, skip_nonfinite=True, jit_compile=False),
    "scaled": lambda: tko.LossScaleOptimizer(tko.SGD(0.1, momentum=0.9, jit_compile=False)),
    "schedule": lambda: tko.Adam(tko.schedules.CosineDecay(0.1, 10), jit_compile=False),
}


@pytest.mark.parametrize(
    ("made", "way"),
    [*((made, keras_file) for made in MADE), *(("scaled", way) for way in WAYS[1:])],
)
def test_a_model_that_took_no_step_yet_can_be_loaded(made, way, tmp_path):
    model = small(MADE[made]())
    again = way(model, tmp_path)
    assert type(again.optimizer) is type(model.optimizer)
    for m in (model, again):
        m.set_weights([np.full(w.shape, 0.1, "f") for w in m.get_weights()])
        trained(m.optimizer, m.trainable_variables)
    for one, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert int(again.optimizer.iterations) == 1


@pytest.mark.parametrize("made", MADE)
def test_loaded_into_a_trained_one_it_is_a_fresh_one(made, tmp_path):
    small(MADE[made]()).save_weights(tmp_path / "m.weights.h5")
    model = small(MADE[made]())
    trained(model.optimizer, model.trainable_variables)
    with h5py.File(tmp_path / "m.weights.h5") as file:
        model.optimizer.load_own_variables(file["optimizer/vars"])
    fresh = small(MADE[made]())
    fresh.set_weights(model.get_weights())
    fresh.optimizer.build(fresh.trainable_variables)
    for one, other in zip(model.optimizer.get_weights(), fresh.optimizer.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_what_kerass_own_optimizer_saved_before_its_first_step(tmp_path):
    small(keras.optimizers.Adam(0.25)).save_weights(tmp_path / "m.weights.h5")
    model = small(tko.Adam(0.25))
    trained(model.optimizer, model.trainable_variables)
    with h5py.File(tmp_path / "m.weights.h5") as file:
        model.optimizer.load_own_variables(file["optimizer/vars"])
    assert momenta(model.optimizer) == [0.0] * 4 and int(model.optimizer.iterations) == 0


def test_a_state_of_another_class_is_refused_all_the_same():
    with pytest.raises(ValueError, match="saved by 'Adam', here 'SGD'"):
        tko.SGD().load_state_dict(tko.Adam().state_dict())
