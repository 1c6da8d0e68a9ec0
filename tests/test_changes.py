"""Hyperparameters that change while a model is trained, and settings that are refused."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras


def trained(cls, steps=3, **arguments):
    variable, optimizer = tf.Variable([1.0, 2.0]), cls(0.1, **arguments)
    go_on(optimizer, variable, steps)
    return optimizer, variable


def go_on(optimizer, variable, steps=1):
    for _ in range(steps):
        optimizer.apply_gradients([(tf.constant([0.5, -1.0]), variable)])


def twin_of(optimizer, cls, variable, **arguments):
    """An optimizer that never had the option, with the state that both have."""
    other, twin = cls(0.1, **arguments), tf.Variable(variable)
    other.build([twin])
    state = optimizer.state_dict()
    (path,), (own,) = state["variables"], other.state_dict()["variables"]
    state["variables"] = {own: state["variables"].pop(path)}
    state["weights"] = other.state_dict()["weights"]
    other.load_state_dict(state)
    return other, twin


OFF = {
    "momentum": (tko.SGD, {"momentum": 0.9}, {"momentum": 0.0}),
    "rms_momentum": (tko.RMSprop, {"momentum": 0.9}, {"momentum": 0.0}),
    "centered": (tko.RMSprop, {"centered": True}, {"centered": False}),
    "amsgrad": (tko.Adam, {"amsgrad": True}, {"amsgrad": False}),
    "average": (tko.SGD, {"use_ema": True}, {"use_ema": False}),
    "accumulation": (
        tko.SGD,
        {"gradient_accumulation_steps": 3},
        {"gradient_accumulation_steps": None},
    ),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("case", OFF)
def test_what_an_option_kept_is_put_away_and_comes_back(case):
    cls, on, off = OFF[case]
    optimizer, variable = trained(cls, **on)
    names = set(optimizer.state_dict()["variables"].popitem()[1])
    kept = {v.path if hasattr(v, "path") else v.name: v.numpy() for v in optimizer.variables}
    for name, value in off.items():
        setattr(optimizer, name, value)
    fewer = set(optimizer.state_dict()["variables"].popitem()[1])
    assert fewer < names
    # It trains on, and is saved, as one that never had the option.
    other, twin = twin_of(optimizer, cls, variable, **off)
    assert cls.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    (gone,) = names - fewer
    for name, value in on.items():
        setattr(optimizer, name, value)
    again = {v.path if hasattr(v, "path") else v.name: v.numpy() for v in optimizer.variables}
    assert again.keys() == kept.keys()
    for name, value in kept.items():
        np.testing.assert_array_equal(again[name], value)
    for name, value in off.items():
        setattr(optimizer, name, value)
    go_on(optimizer, variable)
    go_on(other, twin)
    np.testing.assert_array_equal(variable.numpy(), twin.numpy())
    assert gone not in other.state_dict()["variables"].popitem()[1]


@pytest.mark.one_keras
def test_gradients_that_waited_are_not_used_later():
    optimizer, variable = trained(tko.SGD, steps=1, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="1 of the 2 calls that make an update"):
        optimizer.gradient_accumulation_steps = 1
    assert optimizer.gradient_accumulation_steps == 2
    optimizer.reset_state()  # gives up what the call has gathered
    optimizer.gradient_accumulation_steps = 1
    go_on(optimizer, variable)
    optimizer.gradient_accumulation_steps = 2
    before = variable.numpy()
    go_on(optimizer, variable, 2)
    np.testing.assert_allclose(before - variable.numpy(), [0.05, -0.1], rtol=1e-6)


@pytest.mark.one_keras
def test_slot_dtype_int8_keeps_its_last_slot():
    weight = tf.Variable(tf.random.stateless_normal([64, 64], (1, 2)))
    optimizer = tko.SGD(0.1, momentum=0.9, slot_dtype="int8")
    gradient = tf.random.stateless_normal([64, 64], (3, 4))
    optimizer.apply_gradients([(gradient, weight)])
    before = [np.array(v) for v in optimizer.variables]
    with pytest.raises(ValueError, match="declares no slot that can be kept in 8 bits"):
        optimizer.momentum = 0.0
    assert optimizer.momentum == 0.9
    for mine, old in zip(optimizer.variables, before):
        np.testing.assert_array_equal(np.array(mine), old)


def test_a_saved_model_whose_option_was_taken_away_is_loaded(tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(tko.SGD(0.1, momentum=0.9, use_ema=True), keras.losses.MeanSquaredError())
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, verbose=0)
    with pytest.warns(UserWarning, match="changed after the step had been traced"):
        model.optimizer.momentum = 0.0
    with pytest.warns(UserWarning, match="changed after the step had been traced"):
        model.optimizer.use_ema = False
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    model.compile(model.optimizer, keras.losses.MeanSquaredError())
    for one in (model, again):
        one.fit(x, y, verbose=0)
    for mine, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(mine, other)


# What is refused leaves everything as it was.

REFUSED = [
    (tko.SGD, {"clipnorm": 1.0}, "clipvalue", 1.0, "at most one"),
    (tko.SGD, {"momentum": 0.5}, "momentum", 2.0, "`momentum` must be"),
    (tko.Adam, {}, "max_consecutive_skips", 3, "needs `skip_nonfinite=True`"),
    (tko.Adam, {}, "slot_dtype", "bfloat16", "cannot become bfloat16"),
    (tko.Adam, {"sparse": "lazy"}, "gradient_accumulation_steps", 2, "is not possible"),
    (tko.Lamb, {"decay_in_trust_ratio": True}, "decoupled_weight_decay", False, "not possible"),
    (tko.Adam, {"cautious_weight_decay": True}, "decoupled_weight_decay", False, "exclude one"),
    (tko.Adam, {"sparse": "lazy"}, "cautious", True, "`cautious` takes a mean over all rows"),
    (
        tko.Adam,
        {"stochastic_rounding": True},
        "master_weights",
        True,
        "exclude one another",
    ),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("cls", "given", "name", "value", "message"), REFUSED, ids=[row[2] for row in REFUSED]
)
def test_a_refused_value_is_not_kept(cls, given, name, value, message):
    optimizer, variable = trained(cls, **given)
    config, state = optimizer.get_config(), [np.array(v) for v in optimizer.variables]
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, name, value)
    assert optimizer.get_config() == config
    assert cls.from_config(config).get_config() == config
    for mine, old in zip(optimizer.variables, state):
        np.testing.assert_array_equal(np.array(mine), old)
    go_on(optimizer, variable)
    assert np.all(np.isfinite(variable.numpy()))


def test_a_refused_learning_rate_is_not_kept():
    optimizer, variable = trained(tko.SGD)
    config = optimizer.get_config()
    for value in ("fast", float("nan"), lambda step: step, [0.1]):
        with pytest.raises(ValueError, match="`learning_rate` must be"):
            optimizer.learning_rate = value
        assert optimizer.get_config() == config
    go_on(optimizer, variable)


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss_scale_factor", 2.0), ("skip_nonfinite", True), ("max_consecutive_skips", 2)],
)
def test_what_a_loss_scale_does_is_refused_inside_it(name, value):
    inner = tko.SGD(0.1)
    wrapper = tko.LossScaleOptimizer(inner)
    with pytest.raises(ValueError, match=rf"`{name}`.*inside a LossScaleOptimizer"):
        setattr(inner, name, value)
    config = wrapper.get_config()
    assert type(wrapper).from_config(config).get_config() == config


# Arguments.


def test_ema_options_need_use_ema():
    for given in ({"ema_momentum": 0.5}, {"ema_overwrite_frequency": 3}):
        (name,) = given
        with pytest.raises(ValueError, match=rf"`{name}`=.* needs `use_ema=True`"):
            tko.SGD(**given)
        config = tko.SGD(use_ema=True, **given).get_config() | {"use_ema": False}
        again = tko.SGD.from_config(config)
        assert again.get_config() == config
        again.use_ema = True
        assert getattr(again, name) == given[name]


def test_the_former_decay_is_explained():
    with pytest.raises(TypeError, match=r"`decay`.*nothing to do.*InverseTimeDecay") as error:
        tko.SGD(0.1, decay=1e-4)
    assert "Did you mean" not in str(error.value)
    with pytest.raises(TypeError, match=r"decay_rate=0.0001\)"):
        tko.SGD(0.1, decay=1e-4)


@pytest.mark.parametrize("what", ["model", "variable", "nothing"])
def test_build_takes_a_list_of_variables(what):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    given = {"model": model, "variable": tf.Variable([1.0, 2.0]), "nothing": None}[what]
    remedy = r"`\[variable\]`" if what == "variable" else r"`model.trainable_variables`"
    with pytest.raises(TypeError, match=rf"`build` takes a list of variables.*Give {remedy}"):
        tko.SGD().build(given)


class Tuned(tko.Optimizer):
    """An optimizer with arguments of every kind."""

    table = tko.Hyperparameter({"a": [1, 2]}, kind=dict)
    sizes = tko.Hyperparameter([1, 2], kind=list)
    pair = tko.Hyperparameter((1, 2), kind=tuple)
    more = tko.Hyperparameter(None, kind=dict)

    def update(self, gradient, value, slots, scalars):
        return value - scalars.learning_rate * scalars.table["a"][0] * gradient, {}


@pytest.mark.one_keras
def test_arguments_may_be_dicts_lists_and_tuples():
    optimizer = Tuned(0.5)
    assert optimizer.get_config()["table"] == {"a": [1, 2]}
    variable = tf.Variable(0.0)
    optimizer.apply_gradients([(tf.constant(1.0), variable)])
    optimizer.table = {"a": [4]}
    optimizer.sizes, optimizer.pair, optimizer.more = [3], (3,), {"b": 1}
    optimizer.apply_gradients([(tf.constant(1.0), variable)])
    assert variable.numpy() == -0.5 - 2.0
    config = optimizer.get_config()
    kinds = [type(config[name]) for name in ("table", "sizes", "pair", "more")]
    assert kinds == [dict, list, tuple, dict]
    config["table"]["a"].append(7)
    assert optimizer.table == {"a": [4]}
    assert Tuned(0.5).table == {"a": [1, 2]}
    assert Tuned.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    for name, value in (("table", [1]), ("sizes", {}), ("pair", [1]), ("table", None)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            setattr(optimizer, name, value)


def test_slots_must_be_a_tuple_of_names():
    class Momentum(tko.Optimizer):
        slots = "momentum"

        def update(self, gradient, value, slots, scalars):
            return value, slots

    with pytest.raises(TypeError, match=r"Received: 'momentum'.*`slots = \('momentum',\)`"):
        Momentum().build([tf.Variable([1.0])])


# Optimizers of one's own.


class Scaled(tko.AdamW):
    """Another learning rate for one variable."""

    def options_for(self, variable):
        return {"learning_rate_factor": 0.25 if variable.path == "low" else 1.0}


class ScaledStep(tko.Optimizer):
    """The same, written the Keras 3 way."""

    def options_for(self, variable):
        return {"learning_rate_factor": 0.25 if variable.path == "low" else 1.0}

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, learning_rate * gradient)


@pytest.mark.one_keras
@pytest.mark.parametrize("way", ["eager", "function", "xla", "rows"])
@pytest.mark.parametrize(("cls", "peer"), [(Scaled, tko.AdamW), (ScaledStep, tko.SGD)])
def test_a_factor_scales_the_update_and_the_decay(cls, peer, way):
    def run(optimizer, name, rows=False):
        variable = tf.Variable([[1.0, 2.0]], name=name)
        optimizer.build([variable])
        gradient = tf.constant([[0.5, -1.0]])
        if rows:
            gradient = tf.IndexedSlices(gradient, tf.constant([0]), tf.constant([1, 2]))
        step = lambda: optimizer.apply_gradients([(gradient, variable)])  # noqa: E731
        compiled = tf.function(step, jit_compile=way == "xla")
        for _ in range(3):
            step() if way in ("eager", "rows") else compiled()
        return variable.numpy()

    rows = way == "rows"
    lazy = {"sparse": "lazy"} if rows and cls is Scaled else {}
    for name, rate in (("low", 0.1), ("high", 0.4)):
        got = run(cls(0.4, weight_decay=0.5, **lazy), name, rows)
        np.testing.assert_allclose(got, run(peer(rate, weight_decay=0.5), name), rtol=1e-6)


def test_a_factor_must_be_a_number():
    class Wrong(tko.SGD):
        def options_for(self, variable):
            return {"learning_rate_factor": "half"}

    with pytest.raises(ValueError, match=r"Wrong.options_for.*`learning_rate_factor` must be"):
        Wrong().apply_gradients([(tf.constant([1.0]), tf.Variable([1.0]))])


def test_a_subclass_that_forgets_to_initialize_is_told():
    class Forgetful(tko.SGD):
        def __init__(self):
            self.own = 1

    variable = tf.Variable([1.0])
    for use in (
        lambda o: o.build([variable]),
        lambda o: o.apply_gradients([(tf.constant([1.0]), variable)]),
        lambda o: o.learning_rate,
        lambda o: o.get_config(),
        lambda o: o.variables,
        lambda o: o.momentum,
    ):
        with pytest.raises(AttributeError, match=r"call `super\(\).__init__\(...\)`"):
            use(Forgetful())


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_an_update_that_assigns_is_told(jit):
    count = tf.Variable(0.0)

    class Counting(tko.Optimizer):
        def update(self, gradient, value, slots, scalars):
            count.assign_add(1.0)
            return value - scalars.learning_rate * gradient, {}

    with pytest.raises(TypeError, match=r"`Counting.update` must be pure.*AssignAdd.*`slots`"):
        Counting(0.1, jit_compile=jit).apply_gradients([(tf.constant(1.0), tf.Variable(1.0))])
    assert count.numpy() == 0.0


@pytest.mark.one_keras
@pytest.mark.parametrize("in_list", [True, False])
def test_an_update_that_keeps_a_tensor_is_told(in_list):
    class Keeping(tko.Optimizer):
        def update(self, gradient, value, slots, scalars):
            self.seen = [gradient] if in_list else gradient
            return value - scalars.learning_rate * gradient, {}

    variable = tf.Variable(1.0)
    with pytest.raises(TypeError, match=r"`Keeping.update` must be pure.*attribute 'seen'"):
        Keeping(0.1).apply_gradients([(tf.constant(1.0), variable)])
    assert variable.numpy() == 1.0


def test_an_update_step_of_other_arguments_is_told():
    class Old(tko.Optimizer):
        def update_step(self, gradient, variable):
            variable.assign_sub(gradient)

    class Older(tko.Optimizer):
        def update_step(self, gradient):
            pass

    if harness.IS_KERAS_3:
        with pytest.raises(TypeError, match=r"Old.update_step must take three.*as in Keras 2"):
            Old(0.1)
    with pytest.raises(TypeError, match=r"Older.update_step must take .*as in Keras 2"):
        Older(0.1)


# What is told.

PLAIN = [
    (tko.Adam, {"gradient_accumulation_steps": 1}),
    (tko.Adam, {"loss_scale_factor": 1.0}),
    (tko.SGD, {}),
    (tko.SGD, {"loss_scale_factor": 2.0}),
    (tko.SGD, {"gradient_accumulation_steps": 2}),
    (tko.SGD, {"clipnorm": 1.0}),
    (tko.SGD, {"use_ema": True}),
    (tko.SGD, {"skip_nonfinite": True}),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("cls", "given"), PLAIN, ids=str)
def test_the_kernel_that_is_told_is_the_one_that_ran(cls, given):
    optimizer, variable = cls(0.1, **given), tf.Variable([1.0, 2.0])
    go_on(optimizer, variable, 2)
    (report,) = optimizer.explain(lambda text: None)
    assert report.kernel == ("xla" if optimizer.jit_compile_used else "fused")


def test_too_many_skipped_steps_are_told_first():
    optimizer = tko.SGD(skip_nonfinite=True, max_consecutive_skips=2)
    variable = tf.Variable([1.0], name="w")
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        for _ in range(2):
            optimizer.apply_gradients([(tf.constant([np.nan]), variable)])
    first = str(error.value).splitlines()[0]
    assert "not finite" in first
    assert "max_consecutive_skips=2" in first


def test_slot_dtype_int8_has_no_place_in_keras():
    optimizer = tko.SGD(momentum=0.9, slot_dtype="int8")
    optimizer.build([tf.Variable(tf.zeros([64, 64]), name="w")])
    with pytest.raises(
        ValueError, match=r"slots momentum of variable 'w'.*8 bits.*`slot_dtype`"
    ):
        tko.to_keras(optimizer)
