"""Averages of the weights (equal ones, their start and period, warm-up) and Lookahead."""

import copy
import pickle

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tf_keras_optim import testing

keras = tf.keras
SHAPES = [(7,), (5, 3)]
X = np.random.default_rng(0).normal(size=(32, 4)).astype("f")
Y = X.sum(1, keepdims=True)


def oracle(name, gradients, starts, after=lambda w, s, number: w, **arguments):
    """The weights of each variable after each step, in float64; `after` changes them."""
    step, defaults = oracles.ALGORITHMS[name]
    found = []
    for i, w in enumerate(starts):
        slots, history, weights, own = {}, [], [], {"start": w}
        for number, batch in enumerate(gradients, 1):
            history.append(defaults | arguments)
            w = after(step(w, batch[i], slots, history), own, number)
            weights.append(w)
        found.append(weights)
    return found


# Averages.


def average(weights, *, momentum=None, start=0, period=1, warms_up=False):
    """The average of the weights after updates 1, 2, ..., of which some enter it."""
    found, held = weights[0], 0
    for number, w in enumerate(weights, 1):
        if number >= start and (number - start) % period == 0:
            kept = held / (held + 1) if momentum is None else momentum
            if warms_up:
                kept = min(kept, (1 + held) / (10 + held))
            found = w if held == 0 else kept * found + (1 - kept) * w
            held += 1
        elif held == 0:
            found = w
    return found


AVERAGES = {
    "equal": ({"averaging": "equal"}, {}),
    "late": ({"averaging": "equal", "averaging_start": 6}, {"start": 6}),
    "swa": (
        {"averaging": "equal", "averaging_start": 5, "averaging_period": 4},
        {"start": 5, "period": 4},
    ),
    "periodic": (
        {"averaging_period": 3, "ema_momentum": 0.6},
        {"period": 3, "momentum": 0.6},
    ),
    "warm": ({"ema_warmup": True}, {"momentum": 0.99, "warms_up": True}),
    "warmed": (
        {"ema_warmup": True, "ema_momentum": 0.3, "averaging_start": 2},
        {"momentum": 0.3, "warms_up": True, "start": 2},
    ),
    "not_yet": ({"averaging": "equal", "averaging_start": 99}, {"start": 99}),
}


REGIMES_OF = [
    *((kind, "function") for kind in AVERAGES),
    *((kind, regime) for kind in ("swa", "warmed") for regime in ("eager", "xla")),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("kind", "regime"), REGIMES_OF)
def test_averages_equal_those_of_float64(kind, regime):
    given, expected = AVERAGES[kind]
    gradients, starts = harness.gradient_sequence(20, SHAPES), harness.starts(SHAPES)
    optimizer = tko.Adam(0.05, use_ema=True, **given)
    values = harness.run(optimizer, gradients, starts, regime)
    weights = oracle("adam", gradients, starts, learning_rate=0.05)
    assert harness.distance_error(values, [w[-1] for w in weights], starts) <= 2e-5
    wanted = [average(w, **expected) for w in weights]
    assert harness.distance_error(state.averages(optimizer), wanted, starts) <= 2e-5
    if kind != "not_yet":
        others = [average(w, **(expected | {"start": 18})) for w in weights]
        assert harness.distance_error(state.averages(optimizer), others, starts) > 1e-3


@pytest.mark.one_keras
def test_the_share_of_the_last_weights_is_right_after_many_steps():
    """Near 1 a momentum in float32 would leave the share hardly a digit."""
    for dtype, bound in ((tf.float32, 2e-6), (tf.float64, 1e-14)):
        variable = tf.Variable(tf.zeros([2], dtype))
        optimizer = tko.SGD(1.0, use_ema=True, averaging="equal")
        optimizer.build([variable])
        optimizer.iterations.assign(3_000_000)
        optimizer.apply_gradients([(tf.constant([-3e6, 3e6], dtype), variable)])
        expected = np.array([3e6, -3e6]) / 3_000_001
        np.testing.assert_allclose(state.averages(optimizer)[0], expected, rtol=bound)


def compiled(optimizer, seed=1):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse")
    return model


def fitted(model, epochs, **more):
    callbacks = [tko.callbacks.EvaluationWeights()]
    options = {"epochs": epochs, "batch_size": 8, "shuffle": False, "verbose": 0}
    return model, model.fit(X, Y, callbacks=callbacks, **options, **more).history


