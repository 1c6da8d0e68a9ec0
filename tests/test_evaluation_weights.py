"""Weights for evaluation: Schedule-Free's x and averages in the model, and the way back."""

import copy
import functools
import pickle

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime

keras = tf.keras
X = np.random.default_rng(0).normal(size=(32, 4)).astype("f")
Y = X.sum(1, keepdims=True)


def compiled(optimizer, seed=1, normalized=False):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)]
    if normalized:
        layers.insert(1, keras.layers.BatchNormalization())
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse")
    return model


PLAIN = {"jit_compile": False}  # compiled kernels cost most of the time of such a short `fit`
MADE = {
    "adamw": lambda: tko.ScheduleFreeAdamW(0.02, warmup_steps=5, weight_decay=0.1, **PLAIN),
    "average": lambda: tko.Adam(0.02, use_ema=True, ema_momentum=0.8, **PLAIN),
    "scaled": lambda: tko.LossScaleOptimizer(tko.ScheduleFreeAdamW(0.02)),
    "compiled": lambda: tko.ScheduleFreeAdamW(0.02, beta_2=0.99, rectify=True),
}


def fitted(model, epochs, *callbacks, **more):
    model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks],
        **more,
    )
    return model


def shown():
    return tko.callbacks.EvaluationWeights()


def inner(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def assert_same(model, expected):
    for v, w in zip(model.get_weights(), expected):
        np.testing.assert_array_equal(v, w)


# The numbers.


def both(gradients, start, **arguments):
    """The weights after all gradients, and those for evaluation, in float64."""
    step, defaults = oracles.ALGORITHMS["schedulefreeadamw"]
    slots, history, weight = {}, [], start
    for gradient in gradients:
        history = [*history, defaults | arguments]
        weight = step(weight, gradient, slots, history)
    return weight, slots["x"], slots["z"]


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("beta_1", [0.9, 0.5, 1.0])
def test_y_x_and_z_equal_those_of_float64(beta_1, regime):
    arguments = {
        "learning_rate": 0.05,
        "beta_1": beta_1,
        "warmup_steps": 10,
        "weight_decay": 0.1,
    }
    start = harness.starts([(5, 3)])[0]
    gradients = [batch[0] for batch in harness.gradient_sequence(60, [(5, 3)])]
    variable = tf.Variable(start, dtype=tf.float32)
    optimizer = tko.ScheduleFreeAdamW(**arguments)
    optimizer.build([variable])
    step = in_regime(lambda g: optimizer.apply_gradients([(g[0], variable)]), regime)
    for gradient in gradients:
        step([tf.constant(gradient, tf.float32)])
    y, x, z = both(gradients, start, **arguments)
    kept = optimizer.state_dict()["variables"]
    found = [variable.numpy(), next(iter(kept.values()))["z"]]
    with optimizer.evaluation_weights():
        found.append(variable.numpy())
    assert harness.distance_error(found, [y, z, x], [start] * 3) <= 2e-5
    np.testing.assert_array_equal(variable.numpy(), found[0])


@pytest.mark.one_keras
def test_a_perturbed_x_is_told():
    gradients = [batch[0] for batch in harness.gradient_sequence(10, [(5, 3)])]
    start = harness.starts([(5, 3)])[0]
    one, other = (both(gradients, start, beta_2=beta)[1] for beta in (0.9, 0.89))
    assert harness.distance_error([one], [other], [start]) > 1e-3


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "ScheduleFreeAdamW"), reason="this Keras has no such class"
)
def test_beta_1_of_keras_has_no_effect():
    def run(cls, beta):
        variable = keras.Variable([1.0, -2.0, 3.0]) if harness.IS_KERAS_3 else None
        optimizer = cls(0.1, beta_1=beta)
        optimizer.build([variable])
        for number in range(1, 31):
            gradient = tf.constant([0.3, -0.2, 0.5]) * (-0.9) ** number
            optimizer.apply_gradients([(gradient, variable)])
        return variable.numpy()

    theirs = [run(keras.optimizers.ScheduleFreeAdamW, beta) for beta in (0.5, 0.98)]
    np.testing.assert_allclose(*theirs, atol=1e-5)
    ours = [run(tko.ScheduleFreeAdamW, beta) for beta in (0.5, 0.98)]
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


