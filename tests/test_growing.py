"""Models that are built by `fit`, and models whose trainable variables change."""

import functools
import logging

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.state import native, path_of
from tests.support.steps import traced_or_not

keras = tf.keras
HOW = {
    "default": {},
    "no jit": {"jit_compile": False},
    "jit": {"jit_compile": True},
    "eagerly": {"run_eagerly": True},
}
OPTIONS = {
    "average": {"use_ema": True, "ema_momentum": 0.9},
    "all": {
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 3,
        "gradient_accumulation_steps": 2,
        "weight_decay": 0.1,
        "global_clipnorm": 0.5,
        "skip_nonfinite": True,
    },
}


def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(24, 5)).astype("f"), generator.normal(size=(24, 3)).astype(
        "f"
    )


def layered(built=True, policy=None, start="glorot_uniform"):
    """Two layers; without the shape of the input their variables are made by `fit`."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(4, dtype=policy, kernel_initializer=start, name="lower"),
        keras.layers.Dense(3, dtype=policy, kernel_initializer=start, name="upper"),
    ]
    model = keras.Sequential(layers)
    if built:
        model.build((None, 5))
    return model


def train(model, optimizer, how="default", epochs=1):
    x, y = data()
    model.compile(optimizer, "mse", **HOW[how])
    model.fit(x, y[:, : model.layers[-1].units], batch_size=4, epochs=epochs, shuffle=False,
              verbose=0)  # fmt: skip
    return model


def arrays(optimizer):
    return [np.asarray(a, "f") for a in optimizer.get_weights()]


@functools.cache
def trained_when_built(options):
    optimizer = tko.AdamW(0.01, **OPTIONS[options])
    model = train(layered(), optimizer, "no jit")
    return model.get_weights(), arrays(optimizer)


@pytest.mark.one_keras
@pytest.mark.parametrize("how, options", [*((how, "all") for how in HOW if how != "no jit"),
                                          ("jit", "average")])  # fmt: skip
def test_fit_builds_the_model_and_the_state(how, options):
    optimizer = tko.AdamW(0.01, **OPTIONS[options])
    model = train(layered(built=False), optimizer, how)
    weights, state = trained_when_built(options)
    for value, other in zip(model.get_weights(), weights):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    assert len(arrays(optimizer)) == len(state)
    for value, other in zip(arrays(optimizer), state):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("how", ["default", "eagerly"])
def test_fit_builds_narrow_weights_with_their_master_weights(how):
    ready, late = (tko.Adam(1e-3, use_ema=True) for _ in range(2))
    expected = train(layered(policy="bfloat16"), ready, how)
    model = train(layered(built=False, policy="bfloat16"), late, how)
    assert all(w.dtype.name == "bfloat16" for w in model.get_weights())
    assert len(arrays(late)) == len(arrays(ready))
    for value, other in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(value, other)
    for value, other in zip(arrays(late), arrays(ready)):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


def averages(optimizer):
    entries = optimizer.state_dict()["variables"]
    return {path: slots["average"] for path, slots in entries.items()}


@pytest.mark.one_keras
@pytest.mark.parametrize("how", ["default", "jit", "eagerly"])
def test_ema_of_a_layer_that_fit_adds_starts_from_its_weights(how):
    optimizer = tko.SGD(0.0, use_ema=True, ema_momentum=0.5)
    model = train(layered(), optimizer)
    grown = keras.Sequential([*model.layers, keras.layers.Dense(2, name="top")])
    train(grown, optimizer, how)
    assert len(grown.get_weights()) == 6
    for value, average in zip(grown.get_weights(), averages(optimizer).values()):
        np.testing.assert_array_equal(average, value)  # a rate of 0 moves no weight


@pytest.mark.one_keras
@pytest.mark.parametrize("steps", [None, 2])
def test_first_values_that_depend_on_the_arguments_of_a_function(steps):
    """TensorFlow gives such variables their values within the first step itself."""
    optimizer = tko.SGD(0.0, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=steps)
    known = tf.Variable([4.0])
    for _ in range(4):
        optimizer.apply_gradients([(tf.constant([1.0]), known)])
    made = []

    @tf.function(autograph=False)
    def step(x):
        if not made:
            made.append(tf.Variable(x + 1.0))
        optimizer.apply_gradients([(tf.constant([1.0, 1.0]), made[0])])

    for _ in range(4):
        step(tf.constant([2.0, 3.0]))
    step(tf.constant([2.0]) * tf.constant([1.0, 1.5]))
    found = [average.tolist() for average in averages(optimizer).values()]
    assert found == [[4.0], [3.0, 4.0]]


class Anchored(tko.Optimizer):
    """Remembers the weights that it starts from, and goes half way back at each step."""

    learning_rate = tko.LearningRate(0.0)

    def build(self, variables):
        super().build(variables)
        self.anchors = [
            self.add_variable_from_reference(
                v, "anchor", initializer=lambda shape, dtype, v=v: tf.identity(native(v))
            )
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        anchor = self.anchors[self._get_variable_index(variable)]
        self.assign_sub(variable, learning_rate * gradient)
        self.assign(variable, (tf.convert_to_tensor(variable) + native(anchor)) / 2.0)


@pytest.mark.one_keras
@pytest.mark.parametrize("how", ["default", "no jit", "eagerly"])
def test_a_users_slot_may_start_from_the_weights_of_a_model_that_fit_builds(how):
    optimizer = Anchored(0.0)
    model = train(layered(built=False), optimizer, how)
    expected = layered().get_weights()
    for value, start in zip(model.get_weights(), expected):
        np.testing.assert_array_equal(value, start)
    for value, start in zip(optimizer.anchors, expected):
        np.testing.assert_array_equal(native(value).numpy(), start)


def test_a_users_slot_that_cannot_have_its_start_is_named():
    optimizer, made = Anchored(0.0), []

    @tf.function(autograph=False)
    def step(x):
        if not made:
            made.append(tf.Variable(x + 1.0, name="late"))
        v = made[0]
        optimizer.apply_gradients([(tf.constant([1.0]), v)])

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"anchor.*starts from.*late"):
        step(tf.constant([2.0]))


# Trainable variables that come and go.


class LogLines(logging.Handler):
    """What TensorFlow's logger is given, as text."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def log_lines():
    logger, handler = tf.get_logger(), LogLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def by_path(optimizer):
    return {
        (path, slot): value
        for path, slots in optimizer.state_dict()["variables"].items()
        for slot, value in slots.items()
        if slot != "begun_at_update"  # of optimizers with variables that came late
    }