PLAIN = {"jit_compile": False}  # compiled kernels cost most of the time of such a short `fit`
OF_EPOCHS = {"averaging": "equal", "averaging_start": 4, "averaging_period": 4}
MADE = {
    "swa": lambda: tko.Adam(0.02, use_ema=True, **OF_EPOCHS, **PLAIN),
    "lookahead": lambda: tko.SGD(0.05, momentum=0.9, lookahead_steps=3, **PLAIN),
    "both": lambda: tko.LossScaleOptimizer(
        tko.Adam(
            0.02,
            lookahead_steps=3,
            lookahead_share=0.8,
            use_ema=True,
            ema_warmup=True,
            **PLAIN,
        )
    ),
}


def inner(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def assert_same(model, expected):
    for v, w in zip(model.get_weights(), expected):
        np.testing.assert_array_equal(v, w)


def test_fit_evaluates_the_mean_of_the_epochs():
    """Stochastic weight averaging, from the end of the first epoch on."""
    model, history = fitted(compiled(MADE["swa"]()), 3, validation_data=(X, Y))
    by_hand, ends = compiled(tko.Adam(0.02)), []
    for _ in range(3):
        by_hand.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
        ends.append(by_hand.get_weights())
        mean = [np.mean(np.float64(parts), 0) for parts in zip(*ends)]
        with_mean = compiled("sgd")
        with_mean.set_weights(mean)
        loss = with_mean.evaluate(X, Y, verbose=0)
        np.testing.assert_allclose(history["val_loss"][len(ends) - 1], loss, rtol=2e-5)
    for v, w in zip(model.get_weights(), mean):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)
    model.optimizer.use_training_weights()
    for v, w in zip(model.get_weights(), ends[-1]):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)


WAYS = {
    "keras": lambda model, path: model.save(path) or keras.models.load_model(path),
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, path: copy.deepcopy(model),
}


def through_weights(model, path, other):
    model.save_weights(path.replace(".keras", ".weights.h5"))
    other.load_weights(path.replace(".keras", ".weights.h5"))
    return other


def through_checkpoint(model, path, other):
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(path)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(saved)
    return other


@pytest.fixture(scope="module")
def uninterrupted():
    """The weights for evaluation and the trained ones after three epochs."""
    model, _ = fitted(compiled(MADE["both"]()), 3)
    shown = model.get_weights()
    inner(model).use_training_weights()
    return shown, model.get_weights()


@pytest.fixture(scope="module")
def interrupted():
    return fitted(compiled(MADE["both"]()), 1)[0]


@pytest.mark.one_keras
@pytest.mark.parametrize("way", [*WAYS, "weights", "checkpoint"])
def test_saved_and_trained_on_is_as_without_a_break(way, interrupted, uninterrupted, tmp_path):
    path = str(tmp_path / "model.keras")
    if way in WAYS:
        loaded = WAYS[way](interrupted, path)
    else:
        through = through_weights if way == "weights" else through_checkpoint
        loaded = through(interrupted, path, compiled(MADE["both"](), seed=7))
    assert_same(loaded, interrupted.get_weights())
    fitted(loaded, 2)
    assert_same(loaded, uninterrupted[0])
    inner(loaded).use_training_weights()
    assert_same(loaded, uninterrupted[1])


# Lookahead.


def looked_ahead(steps, share):
    """What Lookahead does after a step, in float64."""

    def after(w, own, number):
        slow = own.setdefault("slow", own["start"])
        if number % steps == 0:
            w = own["slow"] = slow + share * (w - slow)
        return w

    return after