def test_layers_with_rates_of_their_own_have_one_share_in_the_mean():
    """A factor on the rate of a variable scales its steps, and not its weights in the mean."""
    gradients = [batch[0] for batch in harness.gradient_sequence(12, [(5, 3)])]
    start = harness.starts([(5, 3)])[0]
    variables = [tf.Variable(start, dtype=tf.float32, name=name) for name in ("a", "b")]
    groups = {"b": {"learning_rate_multiplier": 0.5}}
    optimizer = tko.ScheduleFreeAdamW(0.05, warmup_steps=6, groups=groups)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), v) for v in variables])
    expected = [
        both(gradients, start, learning_rate=rate, warmup_steps=6)[0] for rate in (0.05, 0.025)
    ]
    found = [v.numpy() for v in variables]
    assert harness.distance_error(found, expected, [start] * 2) <= 2e-5


# In `fit`.


@pytest.mark.one_keras
@pytest.mark.parametrize("made", ["average", "compiled"])
def test_validation_sees_x_and_training_goes_on_as_without(made):
    model = compiled(MADE[made]())
    history = model.fit(X, Y, 8, 2, 0, [shown()], validation_data=(X, Y), shuffle=False).history
    assert inner(model).has_evaluation_weights
    by_hand = compiled(MADE[made]())
    with_x = keras.models.clone_model(by_hand)
    with_x.compile("sgd", "mse")
    losses = []
    for _ in range(2):
        for start in range(0, 32, 8):
            by_hand.train_on_batch(X[start : start + 8], Y[start : start + 8])
        with inner(by_hand).evaluation_weights():
            with_x.set_weights(by_hand.get_weights())
        losses.append(with_x.evaluate(X, Y, verbose=0))
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-6)
    assert_same(model, with_x.get_weights())
    inner(model).use_training_weights()
    assert_same(model, by_hand.get_weights())


@pytest.mark.one_keras
@pytest.mark.parametrize("made", ["adamw", "scaled"])
def test_fit_ends_with_x_and_the_next_one_trains_on(made):
    x, trained = expected_after(made, 2)
    parts = fitted(fitted(compiled(MADE[made]()), 1, shown()), 1, shown())
    assert_same(parts, x)
    assert np.abs(trained[0] - x[0]).max() > 1e-4


def test_without_the_callback_one_gradient_is_that_at_x():
    model = fitted(fitted(compiled(MADE["adamw"]()), 2), 1)
    by_hand = fitted(compiled(MADE["adamw"]()), 2)
    assert by_hand.optimizer.has_evaluation_weights
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((by_hand(X[:8], training=True) - Y[:8]) ** 2)
    gradients = tape.gradient(loss, by_hand.trainable_variables)
    by_hand.optimizer.use_training_weights()
    by_hand.optimizer.apply_gradients(zip(gradients, by_hand.trainable_variables))
    for start in range(8, 32, 8):
        by_hand.train_on_batch(X[start : start + 8], Y[start : start + 8])
    by_hand.optimizer.use_evaluation_weights()
    for v, w in zip(model.get_weights(), by_hand.get_weights()):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_and_early_stopping_have_x(tmp_path):
    path = str(tmp_path / "best.keras")
    best = keras.callbacks.ModelCheckpoint(path, save_best_only=True)
    early = keras.callbacks.EarlyStopping(restore_best_weights=True, patience=9)
    model = compiled(MADE["adamw"]())
    fitted(model, 3, shown(), best, early, validation_data=(X, Y))
    loaded = keras.models.load_model(path)
    assert loaded.optimizer.has_evaluation_weights
    assert loaded.optimizer.state_dict()["evaluating"] is True
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0), min(model.history.history["val_loss"]), rtol=1e-6
    )
    expected = loaded.get_weights()
    loaded.optimizer.use_training_weights()
    assert np.abs(loaded.get_weights()[0] - expected[0]).max() > 1e-4


def test_weights_that_were_set_meanwhile_stay():
    model = fitted(compiled(MADE["adamw"]()), 2, shown())
    wanted = [w + 1.0 for w in model.get_weights()]
    model.set_weights(wanted)
    model.optimizer.use_training_weights()
    assert_same(model, wanted)
    fitted(model, 1, shown())  # z starts again from them
    first = [v for k, v in model.optimizer.state_dict()["variables"].items() if "kernel" in k]
    assert np.abs(first[0]["z"] - wanted[0]).max() < 0.5


# Files.


def through_keras(model, directory, other):
    model.save(str(directory / "x.keras"))
    return keras.models.load_model(str(directory / "x.keras"))


def through_weights(model, directory, other):
    model.save_weights(str(directory / "x.weights.h5"))
    other.load_weights(str(directory / "x.weights.h5"))
    return other