@pytest.mark.one_keras
@pytest.mark.parametrize("how", HOW)
def test_fit_goes_on_after_unfreezing(how, log_lines):
    optimizer = tko.Adam(0.01, use_ema=True, ema_momentum=0.5)
    model = layered()
    model.layers[0].trainable = False
    train(model, optimizer, how)
    before = by_path(optimizer)
    lower = model.layers[0].get_weights()
    model.layers[0].trainable = True
    log_lines.clear()
    model.compile(optimizer, "mse", **HOW[how])
    optimizer.learning_rate = 0.0
    x, y = data()
    model.fit(x[:4], y[:4], batch_size=4, verbose=0)
    said = [line for line in log_lines if "that got gradients are new" in line]
    assert len(said) == 1
    assert "2 of the 4 variables" in said[0]
    order = list(optimizer.state_dict()["variables"])
    assert order == [path_of(v) for v in model.trainable_variables]
    after = by_path(optimizer)
    assert set(before) < set(after)
    for value, average in zip(lower, list(averages(optimizer).values())[:2]):
        np.testing.assert_array_equal(average, value)
    optimizer.learning_rate = 0.01
    train(model, optimizer, how)
    assert np.abs(model.layers[0].get_weights()[0] - lower[0]).max() > 1e-3
    assert int(optimizer.iterations) == 13
    model.layers[0].trainable = False  # and back: its state is kept
    kept = by_path(optimizer)
    train(model, optimizer, how)
    frozen = {key: v for key, v in by_path(optimizer).items() if "lower" in key[0]}
    assert len(frozen) == 6
    for key, value in frozen.items():
        if key[1] != "average":
            np.testing.assert_array_equal(value, kept[key])


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_new_variable_extends_the_state(traced, scaled, log_lines):
    a, b, c = (tf.Variable([1.0, 2.0], name=name) for name in "abc")
    inner = tko.Adam(0.1)
    optimizer = tko.LossScaleOptimizer(inner, initial_scale=4.0) if scaled else inner
    gradient = tf.constant([4.0, -8.0])

    def step(*chosen):
        optimizer.apply_gradients([(gradient, v) for v in chosen])

    step(b)
    before = by_path(inner)
    frozen = traced_or_not(step, traced)
    with pytest.raises(ValueError, match="given twice"):
        step(c, c)
    with pytest.raises(ValueError, match="no gradient for any variable"):
        optimizer.apply_gradients([(None, c)])
    assert list(inner.state_dict()["variables"]) == ["b"]
    assert not log_lines
    frozen(a, c)
    assert len(log_lines) == 1
    assert "2 of the 2 variables" in log_lines[0]
    after = by_path(inner)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    assert list(inner.state_dict()["variables"]) == ["b", "a", "c"]
    inner.build([a, b, c])  # all of them: their order is taken over
    assert list(inner.state_dict()["variables"]) == ["a", "b", "c"]
    assert len(log_lines) == 1


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [False, True])
def test_an_open_window_of_accumulation_goes_on(traced):
    a, b = tf.Variable([0.0]), tf.Variable([0.0])
    optimizer = tko.SGD(1.0, gradient_accumulation_steps=3)

    def step(slope, *chosen):
        optimizer.apply_gradients([(tf.fill([1], slope), v) for v in chosen])

    step = traced_or_not(step, traced)
    step(tf.constant(3.0), a)
    step(tf.constant(6.0), a, b)
    step(tf.constant(9.0), a, b)
    np.testing.assert_allclose(a.numpy(), [-6.0])
    np.testing.assert_allclose(b.numpy(), [-5.0])  # its first gradient counts as zero
    for _ in range(3):
        step(tf.constant(1.0), a, b)
    np.testing.assert_allclose(b.numpy(), [-6.0])


