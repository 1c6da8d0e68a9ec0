"""What classes written for Keras' base find in ours: members, lists, configurations."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
only_keras_3 = pytest.mark.skipif(not harness.IS_KERAS_3, reason="of Keras 3 only")
only_keras_2 = pytest.mark.skipif(harness.IS_KERAS_3, reason="of Keras 2 only")

OPTIONS = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True},
}


def dense_model(size=2):
    return keras.Sequential([keras.layers.Input((size,)), keras.layers.Dense(1)])


def weights():
    return [tf.Variable(tf.ones([2, 3])), tf.Variable([0, 0]), tf.Variable([1.0])]


@pytest.mark.parametrize("name", sorted(tko.list_optimizers()))
def test_slots_are_listed_under_the_names_in_keras(name):
    peer = getattr(keras.optimizers, name, None)
    if peer is None:
        pytest.skip(f"{name} is not in this Keras")
    theirs = peer(0.1, **OPTIONS.get(name, {}))
    ours = getattr(tko, name)(0.1, **OPTIONS.get(name, {}) | harness.fixed(name))
    theirs.build(harness.for_keras([v for v in weights() if v.dtype.is_floating]))
    with pytest.raises(AttributeError):
        ours._momentums  # noqa: B018
    given = weights()
    ours.build(given)
    skip = (
        "_variables",
        "_trainable",
        "_trackable",
        "_self",
        "_unconditional",
        "_accumulated_g",
    )
    lists = [
        name
        for name, value in vars(theirs).items()
        if isinstance(value, (list, tuple)) and value and not name.startswith(skip)
    ]
    assert lists
    for listed in lists:
        found = getattr(ours, listed)
        assert len(found) == 3
        assert found[1] is None  # no gradient can belong to it
        for slot, other in zip([found[0], found[2]], getattr(theirs, listed)):
            if slot is not None:
                assert tuple(slot.shape) == tuple(other.shape), listed
        assert any(slot is not None for slot in found)


def test_a_subclass_updates_by_keras_lists():
    class Bias(tko.Adam):
        def update_step(self, gradient, variable, learning_rate):
            place = self._get_variable_index(variable)
            self.assign_add(self._momentums[place], gradient)
            self.assign_sub(variable, learning_rate * self._momentums[place])

    variable = tf.Variable([1.0])
    optimizer = Bias(0.5)
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    np.testing.assert_allclose(variable.numpy(), [1.0 - 0.5 - 1.0])
    optimizer._momentums = "its own"
    assert optimizer._momentums == "its own"


def test_a_config_has_keys_that_keras_has_not_where_they_count():
    class Own(tko.Optimizer):
        def __init__(
            self, learning_rate=0.1, weight_decay=None, clipnorm=None, clipvalue=None,
            global_clipnorm=None, use_ema=False, ema_momentum=0.99,
            ema_overwrite_frequency=None, name="own", **two,
        ):  # fmt: skip
            assert set(two) <= {
                "loss_scale_factor",
                "gradient_accumulation_steps",
                "jit_compile",
            }
            super().__init__(learning_rate, weight_decay, clipnorm, name=name)

        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * gradient)

    again = Own.from_config(Own(0.25, clipnorm=2.0).get_config())
    assert (float(again.learning_rate), again.clipnorm) == (0.25, 2.0)
    config = tko.Adam(sparse="lazy", skip_nonfinite=True).get_config()
    assert (config["sparse"], config["skip_nonfinite"]) == ("lazy", True)
    assert not {"master_weights", "slot_dtype", "rounding_seed"} & set(config)


@only_keras_3
def test_lr_is_a_class_own_in_keras_3():
    class Own(tko.SGD):
        def __init__(self, rate):
            super().__init__(0.5)
            self.lr = rate

    optimizer = Own(7.0)
    assert (optimizer.lr, float(optimizer.learning_rate)) == (7.0, 0.5)
    plain = tko.SGD(0.5)
    plain.lr = 0.25
    assert float(plain.learning_rate) == float(plain.lr) == 0.25


def test_a_variable_is_no_hyperparameter():
    for number in (tf.Variable(0.5), tf.Variable(0.5, trainable=False)):
        with pytest.raises(ValueError, match=r"`weight_decay`.*value.*variable.*schedule"):
            tko.SGD(0.5).weight_decay = number
    assert tko.SGD(0.5, weight_decay=tf.constant(0.5)).weight_decay == 0.5


@only_keras_3
def test_what_a_class_tracks_is_state(tmp_path):
    @keras.utils.register_keras_serializable(package="tests")
    class Tracks(tko.SGD):
        def build(self, variables):
            super().build(variables)
            if hasattr(self, "scale"):
                return
            self.model_variables = list(variables)
            self.scale = keras.Variable(1.0)
            self.fast = []
            for variable in variables:
                self.fast.append(keras.Variable(tf.zeros(variable.shape)))
            self.table = {"a": (keras.Variable([1.0, 2.0]),)}
            self.asked = self.add_variable((), name="asked")
            self.native = tf.Variable(3.0)
            self._track_variable(self.native)
            self.added = keras.Variable(4.0)
            self._variables.append(self.added)

        def update_step(self, gradient, variable, learning_rate):
            self.scale.assign_add(1.0)
            self.native.assign_add(1.0)
            self.fast[self._get_variable_index(variable)].assign_add(gradient)
            variable.assign_sub(learning_rate * gradient * self.scale)

    model = dense_model()
    model.compile(Tracks(0.01), "mse")
    x, y = np.ones((4, 2), "f"), np.zeros((4, 1), "f")
    model.fit(x, y, batch_size=2, epochs=1, verbose=0)
    before = {id(v): v.numpy() for v in model.optimizer.variables}
    assert len(before) == 2 + 1 + 2 + 1 + 1 + 1 + 1
    assert float(model.optimizer.scale.numpy()) == 5.0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for name in ("scale", "native", "added", "asked"):
        value = getattr(model.optimizer, name).numpy()
        assert getattr(again.optimizer, name).numpy() == value, name
    for fast, other in zip(again.optimizer.fast, model.optimizer.fast):
        np.testing.assert_array_equal(fast.numpy(), other.numpy())
    state = model.optimizer.state_dict()
    model.optimizer.reset_state()
    assert float(model.optimizer.scale.numpy()) == 1.0
    model.optimizer.load_state_dict(state)
    assert float(model.optimizer.scale.numpy()) == 5.0
    for trained in (model, again):
        trained.fit(x, y, batch_size=2, epochs=1, verbose=0, shuffle=False)
    assert float(again.optimizer.native.numpy()) == 11.0
    model.optimizer._untrack_variable(model.optimizer.native)
    assert len(model.optimizer.variables) == len(before) - 1


@only_keras_2
def test_keras_2s_way_to_write_an_optimizer(tmp_path):
    @keras.utils.register_keras_serializable(package="tests")
    class Own(tko.Optimizer):
        def __init__(
            self, learning_rate=0.01, momentum=0.5, weight_decay=None, name="Own", **kwargs
        ):
            super().__init__(name, weight_decay, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)
            self.momentum = momentum

        def build(self, var_list):
            super().build(var_list)
            if hasattr(self, "_built") and self._built:
                return
            self.momentums, self.starts = [], []
            for var in var_list:
                self.momentums.append(
                    self.add_variable_from_reference(model_variable=var, variable_name="m")
                )
                self.starts.append(
                    self.add_variable_from_reference(var, "s", initial_value=var)
                )
            self.sums = self.add_variable_from_reference(var_list[0], "sum", shape=[3])
            self.count = self.add_variable([], "int64", name="count")
            self.added = tf.Variable(2.0)
            self._variables.append(self.added)
            self._built = True

        def update_step(self, gradient, variable):
            rate = tf.cast(self.learning_rate, variable.dtype)
            m = self.momentums[self._index_dict[self._var_key(variable)]]
            m.assign(m * self.momentum + gradient)
            self.count.assign_add(1)
            self.added.assign_add(1.0)
            variable.assign_sub(rate * m)

        def get_config(self):
            return super().get_config() | {
                "learning_rate": self._serialize_hyperparameter(self._learning_rate),
                "momentum": self.momentum,
            }

    variable = tf.Variable([1.0, 2.0])
    optimizer = Own(0.25, weight_decay=0.5)
    assert optimizer.name == "Own"
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0, 0.0]), variable)])
    expected = np.array([1.0, 2.0])
    for step in (1.0, 1.5):
        expected = expected * (1.0 - 0.5 * 0.25) - 0.25 * np.array([step, 0.0])
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(optimizer.starts[0].numpy(), [1.0, 2.0])
    assert (optimizer.sums.shape, int(optimizer.count)) == ((3,), 2)
    other = tf.Variable([1.0])
    optimizer.apply_gradients([(tf.constant([1.0]), other)])  # later variables get slots, too
    assert len(optimizer.momentums) == 2
    model = dense_model()
    model.compile(Own(keras.optimizers.schedules.ExponentialDecay(0.25, 1, 0.5)), "mse")
    model.fit(np.ones((4, 2)), np.zeros((4, 1)), batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert float(again.added.numpy()) == 6.0
    assert float(again.learning_rate.numpy()) == 0.0625
    for slot, saved in zip(again.momentums, model.optimizer.momentums):
        np.testing.assert_array_equal(slot.numpy(), saved.numpy())


def test_the_counter_can_be_another_variable():
    optimizer, variable = tko.Adam(0.5), tf.Variable([1.0])
    counter = tf.Variable(tf.constant(4, tf.int64), trainable=False)
    optimizer._iterations = counter
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert (int(counter.numpy()), int(optimizer.iterations.numpy())) == (5, 5)
    optimizer.reset_state()
    assert int(counter.numpy()) == 0
    with pytest.raises(ValueError, match="int64 variable without dimensions"):
        optimizer._iterations = tf.Variable(1.0)