def through_state(model, directory, other):
    tko.save_state(directory / "state", inner(model))
    other.set_weights(model.get_weights())
    inner(other).build(other.trainable_variables)
    tko.load_state(directory / "state", inner(other))
    return other


def through_checkpoint(model, directory, other):
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(directory / "c")
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(path)
    return other


WAYS = {
    "keras": through_keras,
    "weights": through_weights,
    "state": through_state,
    "checkpoint": through_checkpoint,
    "pickle": lambda model, directory, other: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, directory, other: copy.deepcopy(model),
}


@functools.cache
def after(made, epochs):
    """A model after some epochs, which no test trains on; it has the weights for evaluation."""
    return fitted(compiled(MADE[made]()), epochs, shown())


@functools.cache
def expected_after(made, epochs):
    """The weights for evaluation and the trained ones after epochs without a break."""
    model = after(made, epochs)
    weights = model.get_weights()
    inner(model).use_training_weights()
    trained = model.get_weights()
    inner(model).use_evaluation_weights()
    return weights, trained


SAVED = [
    *(("adamw", way) for way in WAYS),
    *(("scaled", way) for way in ("keras", "checkpoint")),
    ("average", "state"),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("made", "way"), SAVED)
def test_saved_with_x_and_trained_on_is_as_without_a_break(made, way, tmp_path):
    model, (weights, trained) = after(made, 1), expected_after(made, 2)
    loaded = WAYS[way](model, tmp_path, compiled(MADE[made](), seed=7))
    assert_same(loaded, model.get_weights())
    fitted(loaded, 1, shown())
    assert_same(loaded, weights)
    inner(loaded).use_training_weights()
    assert_same(loaded, trained)


def test_a_state_of_trained_weights_ends_the_evaluation(tmp_path):
    model = fitted(compiled(MADE["adamw"]()), 1)
    model.optimizer.use_training_weights()
    state, weights = model.optimizer.state_dict(), model.get_weights()
    assert "evaluating" not in state
    assert all("training_value" not in slots for slots in state["variables"].values())
    model.optimizer.use_evaluation_weights()
    model.optimizer.load_state_dict(state)
    model.set_weights(weights)
    assert not model.optimizer.has_evaluation_weights
    model.optimizer.use_training_weights()
    assert_same(model, weights)


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has no such directories")
def test_directories_of_keras_2(tmp_path):
    after("adamw", 1).save(str(tmp_path / "directory"))
    loaded = keras.models.load_model(str(tmp_path / "directory"))
    assert loaded.optimizer.has_evaluation_weights
    assert_same(fitted(loaded, 1, shown()), expected_after("adamw", 2)[0])


@pytest.mark.one_keras
@pytest.mark.parametrize("made", ["adamw", "average"])
def test_an_exported_model_infers_at_x_and_trains_y(made, tmp_path):
    model = fitted(compiled(MADE[made]()), 2, shown())
    model.optimizer.use_training_weights()
    weights = model.get_weights()
    tko.export_training(model, tmp_path / "exported")
    assert_same(model, weights)
    signatures = tf.saved_model.load(str(tmp_path / "exported")).signatures
    (name,) = signatures["infer"].structured_input_signature[1]

    def inferred():
        return next(iter(signatures["infer"](**{name: X[:8]}).values()))

    def shown_here():
        with model.optimizer.evaluation_weights():
            return np.asarray(model(X[:8]))

    trains, infers = str(tmp_path / "trains"), str(tmp_path / "infers")
    np.testing.assert_allclose(inferred(), shown_here(), rtol=1e-5, atol=1e-6)
    for _ in range(3):
        loss = float(signatures["train"](x=X[:8], y=Y[:8])["loss"])
        expected = float(np.ravel(model.train_on_batch(X[:8], Y[:8]))[0])
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        signatures["save"](path=tf.constant(trains))
        np.testing.assert_allclose(inferred(), shown_here(), rtol=1e-5, atol=1e-6)
        evaluated = float(signatures["evaluate"](x=X[:8], y=Y[:8])["loss"])
        np.testing.assert_allclose(evaluated, np.mean((shown_here() - Y[:8]) ** 2), rtol=1e-5)
    assert np.abs(shown_here() - np.asarray(model(X[:8]))).max() > 1e-4
    signatures["save"](path=tf.constant(infers))
    for path, shows in ((infers, True), (trains, False)):
        other = compiled(MADE[made]())
        other.optimizer.build(other.trainable_variables)
        tko.load_state(path, other.optimizer)
        assert other.optimizer.has_evaluation_weights is shows