@pytest.mark.one_keras
def test_new_variables_on_replicas(strategy):
    with strategy.scope():
        a, b = tf.Variable([1.0], name="a"), tf.Variable([1.0], name="b")
        optimizer = tko.SGD(0.25, momentum=0.5, use_ema=True, ema_momentum=0.5)

    def step(*chosen):
        strategy.run(
            lambda: optimizer.apply_gradients([(tf.constant([0.5]), v) for v in chosen])
        )

    step(a)
    tf.function(step, autograph=False)(a, b)
    step(a, b)
    # Two replicas: each step's gradient is 1. b: 1 - 0.25, then - 0.25 * (1 + 0.5).
    for variable, value in ((a, 1.0 - 0.25 * (1.0 + 1.5 + 1.75)), (b, 0.375)):
        values = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
        assert values == [value, value]
    np.testing.assert_allclose(averages(optimizer)["b"], [0.5 * (0.5 * (1.0 + 0.75) + 0.375)])


@pytest.mark.one_keras
def test_end_of_fit_leaves_weights_without_an_ema():
    optimizer = tko.SGD(0.1, use_ema=True)
    known, unknown = tf.Variable([1.0]), tf.Variable([5.0])
    optimizer.finalize_variable_values([known])  # not built: nothing to put in place
    optimizer.apply_gradients([(tf.constant([1.0]), known)])
    optimizer.finalize_variable_values([known, unknown])
    assert unknown.numpy() == [5.0]
    np.testing.assert_allclose(known.numpy(), [0.9])


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{"gradient_accumulation_steps": 8}, {"skip_nonfinite": 1}])
def test_weights_stay_where_no_update_has_been_made(options):
    nothing = "skip_nonfinite" in options
    options = {name: bool(v) if nothing else v for name, v in options.items()}
    optimizer = tko.SGD(0.1, use_ema=True, **options)
    model = layered()
    optimizer.build(model.trainable_variables)
    model.set_weights([np.full_like(w, 3.0) for w in model.get_weights()])
    x, y = data()
    model.compile(optimizer, "mse")
    model.fit(x[:8] * np.nan if nothing else x[:8], y[:8], batch_size=4, verbose=0)
    assert all((w == 3.0).all() for w in model.get_weights())


