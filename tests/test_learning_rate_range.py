"""The range test of learning rates: what it finds, and that everything is as it was."""

import random

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
X, Y = harness.classification_data(48)


def model_with_everything():
    """Dropout and batch normalization: generators and moving statistics."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input((8,)),
            keras.layers.Dense(6, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, seed=3, name="drop"),
            keras.layers.Dense(3, name="head"),
        ]
    )


def compiled(optimizer, model=None, **arguments):
    model = model_with_everything() if model is None else model
    loss = harness.classification_loss()
    arguments = {"jit_compile": False, **arguments}  # quicker
    model.compile(optimizer, loss, metrics=["accuracy"], **arguments)
    return model


def everything(model):
    """All that training changes, as arrays by name."""
    found = {f"weights/{i}": v.numpy() for i, v in enumerate(model.variables)}
    found |= {
        f"metrics/{i}/{metric.name}": v.numpy()
        for metric in model.metrics
        for i, v in enumerate(metric.variables)
    }
    generators = [
        part.state
        for part in tf.train.TrackableView(model).descendants()
        if isinstance(part, tf.random.Generator)
    ]
    generators.append(tf.random.get_global_generator().state)
    found |= {f"generators/{i}": v.numpy() for i, v in enumerate(generators)}
    state = model.optimizer.state_dict()
    found |= {f"scalars/{name}": value for name, value in state["scalars"].items()}
    found |= {
        f"{path}/{slot}": value
        for path, slots in state["variables"].items()
        for slot, value in slots.items()
    }
    return found | {
        "evaluating": np.asarray(state.get("evaluating", False)),
        "numpy": np.random.get_state()[1].copy(),
        "python": np.asarray(random.getstate()[1]),
    }


def check_equal(now, before):
    assert now.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(now[name], value, err_msg=name)


def warm(first, last):
    return keras.optimizers.schedules.PolynomialDecay(first, 100, last)


def scaled():
    inner = tko.AdamW(warm(0.0, 0.01), gradient_accumulation_steps=4, use_ema=True)
    return tko.LossScaleOptimizer(inner, initial_scale=2.0**12)


CASES = {
    "a loss scale, averages, accumulation, a schedule that begins at 0": scaled,
    "Schedule-Free": lambda: tko.ScheduleFreeSGD(0.01, warmup_steps=5),
    "groups": lambda: tko.SGD(
        warm(0.1, 0.0), groups={"head": {"learning_rate": 0.5}, "hidden/bias": None}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_everything_is_as_it_was(case):
    model = compiled(CASES[case](), run_eagerly="loss scale" in case)
    if case != "groups":  # whose rates follow, as `fit` traces a function anew
        model.fit(X, Y, batch_size=8, verbose=0, shuffle=False)
    if case == "Schedule-Free":
        model.optimizer.use_evaluation_weights()
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    before, function = everything(model), model.train_function
    rate = float(model.optimizer.learning_rate.numpy())
    history = getattr(model, "history", None)
    found = tko.find_learning_rate(
        model, X, Y, batch_size=8, steps=12, highest=1.0, verbose=0, shuffle=False
    )
    assert len(found.rates) == 12
    now = everything(model)
    if function is None:  # `fit` makes the metrics' variables where it is called first
        now = {name: value for name, value in now.items() if name in before}
    check_equal(now, before)
    assert float(model.optimizer.learning_rate.numpy()) == rate
    assert getattr(model, "history", None) is history


def test_everything_is_as_it_was_after_an_interruption():
    calls = []

    class Interrupted(keras.Model):
        def train_step(self, data):
            calls.append(None)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().train_step(data)

    inside = model_with_everything()
    model = compiled(
        tko.Adam(0.01), Interrupted(inside.inputs, inside.outputs), run_eagerly=True
    )
    model.train_on_batch(X[:8], Y[:8])
    calls.clear()
    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        tko.find_learning_rate(model, X, Y, batch_size=8, verbose=0)
    assert len(calls) == 4
    check_equal(everything(model), before)


def test_a_function_of_a_rate_is_given_growing_rates():
    weight, seen = tf.Variable([3.0]), []
    optimizer = tko.SGD(0.3, momentum=0.9)
    optimizer.build([weight])

    def step(rate):
        seen.append(rate)
        optimizer.learning_rate = rate
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weight**2)
        optimizer.apply_gradients([(tape.gradient(loss, weight), weight)])
        return loss

    found = tko.find_learning_rate(
        step, lowest=1e-4, highest=10.0, steps=60, variables=[weight, optimizer], verbose=0
    )
    rates = 1e-4 * 1e5 ** (np.arange(60) / 59)
    w, m, losses = 3.0, 0.0, []
    for rate in rates[: len(seen)]:
        losses.append(w * w)
        m = 0.9 * m - rate * 2.0 * w
        w += m
    np.testing.assert_allclose(found.rates, rates[: len(seen)], rtol=1e-12)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4, atol=1e-6)
    assert found.diverged and len(seen) < 60
    assert losses[-1] > 4 * min(losses)
    assert weight.numpy() == [3.0] and int(optimizer.iterations) == 0
    assert float(optimizer.learning_rate.numpy()) == np.float32(0.3)
    assert not optimizer.state_dict()["variables"]["Variable"]["momentum"].any()


def test_the_suggestion_is_where_the_loss_falls_fastest():
    place = tf.Variable(0)

    def step(rate):  # falls along a sigmoid around 1e-3, lowest at 0.1
        x = np.log10(rate)
        return 1.0 - 1.0 / (1.0 + np.exp(-4.0 * (x + 3.0))) + 0.02 * abs(x + 1.0)

    found = tko.find_learning_rate(step, steps=161, highest=10.0, variables=[place], verbose=0)
    assert abs(np.log10(found.steepest) + 3.0) < 0.1
    half = np.arccosh(2.0**0.5) / 2  # that far away the slope of the sigmoid is half
    assert abs(np.log10(found.suggestion) + 3.0 + half) < 0.15
    assert abs(np.log10(found.minimum_over_10) + 2.0) < 0.2
    level = tko.find_learning_rate(lambda rate: 1.0, variables=[place], verbose=0)
    assert level.suggestion is level.steepest is level.minimum_over_10 is None
    assert not level.diverged
    np.testing.assert_allclose(level.smoothed, np.ones(200))


def test_a_group_keeps_its_ratio():
    weights = [tf.Variable([1.0], name=name) for name in ("body", "head")]
    optimizer = tko.SGD(0.1, groups={"head": {"learning_rate": 0.5}})
    optimizer.build(weights)
    moves = []

    def step(rate):
        optimizer.learning_rate = rate
        before = [w.numpy()[0] for w in weights]
        optimizer.apply_gradients([(tf.constant([1.0]), w) for w in weights])
        moves.append([b - w.numpy()[0] for b, w in zip(before, weights)])
        return 1.0

    found = tko.find_learning_rate(
        step, steps=10, lowest=0.01, variables=[*weights, optimizer], verbose=0
    )
    expected = np.stack([found.rates, 5.0 * found.rates], axis=1)
    np.testing.assert_allclose(moves, expected, rtol=1e-4, atol=1e-6)
    follows = tko.SGD(warm(0.1, 0.0), groups={"head": {"learning_rate": 0.5}})
    follows.build(weights)
    with pytest.raises(ValueError, match=r"cannot follow a number.*may hold"):
        tko.find_learning_rate(step, variables=[*weights, follows], verbose=0)


def test_accumulation_takes_several_batches_for_an_update():
    calls = []

    weight = tf.Variable([2.0])
    optimizer = tko.SGD(lambda: 0.5, gradient_accumulation_steps=3)
    optimizer.build([weight])

    def step(rate):
        calls.append(rate)
        optimizer.learning_rate = rate
        optimizer.apply_gradients([(tf.constant([1.0]), weight)])
        return float(len(calls))

    found = tko.find_learning_rate(
        step, steps=10, divergence=1e9, variables=[weight, optimizer], verbose=0
    )
    assert len(calls) == 30 and len(set(calls)) == 10
    np.testing.assert_allclose(found.losses, 3.0 * np.arange(10) + 2.0)
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), weight)])
    assert weight.numpy() == [1.5]  # by the callable again


def test_a_skipped_step_is_taken_again():
    weight = tf.Variable([2.0])
    optimizer = tko.LossScaleOptimizer(tko.SGD(0.1), initial_scale=8.0)
    optimizer.build([weight])
    calls = []

    def step(rate):
        calls.append(rate)
        optimizer.learning_rate = rate
        slope = np.inf if len(calls) == 2 else 1.0
        optimizer.apply_gradients([(tf.constant([slope]), weight)])
        return 1.0

    found = tko.find_learning_rate(step, steps=10, variables=[weight, optimizer], verbose=0)
    assert len(calls) == 11 and calls[1] == calls[2] == found.rates[1]
    assert float(optimizer.loss_scale) == 8.0 and int(optimizer.skipped_steps) == 0
    with pytest.raises(ValueError, match="first 65 steps made no update"):
        tko.find_learning_rate(lambda rate: 1.0, variables=[weight, optimizer], verbose=0)


def test_what_is_not_built_is_built_and_at_its_start(capsys):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3)])
    compiled(tko.Adam(), model)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    found = tko.find_learning_rate(model, data, steps=10, highest=0.1)
    assert "10/10" in capsys.readouterr().out
    assert model.built and model.optimizer.built and int(model.optimizer.iterations) == 0
    assert not any(v.numpy().any() for v in model.optimizer.variables if v.shape.rank)
    start = np.log(3.0)  # the bias is 0, and the inputs have mean 0
    assert abs(found.losses[0] - start) < 1.0 and found.losses.shape == (10,)


class Falling(keras.Model):
    """All gradients are 1, so each bias falls by its rate; the last is shown before that."""

    def train_step(self, batch):
        self(batch[0], training=True)
        weights = self.trainable_variables
        shown = tf.identity(tf.convert_to_tensor(weights[-1])[0])
        self.optimizer.apply_gradients([(tf.ones(w.shape), w) for w in weights])
        return {"bias": shown}


def test_a_compiled_step_of_ones_own_with_a_multi_optimizer():
    """The head's rate follows a schedule of its own, and grows by the same factor."""
    layers = [keras.layers.Input((8,)), keras.layers.Dense(2), keras.layers.Dense(3)]
    inside = keras.Sequential(layers)
    model = Falling(inside.inputs, inside.outputs)
    name = inside.layers[-1].name
    halved = keras.optimizers.schedules.ExponentialDecay(0.3, 1, 0.5)
    parts = tko.OptimizerMap(tko.SGD(0.1), {f".*{name}.*": tko.SGD(halved)})
    model.compile(tko.MultiOptimizer(parts), jit_compile=True)
    before = [w.numpy() for w in model.trainable_variables]
    found = tko.find_learning_rate(
        model, X, Y, batch_size=8, lowest=0.01, highest=1.0, steps=10, monitor="bias", verbose=0
    )
    rates = found.rates * (0.3 / 0.1) * 0.5 ** np.arange(10)
    expected = -np.cumsum([0.0, *rates[:-1]])
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5, atol=1e-7)
    for variable, value in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert int(model.optimizer.iterations) == 0
    assert float(model.optimizer.learning_rate.numpy()) == np.float32(0.1)