# Everywhere else.


@pytest.mark.one_keras
@pytest.mark.parametrize("made", ["adamw", "average"])
def test_two_replicas_exchange_their_weights(made, strategies):
    def trained():
        model = compiled(MADE[made]())
        return fitted(model, 2, shown()), model

    one, _ = trained()
    with harness.scope_of(strategies.get(2), 2):
        two, _ = trained()
    for _ in range(2):
        for v, w in zip(one.get_weights(), two.get_weights()):
            np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)
        for variable in two.trainable_variables:
            native = getattr(variable, "value", variable)
            parts = [v.numpy() for v in getattr(native, "values", [])]
            for part in parts[1:]:
                np.testing.assert_array_equal(parts[0], part)
        inner(one).use_training_weights()
        inner(two).use_training_weights()


@pytest.mark.one_keras
@pytest.mark.parametrize("compiles", [False, True])
def test_a_step_puts_the_trained_weights_back(compiles):
    variables = [tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])]
    optimizers = [tko.ScheduleFreeAdamW(0.1) for _ in variables]
    for optimizer, variable in zip(optimizers, variables):
        optimizer.build([variable])

    def steps(number):
        return tf.function(
            lambda: optimizers[number].apply_gradients([(tf.ones([2]), variables[number])]),
            jit_compile=compiles,
        )

    first, second = steps(0), steps(1)
    for _ in range(4):
        first()
        second()
        optimizers[1].use_evaluation_weights()
    assert optimizers[1].has_evaluation_weights
    optimizers[1].use_training_weights()
    np.testing.assert_allclose(variables[0].numpy(), variables[1].numpy(), rtol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_narrow_weights_keep_their_digits(dtype):
    variable = tf.Variable(tf.constant([1.0, -1.0], dtype))
    optimizer = tko.ScheduleFreeAdamW(1e-3)
    for number in range(20):
        optimizer.apply_gradients([(tf.constant([1.0, 0.5], dtype) * (number + 1), variable)])
    before = optimizer.state_dict()["variables"]
    trained = variable.numpy()
    with optimizer.evaluation_weights():
        y, z = (next(iter(before.values()))[name] for name in ("master", "z"))
        expected = tf.cast(y + (1 - 1 / 0.9) * (z - y), dtype).numpy()
        np.testing.assert_array_equal(variable.numpy(), expected)
    np.testing.assert_array_equal(variable.numpy(), trained)
    after = optimizer.state_dict()["variables"]
    for slots, same in zip(before.values(), after.values()):
        for name in slots:
            np.testing.assert_array_equal(slots[name], same[name])


def test_averages_of_a_model_that_fit_builds_are_not_trained():
    def made():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
        model.compile(tko.Adam(0.02, use_ema=True, ema_momentum=0.8), "mse")
        return fitted(model, 1, shown())

    model, other = made(), made()
    assert model.optimizer.has_evaluation_weights
    other.optimizer.use_training_weights()
    trained = other.get_weights()
    # The gradient of the first is that at the averages; the step starts from what was trained.
    model.train_on_batch(X[:8], Y[:8])
    other.train_on_batch(X[:8], Y[:8])
    for v, w, before in zip(model.get_weights(), other.get_weights(), trained):
        assert np.abs(v - before).max() <= 2 * np.abs(w - before).max() + 1e-3
        assert np.abs(v - w).max() < 0.02
    averages = made().get_weights()
    assert max(np.abs(v - w).max() for v, w in zip(averages, trained)) > 0.03


@pytest.mark.one_keras
def test_before_the_first_update_nothing_is_exchanged():
    for optimizer in (tko.ScheduleFreeAdamW(0.1), tko.Adam(0.1, use_ema=True)):
        variable = tf.Variable([1.0, 2.0])
        optimizer.build([variable])
        variable.assign([3.0, 4.0])
        with optimizer.evaluation_weights():
            np.testing.assert_array_equal(variable.numpy(), [3.0, 4.0])


@pytest.mark.one_keras
def test_what_has_no_such_weights_says_so():
    with pytest.raises(ValueError, match="no weights for evaluation"):
        tko.Adam(0.1).use_evaluation_weights()
    with pytest.raises(ValueError, match="`use_ema`=True is not possible"):
        tko.ScheduleFreeSGD(0.1, use_ema=True)
    with pytest.raises(ValueError, match="`cautious`=True is not possible"):
        tko.ScheduleFreeAdamW(0.1, cautious=True)
    with pytest.raises(ValueError, match="beta_1"):
        tko.ScheduleFreeAdamW(0.1, beta_1=0.0)
    model = compiled(tko.SGD(0.1))
    with pytest.raises(ValueError, match="no weights for evaluation"):
        fitted(model, 1, shown())
    model = compiled("sgd")
    with pytest.raises(TypeError, match="EvaluationWeights"):
        fitted(model, 1, shown())


@pytest.mark.one_keras
def test_steps_of_functions_that_do_not_know_the_averages_are_told():
    variable = tf.Variable([1.0, 2.0])
    optimizer = tko.Adam(0.1, use_ema=True)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.ones([2]), variable)]))
    step()
    step()
    optimizer.use_evaluation_weights()
    step()
    with pytest.raises(RuntimeError, match="1 steps were taken"):
        optimizer.use_training_weights()