LOOKS = {
    "sgd": (tko.SGD, "sgd", {"learning_rate": 0.02, "momentum": 0.9}, (5, 0.5)),
    "adamw": (tko.AdamW, "adam", {"learning_rate": 0.02, "weight_decay": 0.3}, (3, 0.8)),
    "lion": (tko.Lion, "lion", {"learning_rate": 0.01}, (1, 0.25)),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("name", LOOKS)
def test_lookahead_equals_that_of_float64(name, regime):
    cls, of, arguments, (steps, share) = LOOKS[name]
    gradients, starts = harness.gradient_sequence(20, SHAPES), harness.starts(SHAPES)
    variables = [tf.Variable(s, dtype=tf.float32) for s in starts]
    optimizer = cls(**arguments, lookahead_steps=steps, lookahead_share=share)
    values = harness.run(optimizer, gradients, starts, regime, variables=variables)
    weights = oracle(of, gradients, starts, looked_ahead(steps, share), **arguments)
    assert harness.distance_error(values, [w[-1] for w in weights], starts) <= 2e-5
    slow = [w[20 // steps * steps - 1] for w in weights]
    with optimizer.evaluation_weights():
        assert harness.distance_error([v.numpy() for v in variables], slow, starts) <= 2e-5
    for v, w in zip(variables, values):
        np.testing.assert_array_equal(v.numpy(), w)
    others = oracle(of, gradients, starts, looked_ahead(steps, share - 0.05), **arguments)
    assert harness.distance_error(values, [w[-1] for w in others], starts) > 1e-3


@pytest.mark.one_keras
def test_lookahead_in_replicas_after_resuming_and_under_accumulation(strategy):
    testing.check_optimizer(
        tko.AdamW,
        {"learning_rate": 0.01, "weight_decay": 0.5, "lookahead_steps": 2, "use_ema": True},
        only=["replicas", "resume", "accumulation"],
        strategy=strategy,
    )


def test_fit_without_the_callback_goes_on_from_the_fast_weights():
    whole, parts = (compiled(MADE["lookahead"]()) for _ in range(2))
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole.fit(X, Y, epochs=2, **options)
    parts.fit(X, Y, epochs=1, **options)
    parts.fit(X, Y, epochs=1, **options)
    assert_same(parts, whole.get_weights())


def test_slow_weights_start_where_a_variable_is_updated_first():
    """Weights that are loaded after `build`, layers that are thawed, a model `fit` builds."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile(tko.SGD(0.1, lookahead_steps=3), "mse")
    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=2, **options)  # 4 updates
    model.layers[0].trainable = True
    model.compile(model.optimizer, "mse")
    before, plain = model.get_weights(), compiled_like(model)
    slots = model.optimizer.state_dict()["variables"].values()
    model.fit(X, Y, epochs=1, **options)  # to update 6, which is due
    plain.fit(X, Y, epochs=1, **options)
    (kernel,) = (s["slow_weights"] for s in slots if s["slow_weights"].shape == (3, 1))
    starts = [before[0], before[1], kernel, before[3]]
    for number in (0, 2):  # both kernels
        expected = starts[number] + 0.5 * (plain.get_weights()[number] - starts[number])
        np.testing.assert_allclose(model.get_weights()[number], expected, rtol=1e-5, atol=1e-6)


def compiled_like(model):
    other = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
    other.build((None, 4))
    other.set_weights(model.get_weights())
    other.compile(tko.SGD(0.1), "mse")
    return other


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float64])
def test_slow_weights_keep_all_digits(dtype):
    variable = tf.Variable(tf.constant([[1.0, -1.0]], dtype))
    optimizer = tko.Adam(1e-3, lookahead_steps=2, slot_dtype="bfloat16")
    for number in range(8):
        optimizer.apply_gradients([(tf.constant([[1.0, 0.5]], dtype) * (number + 1), variable)])
    (kept,) = optimizer.state_dict()["variables"].values()
    wide = "float64" if dtype == tf.float64 else "float32"
    assert kept["slow_weights"].dtype.name == wide
    assert kept["velocity"].dtype.name == "bfloat16"
    whole = kept.get("master", variable.numpy())
    np.testing.assert_array_equal(kept["slow_weights"], whole)  # they met just now


@pytest.mark.one_keras
def test_lookahead_can_be_left_out_and_taken_again():
    variable = tf.Variable([1.0, 2.0])
    optimizer = tko.SGD(1.0, lookahead_steps=2)
    gradient = tf.constant([1.0, -1.0])

    def step():
        optimizer.apply_gradients([(gradient, variable)])
        return variable.numpy().tolist()

    assert [step(), step()] == [[0.0, 3.0], [0.0, 3.0]]
    optimizer.lookahead_steps = None
    assert "slow_weights" not in str(optimizer.state_dict()["variables"])
    assert [step(), step()] == [[-1.0, 4.0], [-2.0, 5.0]]
    optimizer.lookahead_steps = 3
    assert [step(), step()] == [[-3.0, 6.0], [-2.0, 5.0]]  # the sixth: half way to 0, 3


@pytest.mark.one_keras
def test_a_sparse_gradient_moves_the_table_as_the_dense_one():
    start = np.arange(6.0).reshape(3, 2).astype("f")
    tables = [tf.Variable(start) for _ in range(2)]
    for table, is_sparse in zip(tables, (True, False)):
        optimizer = tko.SGD(0.5, momentum=0.9, lookahead_steps=2)
        for row in (0, 2, 0):
            gradient = tf.IndexedSlices(tf.ones([1, 2]), [row], [3, 2])
            if not is_sparse:
                gradient = tf.convert_to_tensor(gradient)
            optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_allclose(tables[0].numpy(), tables[1].numpy(), rtol=1e-6)


class Own(tko.Optimizer):
    slots = ("slow_weights",)

    def update(self, gradient, value, slots, scalars):
        return value - scalars.learning_rate * gradient, slots


class Steps(tko.Optimizer):
    def update_step(self, gradient, variable, learning_rate):
        variable.assign_sub(learning_rate * gradient)


def test_what_does_not_go_together_is_refused_by_name():
    refused = {
        "`averaging`='equal' needs `use_ema=True`": {"averaging": "equal"},
        "`averaging_start`=3 needs `use_ema=True`": {"averaging_start": 3},
        "`averaging_period`=3 needs `use_ema=True`": {"averaging_period": 3},
        "`ema_warmup`=True needs `use_ema=True`": {"ema_warmup": True},
        "`ema_warmup`=True needs `averaging='ema'`": {
            "use_ema": True, "averaging": "equal", "ema_warmup": True,
        },
        "`ema_momentum`=0.5 needs `averaging='ema'`": {
            "use_ema": True, "averaging": "equal", "ema_momentum": 0.5,
        },
        "`lookahead_share`=0.3 needs `lookahead_steps=5`": {"lookahead_share": 0.3},
        "`lookahead_steps` moves all rows": {"lookahead_steps": 5, "sparse": "lazy"},
        "`lookahead_share`": {"lookahead_steps": 5, "lookahead_share": 0.0},
        "`averaging_period`": {"use_ema": True, "averaging_period": 0},
        "`averaging`": {"use_ema": True, "averaging": "mean"},
    }  # fmt: skip
    for text, arguments in refused.items():
        with pytest.raises(ValueError, match=text):
            tko.Adam(0.1, **arguments)
    with pytest.raises(ValueError, match="`lookahead_steps`=5 is not possible"):
        tko.ScheduleFreeSGD(0.1, lookahead_steps=5)
    with pytest.raises(ValueError, match="`lookahead_steps`=5 needs an algorithm"):
        Steps(0.1, lookahead_steps=5)
    with pytest.raises(ValueError, match="keeps a slot 'slow_weights'"):
        Own(0.1, lookahead_steps=5).build([tf.Variable([1.0])])
    variable = tf.Variable([1.0])
    Own(0.5).apply_gradients([(tf.ones([1]), variable)])  # without it the name is the user's
    np.testing.assert_array_equal(variable.numpy(), [0.5])
    for arguments in ({"lookahead_steps": 5}, {"use_ema": True, "averaging": "equal"}):
        (name,) = arguments.keys() - {"use_ema"}
        with pytest.raises(ValueError, match=name):
            tko.to_keras(tko.Adam(0.1, **arguments))
    optimizer = tko.Adam(0.1, use_ema=True)
    with pytest.raises(ValueError, match="averaging_period"):
        optimizer.averaging_period = 0
    assert optimizer.averaging_period == 1


@pytest.mark.one_keras
def test_explain_shows_slow_weights_and_that_no_operation_alone_does_the_step():
    optimizer = tko.SGD(0.1, lookahead_steps=5)
    optimizer.build([tf.Variable(tf.ones([3, 4]), name="kernel")])
    (report,) = state.reports(optimizer)
    assert report.state["slow_weights"] == "float32"
    assert report.kernel != "fused"
    assert report.state_bytes == 3 * 4 * 4 + 8