@pytest.fixture
def narrow():
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy(before)


def test_the_wrapper_that_keras_puts_around_an_optimizer(narrow):
    """The scale is too large for the first steps; that of Keras 2 counts them all the same."""
    wrapper = keras.mixed_precision.LossScaleOptimizer(tko.SGD(0.1), initial_scale=2.0**30)
    model = compiled(wrapper, run_eagerly=True)
    assert type(compiled(tko.SGD(0.1)).optimizer) is type(wrapper)
    wrapper.build(model.trainable_variables)
    steps = []

    def scale():
        return float(wrapper.dynamic_scale if harness.IS_KERAS_3 else wrapper.loss_scale)

    before = [v.numpy() for v in model.variables]
    inside = model.train_step

    def step(data):
        found = inside(data)
        steps.append(scale())
        return found

    model.train_step = step
    found = tko.find_learning_rate(
        model, X, Y, batch_size=8, steps=10, highest=0.1, verbose=0, shuffle=False
    )
    skipped = sum(now < then for now, then in zip(steps, [2.0**30, *steps]))
    assert len(found.rates) == 10 and skipped >= 3
    assert len(steps) == (10 + skipped if harness.IS_KERAS_3 else 10)
    assert scale() == 2.0**30 and int(wrapper.inner_optimizer.iterations) == 0
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_generator_gives_each_batch_once():
    taken = []

    def batches():
        for number in range(100):
            taken.append(number)
            yield X[:8], Y[:8]

    model = compiled(tko.SGD(0.1), run_eagerly=True)
    found = tko.find_learning_rate(model, batches(), steps=10, highest=0.1, verbose=0)
    assert len(found.losses) == 10 <= len(taken) < 30  # some are read ahead