# Statistics of batch normalization.


def test_statistics_are_those_of_the_weights_in_place():
    model = fitted(compiled(MADE["adamw"](), normalized=True), 2, shown())
    layer = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    momentum = layer.momentum
    weights = [v.numpy() for v in model.trainable_variables]
    batches = [X[:16], (X[16:], Y[16:])]
    assert tko.update_batch_statistics(model, batches) == 2
    given = keras.Sequential([keras.Input((4,)), *model.layers[: model.layers.index(layer)]])
    outputs = [np.asarray(given(part)) for part in (X[:16], X[16:])]
    mean = np.mean([o.mean(0) for o in outputs], 0)
    np.testing.assert_allclose(np.asarray(layer.moving_mean), mean, rtol=1e-5, atol=1e-6)
    variance = np.mean([o.var(0) for o in outputs], 0)
    np.testing.assert_allclose(np.asarray(layer.moving_variance), variance, rtol=1e-4)
    assert layer.momentum == momentum
    for v, w in zip(model.trainable_variables, weights):
        np.testing.assert_array_equal(v.numpy(), w)
    before = np.asarray(layer.moving_mean)
    with pytest.raises(ValueError, match="is not built"):
        tko.update_batch_statistics(keras.Sequential([keras.layers.Dense(1)]), batches)
    with pytest.raises(ValueError, match="2 batches, but 3 are needed"):
        tko.update_batch_statistics(model, batches, steps=3)
    np.testing.assert_array_equal(np.asarray(layer.moving_mean), before)


def test_an_unbuilt_optimizer_knows_which_weights_were_loaded():
    source = tko.ScheduleFreeAdamW(0.1, jit_compile=False)
    (weight,) = (tf.Variable([1.0, 2.0], name="w"),)
    source.apply_gradients([(tf.constant([1.0, -1.0]), weight)])
    source.apply_gradients([(tf.constant([1.0, 1.0]), weight)])
    trained = weight.numpy()
    source.use_evaluation_weights()
    assert np.abs(trained - weight.numpy()).max() > 1e-3
    target, other = tko.ScheduleFreeAdamW(0.1, jit_compile=False), tf.Variable(weight, name="w")
    target.load_state_dict(source.state_dict())
    assert target.has_evaluation_weights
    target.use_evaluation_weights()  # they are in place
    with target.evaluation_weights():
        np.testing.assert_array_equal(other.numpy(), weight.numpy())
    with pytest.raises(ValueError, match=r"is not built.*Call `optimizer.build\("):
        target.use_training_weights()
    target.build([other])
    assert target.has_evaluation_weights
    target.use_training_weights()
    np.testing.assert_array_equal(other.numpy(), trained)


def test_which_weights_a_checkpoint_holds_is_not_known_before_the_slots(tmp_path):
    source, weight = tko.ScheduleFreeAdamW(0.1, jit_compile=False), tf.Variable([1.0, 2.0])
    source.apply_gradients([(tf.constant([1.0, -1.0]), weight)])
    source.use_evaluation_weights()
    path = tf.train.Checkpoint(optimizer=source, w=weight).write(tmp_path / "c")
    target, other = tko.ScheduleFreeAdamW(0.1, jit_compile=False), tf.Variable([0.0, 0.0])
    tf.train.Checkpoint(optimizer=target, w=other).read(path)
    for method in (target.use_training_weights, target.use_evaluation_weights):
        with pytest.raises(ValueError, match=r"from a checkpoint.*Call `optimizer.build\("):
            method()
    target.build([other])
    assert target.has_evaluation_weights