@pytest.mark.one_keras
def test_ema_that_was_turned_on_late_waits_for_an_update():
    variable = tf.Variable([1.0])
    optimizer = tko.SGD(0.5)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    optimizer.use_ema = True
    variable.assign([7.0])
    optimizer.finalize_variable_values([variable])
    assert variable.numpy() == [7.0]
    optimizer.apply_gradients([(tf.constant([2.0]), variable)])
    assert variable.numpy() == [6.0]
    optimizer.finalize_variable_values([variable])
    # It begins from the weights that this update found, whatever they were when it was made.
    np.testing.assert_allclose(variable.numpy(), [0.99 * 7.0 + 0.01 * 6.0], rtol=1e-6)


def test_a_trainable_counter_is_passed_over():
    weight = tf.Variable([1.0], name="weight")
    counter = tf.Variable(3, name="layer/calls", trainable=True)
    optimizer = tko.SGD(0.5, use_ema=True)
    optimizer.build([counter, weight])
    with pytest.warns(UserWarning, match="no gradient for layer/calls"):
        optimizer.apply_gradients([(None, counter), (tf.constant([1.0]), weight)])
    optimizer.apply([None, tf.constant([1.0])])
    optimizer.finalize_variable_values([counter, weight])
    assert (int(counter), int(optimizer.iterations)) == (3, 2)
    np.testing.assert_allclose(weight.numpy(), [0.99 * 0.5 + 0.01 * 0.0], rtol=1e-6)
    with pytest.raises(ValueError, match="'layer/calls' has dtype int32"):
        optimizer.apply_gradients([(tf.constant(1.0), counter)])
    assert int(optimizer.iterations) == 2


def test_a_users_lists_count_a_trainable_counter():
    counter, weight = tf.Variable(3, name="calls"), tf.Variable([1.0], name="weight")
    optimizer = Anchored(0.0)
    optimizer.build([counter, weight])
    assert optimizer._get_variable_index(weight) == 1


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="LoRA came with Keras 3")
@pytest.mark.parametrize("how", ["default", "eagerly"])
def test_low_rank_adaptation_begins_after_training(how):
    optimizer = tko.Adam(0.01)
    model = train(layered(), optimizer, how)
    before = by_path(optimizer)
    model.layers[0].enable_lora(2)
    kernel = model.layers[0]._kernel.numpy()
    train(model, optimizer, how)
    after = by_path(optimizer)
    gone = [key for key in before if key[0].endswith("lower/kernel")]
    assert len(gone) == 2
    for key in gone:
        np.testing.assert_array_equal(after[key], before[key])
    assert len({path for path, _ in set(after) - set(before)}) == 2
    np.testing.assert_array_equal(model.layers[0]._kernel.numpy(), kernel)
    assert int(optimizer.iterations) == 12


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="LoRA came with Keras 3")
@pytest.mark.parametrize("compiles", [False, True])
def test_a_file_may_hold_what_was_trained_before_low_rank_adaptation(
    compiles, tmp_path, log_lines
):
    """Adapters were enabled and nothing was trained since."""
    optimizer = tko.Adam(0.01)
    model = train(layered(), optimizer)
    model.layers[0].enable_lora(2)
    if compiles:
        model.compile(optimizer, "mse")
    model.save(tmp_path / "m.keras")
    log_lines.clear()
    loaded = keras.models.load_model(tmp_path / "m.keras")
    before, after = by_path(optimizer), by_path(loaded.optimizer)
    (line,) = [line for line in log_lines if "the saved state" in line]
    assert "was left out for 1 variable" in line and "nothing for 2 variables" in line
    kept = {key: value for key, value in before.items() if "lower/kernel" not in key[0]}
    assert len(kept) == len(before) - 2 > 0
    ends = {("/".join(path.split("/")[-2:]), name): v for (path, name), v in after.items()}
    for (path, name), value in kept.items():
        np.testing.assert_array_equal(ends["/".join(path.split("/")[-2:]), name], value)
    new = [value for (path, _), value in ends.items() if "lora" in path]
    assert len(new) == 4 and not np.any(np.concatenate([v.ravel() for v in new]))
    assert int(loaded.optimizer.iterations) == int(optimizer.iterations) == 6
    train(loaded, loaded.optimizer)
    assert int(loaded.optimizer.iterations) == 12