@pytest.mark.one_keras
def test_two_replicas(strategy):
    with strategy.scope():
        model = compiled(tko.SGD(0.01, momentum=0.9))
    model.fit(X, Y, batch_size=16, verbose=0, shuffle=False)
    before = everything(model)
    found = tko.find_learning_rate(model, X, Y, batch_size=16, steps=10, verbose=0)
    check_equal(everything(model), before)
    assert np.isfinite(found.losses).all()


def test_the_picture(tmp_path):
    found = tko.find_learning_rate(
        lambda rate: 1.0 / (1.0 + rate), variables=[tf.Variable(0.0)], verbose=0
    )
    figure = found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes()[:4] == b"\x89PNG"
    assert figure.axes[0].get_xscale() == "log"
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "loss" and labels[2].startswith("suggestion: ")


def test_mistakes_are_named():
    find, weight = tko.find_learning_rate, tf.Variable(0.0)
    layers = [keras.layers.Input((8,)), keras.layers.Dense(3)]
    model = compiled(tko.SGD(0.1), keras.Sequential(layers))
    for error, message, arguments in (
        (ValueError, "`highest` must be above `lowest`", {"lowest": 1.0, "highest": 0.5}),
        (ValueError, "`steps` must be an integer, at least 10", {"steps": 3}),
        (ValueError, "`divergence` must be .* above 1", {"divergence": 1.0}),
        (TypeError, "'batchsize'. Did you mean 'batch_size'", {"batchsize": 8}),
        (TypeError, "must hold variables", {"variables": [object()]}),
        (ValueError, "`monitor`.*'accuracy'.*'los'", {"monitor": "los"}),
    ):
        with pytest.raises(error, match=message):
            find(model, X, Y, verbose=0, **arguments)
    batches = ((X[:8], Y[:8]) for _ in range(5))
    with pytest.raises(ValueError, match="`data` ended after 5 of 200"):
        find(model, batches, verbose=0)
    with pytest.raises(ValueError, match="the first loss is nan"):
        find(model, X * np.nan, Y, verbose=0)
    with pytest.raises(ValueError, match="`data` is missing"):
        find(model, verbose=0)
    with pytest.raises(ValueError, match="is not compiled"):
        find(harness.small_model(), X, Y)
    foreign = harness.small_model()
    foreign.compile(keras.optimizers.SGD(), "mse")
    with pytest.raises(TypeError, match="an optimizer of tf_keras_optim"):
        find(foreign, X, Y)
    with pytest.raises(TypeError, match="a function of a learning rate"):
        find("model", variables=[weight])
    with pytest.raises(ValueError, match="`variables` is empty"):
        find(lambda rate: 1.0)
    with pytest.raises(ValueError, match="`data` belongs to a model"):
        find(lambda rate: 1.0, X, variables=[weight])
    with pytest.raises(TypeError, match="a number or a 0-d tensor"):
        find(lambda rate: [1.0, 2.0], variables=[weight], verbose=0)
    with pytest.raises(ValueError, match="is not built"):
        find(lambda rate: 1.0, variables=[tko.Adam()], verbose=0)

    def failing(rate):
        weight.assign_add(1.0)
        return 1.0 / (2.0 - float(weight.numpy()))

    with pytest.raises(ZeroDivisionError):
        find(failing, variables=[weight], verbose=0)
    assert weight.numpy() == 0.0


def test_the_test_ends_where_the_data_are_a_generator_and_the_model_is_not_built():
    model = compiled(tko.SGD(0.1), keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="can be read once"):
        tko.find_learning_rate(model, iter([(X, Y)]))
