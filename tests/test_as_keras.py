"""What third-party code does with an optimizer of Keras, done with ours."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import LossScaleOptimizer

pytestmark = pytest.mark.xla_in_one_keras
keras = tf.keras
keras_3, keras_2 = harness.IS_KERAS_3, not harness.IS_KERAS_3


def value_of(variable):
    return float(variable.numpy())


# Names and what is printed.


def test_two_optimizers_of_one_class_have_names_of_their_own():
    if not keras_3:
        assert [tko.Adam().name for _ in range(2)] == [keras.optimizers.Adam().name] * 2
        return
    keras.backend.clear_session()
    made = [tko.Adam(), tko.Adam(), keras.optimizers.Adam(), tko.Adam(), tko.SGD()]
    assert [o.name for o in made] == ["adam", "adam_1", "adam_2", "adam_3", "sgd"]
    for optimizer in made:
        optimizer.build([tf.Variable(1.0, name="w")])
    paths = [variable.path for optimizer in made for variable in optimizer.variables]
    assert len(set(paths)) == len(paths)
    wrapped = [LossScaleOptimizer(optimizer) for optimizer in made[:2]]
    assert [o.name for o in wrapped] == ["loss_scale_optimizer", "loss_scale_optimizer_1"]
    assert tko.Adam.from_config(made[1].get_config()).name == "adam_1"


@pytest.mark.parametrize("wrap", [False, True])
def test_what_is_printed_is_short(wrap):
    optimizer = tko.Adam(name="mine")
    if wrap:
        optimizer = LossScaleOptimizer(optimizer, name="mine")
    expected = f"<{type(optimizer).__name__} optimizer 'mine' of tf_keras_optim>"
    assert [repr(optimizer), str(optimizer), f"{optimizer}"] == [expected] * 3
    assert f"{optimizer:>80}" == expected.rjust(80)


# The learning rate under the name of Keras' attribute.


def step(optimizer, weight):
    before = value_of(weight)
    optimizer.apply_gradients([(tf.constant(1.0), weight)])
    return before - value_of(weight)


@pytest.mark.parametrize("start", [0.5, "schedule"])
def test_the_private_learning_rate_can_be_written(start):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10_000], [0.125, 0.0])
    optimizer = tko.SGD(schedule if start == "schedule" else start)
    weight = tf.Variable(8.0)
    optimizer.build([weight])

    @tf.function
    def traced():
        optimizer.apply_gradients([(tf.constant(1.0), weight)])

    traced()
    weight.assign(8.0)
    optimizer._learning_rate = 0.25
    assert step(optimizer, weight) == 0.25
    traced()
    assert value_of(weight) == 7.5
    optimizer._learning_rate = variable = tf.Variable(0.0625)
    variable.assign(1.0)
    assert step(optimizer, weight) == 1.0
    variable.assign(2.0)
    assert step(optimizer, weight) == 2.0
    assert optimizer.get_config()["learning_rate"] == 2.0
    optimizer.learning_rate = 0.5
    assert value_of(variable) == 0.5
    traced()
    assert value_of(weight) == 4.0
    optimizer._learning_rate = schedule
    assert step(optimizer, weight) == 0.125
    optimizer._learning_rate = lambda: 0.25
    assert step(optimizer, weight) == 0.25
    for wrong in (tf.Variable([1.0]), tf.Variable(1), "fast", float("nan")):
        with pytest.raises(ValueError, match="learning_rate"):
            optimizer._learning_rate = wrong
    assert step(optimizer, weight) == 0.25


def test_each_replica_may_exclude_before_the_first_step(strategy):
    with strategy.scope():
        weight, bias = tf.Variable(1.0, name="weight"), tf.Variable(1.0, name="bias")
        first = tko.SGD(0.5, weight_decay=0.5)
        second = tko.SGD(0.5, weight_decay=0.5)

    def replica():
        zeros = [tf.constant(0.0)] * 2
        first.exclude_from_weight_decay(var_names=["bias"])
        first.apply_gradients(zip(zeros, [weight, bias]))
        second.exclude_from_weight_decay(var_list=[bias])
        second.apply_gradients(zip(zeros, [weight, bias]))

    strategy.run(replica)
    assert (value_of(weight), value_of(bias)) == (0.75**2, 1.0)
    with pytest.raises(ValueError, match="is built already"):
        first.exclude_from_weight_decay(var_names=["weight"])


# Sparse gradients as Keras' tests write them.


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("kind", "mode"),
    [(tuple, "lazy"), (list, "exact"), (np.array, "exact"), (tf.constant, "lazy")],
)
def test_slices_are_made_of_what_tensorflow_takes(kind, mode):
    table = tf.Variable(tf.ones([3, 2]))
    optimizer = tko.Adagrad(0.5, sparse=mode, initial_accumulator_value=0.0)
    wrapped = LossScaleOptimizer(tko.SGD(0.5), initial_scale=1.0)
    optimizer.build([table])

    def slices():
        return tf.IndexedSlices(kind([[1.0, 2.0], [1.0, 2.0]]), kind([2, 2]), kind([3, 2]))

    optimizer.apply_gradients([(slices(), table)])
    tf.function(lambda: optimizer.apply_gradients([(slices(), table)]), autograph=False)()
    row = 1 - 0.5 - 0.5 / np.sqrt(2)
    np.testing.assert_allclose(table.numpy(), [[1, 1], [1, 1], [row, row]], rtol=1e-5)
    wrapped.apply_gradients([(slices(), table)])
    np.testing.assert_allclose(table.numpy()[2], [row - 1, row - 2], rtol=1e-5)
    for change, expected in ((optimizer.assign, [1, 2]), (optimizer.assign_add, [2, 4])):
        change(table, tf.IndexedSlices(kind([[1.0, 2.0]]), kind([1]), kind([3, 2])))
        np.testing.assert_array_equal(table.numpy()[1], expected)
    none = tf.IndexedSlices(np.zeros((0, 2), "f"), (), (3, 2))
    before = table.numpy()
    wrapped.apply_gradients([(none, table)])
    np.testing.assert_array_equal(table.numpy(), before)


def test_nadam_has_its_product_under_keras_name():
    weight, other = tf.Variable(1.0), tf.Variable(1.0)
    ours, theirs = tko.Nadam(0.1), keras.optimizers.Nadam(0.1)
    for optimizer, variable in ((ours, weight), (theirs, other)):
        optimizer.build([variable])
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
    assert value_of(ours._u_product) == pytest.approx(value_of(theirs._u_product), rel=1e-6)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="newer Keras")
@pytest.mark.parametrize("arguments", [{}, {"use_ema": True}, {"clipnorm": 0.5}])
def test_keras_own_optimizer_of_several_takes_ours(arguments):
    def trained(package):
        keras.utils.set_random_seed(0)
        kernel = {"kernel_initializer": "ones"}
        model = keras.Sequential(
            [keras.layers.Input((2,)), keras.layers.Dense(2, name="a", **kernel),
             keras.layers.Dense(1, name="b", **kernel)], name="two",
        )  # fmt: skip
        several = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                package.SGD(0.01, **arguments), {"b/.*": package.Adam(0.1, **arguments)}
            )
        )
        model.compile(several, "mse")
        x = np.random.default_rng(0).normal(size=(8, 2)).astype("f")
        model.fit(x, x[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model

    ours, theirs = trained(tko), trained(keras.optimizers)
    for one, other in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# Legacy optimizers of Keras 2.


@pytest.mark.skipif(keras_3, reason="Keras 3 has no legacy optimizers")
@pytest.mark.parametrize(
    "cls", [tko.Adadelta, tko.Adagrad, tko.Adam, tko.Adamax, tko.Ftrl, tko.RMSprop, tko.SGD]
)
def test_it_becomes_a_legacy_optimizer(cls):
    convert = keras.__internal__.optimizers.convert_to_legacy_optimizer
    optimizer = cls(0.25, clipnorm=0.5, name="mine", jit_compile=False)
    legacy = convert(optimizer)
    theirs = convert(getattr(keras.optimizers, cls.__name__)(0.25, clipnorm=0.5, name="mine"))
    assert type(legacy) is type(theirs) is getattr(keras.optimizers.legacy, cls.__name__)
    config, expected = legacy.get_config(), theirs.get_config()
    assert config == expected
    weight, other = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    for made, variable in ((legacy, weight), (optimizer, other)):
        made.apply_gradients([(tf.constant([3.0, 4.0]), variable)])
    np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=0, atol=1e-5)


@pytest.mark.skipif(keras_3, reason="Keras 3 has no legacy optimizers")
def test_schedules_and_loss_scales_become_legacy_too():
    convert = keras.__internal__.optimizers.convert_to_legacy_optimizer
    schedule = tko.schedules.CosineDecay(0.5, 10)
    legacy = convert(LossScaleOptimizer(tko.SGD(schedule, momentum=0.5), initial_scale=64.0))
    assert type(legacy.inner_optimizer) is keras.optimizers.legacy.SGD
    assert value_of(legacy.loss_scale) == 64.0
    weight = tf.Variable(1.0)
    legacy.minimize(lambda: 1.0 * weight, [weight])
    assert value_of(weight) == 0.5


@pytest.mark.skipif(keras_3, reason="Keras 3 has no legacy optimizers")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tko.AdamW(), "has no legacy optimizer of this name"),
        (lambda: tko.Adam(weight_decay=0.5), "which has no weight_decay=0.5"),
        (lambda: tko.Adam(use_ema=True, sparse="lazy"), "has no use_ema=True, sparse='lazy'"),
        (lambda: LossScaleOptimizer(tko.SGD(), hysteresis=2), "which has no hysteresis=2"),
    ],
)
def test_what_legacy_optimizers_lack_is_said_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        keras.__internal__.optimizers.convert_to_legacy_optimizer(make())


# What is set on the wrapper.


SETTINGS = {
    "weight_decay": 0.5, "beta_1": 0.5, "epsilon": 0.5, "global_clipnorm": 0.25,
    "gradient_accumulation_steps": 2, "use_ema": True, "amsgrad": True, "lr": 0.5,
    "learning_rate_multiplier": 0.5, "learning_rate": 0.5,
}  # fmt: skip


def test_what_is_set_on_the_wrapper_is_set_on_the_optimizer_inside():
    for name, value in SETTINGS.items():
        optimizer = tko.Adam(tko.schedules.CosineDecay(0.25, 1000))
        wrapped = LossScaleOptimizer(optimizer)
        setattr(wrapped, name, value)
        assert name not in vars(wrapped)
        assert value_or_number(getattr(optimizer, name)) == value
        assert value_or_number(getattr(wrapped, name)) == value


@pytest.mark.parametrize(
    "name", ["weight_decay", "learning_rate_multiplier", "gradient_accumulation_steps"]
)
def test_what_is_set_on_the_wrapper_acts_in_the_next_step(name):
    schedule, weights = tko.schedules.CosineDecay(0.25, 1000), []
    for wrap in (False, True):
        optimizer, weight = tko.SGD(schedule), tf.Variable([1.0, 2.0])
        optimizer = LossScaleOptimizer(optimizer, initial_scale=8.0) if wrap else optimizer
        weights.append(weight)
        for _ in range(2):
            optimizer.minimize(lambda weight=weight: tf.reduce_sum(weight), [weight])
        before = weight.numpy()
        setattr(optimizer, name, SETTINGS[name])
        for _ in range(2):
            optimizer.minimize(lambda weight=weight: tf.reduce_sum(weight), [weight])
        # Two whole steps would have moved each weight by 0.5.
        assert (np.abs(before - weight.numpy() - 0.5) > 0.05).all()
    np.testing.assert_allclose(weights[0].numpy(), weights[1].numpy(), rtol=0, atol=1e-6)


def value_or_number(value):
    return value if isinstance(value, (bool, int, float)) else value_of(value)


def test_arguments_of_the_wrapper_can_be_set_or_are_refused():
    optimizer, weight = LossScaleOptimizer(tko.SGD(0.0), initial_scale=8.0), tf.Variable(1.0)
    step = lambda slope=1.0: optimizer.minimize(lambda: slope * weight, [weight])  # noqa: E731
    step()
    optimizer.dynamic_growth_steps, optimizer.growth_factor = 2, 4.0
    step()
    assert value_of(optimizer.dynamic_scale) == 32.0
    optimizer.backoff_factor = 0.25
    step(float("inf"))
    assert value_of(optimizer.dynamic_scale) == 8.0
    assert optimizer.get_config()["backoff_factor"] == 0.25
    for name, value in (("growth_factor", 0.5), ("min_scale", 16.0), ("max_scale", 1.0)):
        before = getattr(optimizer, name)
        with pytest.raises(ValueError, match=name):
            setattr(optimizer, name, value)
        assert getattr(optimizer, name) == before
    with pytest.raises(AttributeError, match=r"dynamic_scale.assign"):
        optimizer.initial_scale = 16.0
    with pytest.raises(ValueError, match="loss_scale_factor"):
        optimizer.loss_scale_factor = 4.0
    assert optimizer.inner_optimizer.loss_scale_factor is None
    with pytest.raises(ValueError, match="follows no schedule"):
        optimizer.learning_rate_multiplier = 0.5
    optimizer.note = "mine"
    assert optimizer.note == "mine"
    assert not hasattr(optimizer.inner_optimizer, "note")


def test_configs_of_older_versions_of_keras_are_read():
    inner = tko.serialize(tko.SGD(0.5))
    config = {
        "name": "scaled", "inner_optimizer": inner, "initial_scale": 64.0,
        "dynamic_growth_steps": 7, "weight_decay": None, "clipnorm": None,
        "global_clipnorm": None, "clipvalue": None, "use_ema": False, "ema_momentum": 0.99,
        "ema_overwrite_frequency": None, "loss_scale_factor": None,
        "gradient_accumulation_steps": None,
    }  # fmt: skip
    optimizer = LossScaleOptimizer.from_config(dict(config))
    assert (value_of(optimizer.loss_scale), optimizer.dynamic_growth_steps) == (64.0, 7)
    with pytest.raises(ValueError, match=r"`clipnorm`=1.0 belongs to the inner optimizer"):
        LossScaleOptimizer.from_config({**config, "clipnorm": 1.0})


def test_two_wrappers_around_one_optimizer():
    inner, weight = tko.SGD(0.5), tf.Variable(4.0)
    first = LossScaleOptimizer(inner, initial_scale=8.0)
    if not keras_3:
        with pytest.raises(ValueError, match="wrapped in a LossScaleOptimizer already"):
            LossScaleOptimizer(inner)
        return
    first.minimize(lambda: float("inf") * weight, [weight])
    second = LossScaleOptimizer(inner, initial_scale=64.0)
    scales = [value_of(o.dynamic_scale) for o in (first, second)]
    assert scales == [4.0, 64.0]
    for count, optimizer in enumerate((second, first, second), start=1):
        optimizer.minimize(lambda: 1.0 * weight, [weight])
        assert value_of(weight) == 4.0 - 0.5 * count
    second.minimize(lambda: float("inf") * weight, [weight])
    assert [value_of(o.dynamic_scale) for o in (first, second)] == [4.0, 32.0]
    assert int(inner.iterations) == 3
    resumed = LossScaleOptimizer(tko.SGD(0.5))
    resumed.load_state_dict(second.state_dict())
    assert value_of(resumed.dynamic_scale) == 32.0
