"""`tf.train.Checkpoint`: slots come back to the variables they were kept for."""

import json
import pathlib

import harness
import numpy as np
import pytest
import tensorflow as tf
from test_matching import SHAPES, momenta, renamed, trained, variables

import tf_keras_optim as tko

keras = tf.keras
FIXTURES = pathlib.Path(__file__).parent / "fixtures"


class Own(tko.Optimizer):
    """Written the Keras 3 way, with a slot, a slot asked for twice, and a number."""

    def build(self, variables):
        super().build(variables)
        self.kept = self.add_optimizer_variables(variables, "kept")
        self.other = self.add_optimizer_variables(variables, "kept")
        self.total = self.add_variable(name="total")

    def update_step(self, gradient, variable, learning_rate):
        place = self._get_variable_index(variable)
        self.assign(self.kept[place], gradient)
        self.assign(self.other[place], -gradient)
        self.assign_add(self.total, 1.0)


MADE = {
    "averages": lambda: tko.Adam(0.1, use_ema=True, amsgrad=True, jit_compile=False),
    "accumulators": lambda: tko.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2, jit_compile=False
    ),
    "step slots": lambda: tko.Nadam(0.1, jit_compile=False),
    "codes": lambda: tko.Adam(0.1, slot_dtype="int8", jit_compile=False),
    "schedule": lambda: tko.Adam(tko.schedules.CosineDecay(0.1, 10), jit_compile=False),
    "scaled": lambda: tko.LossScaleOptimizer(tko.Adam(0.1, jit_compile=False)),
    "own": lambda: Own(0.1),
}
BIG = [(64, 80), (64, 80), (3,)]


def saved(optimizer, chosen, path):
    return tf.train.Checkpoint(optimizer=optimizer, v=chosen).write(str(path / "c"))


def assert_same_state(one, other):
    assert len(one.variables) == len(other.variables)
    for mine, theirs in zip(one.variables, other.variables):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("when", "made"),
    [("built", made) for made in MADE]
    + [("not built", made) for made in ("averages", "codes", "own", "step slots")]
    + [("attached later", made) for made in ("accumulators", "scaled", "own")],
)
def test_other_names_change_nothing(made, when, tmp_path):
    source, target = MADE[made](), MADE[made]()
    first = variables("dense/kernel", "dense_1/kernel", "dense_1/bias", shapes=BIG)
    second = variables("dense_2/kernel", "dense_3/kernel", "dense_3/bias", shapes=BIG, seed=1)
    for _ in range(3):
        trained(source, first)
    path = saved(source, first, tmp_path)
    if when == "built":
        trained(target, second)
    checkpoint = tf.train.Checkpoint(v=second)
    if when != "attached later":
        checkpoint.optimizer = target
    status = checkpoint.read(path)
    if when == "attached later":
        checkpoint.optimizer = target
    if when != "built":
        target.build(second)
    status.assert_consumed()
    status.assert_existing_objects_matched()
    assert_same_state(source, target)
    for optimizer, chosen in ((source, first), (target, second)):
        trained(optimizer, chosen)
    assert_same_state(source, target)
    for v, w in zip(first, second):
        np.testing.assert_array_equal(v.numpy(), w.numpy())


def test_narrow_weights_keep_their_digits(tmp_path):
    def narrow(name):
        return [tf.Variable(tf.ones([3], tf.bfloat16), name=f"{name}/w")]

    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    first, second = narrow("dense"), narrow("dense_1")
    trained(source, first)
    target.build(second)
    tf.train.Checkpoint(optimizer=target, v=second).read(
        saved(source, first, tmp_path)
    ).assert_consumed()
    assert source.state_dict()["variables"]["dense/w"]["master"].any()
    assert_same_state(source, target)


NAMES = ("dense_1", "dense_2", "dense_3")


@pytest.mark.one_keras
@pytest.mark.parametrize("names", [("dense", "dense_1", "dense_2"), ("a", "b", "c"), NAMES])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("built", [False, True])
def test_equal_layers_under_other_numbers(names, alone, built, tmp_path):
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    first = trained_layers(source, NAMES)
    second = variables(*renamed(*names), shapes=SHAPES, seed=1)
    path = saved(source, [] if alone else first, tmp_path)
    if built:
        target.build(second)
    status = tf.train.Checkpoint(optimizer=target, v=[] if alone else second).read(path)
    target.build(second)
    status.assert_consumed()
    assert momenta(target) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def trained_layers(optimizer, names, shapes=None):
    chosen = variables(*renamed(*names), shapes=shapes or SHAPES[: 2 * len(names)])
    trained(optimizer, chosen)
    return chosen


@pytest.mark.one_keras
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("way", ["same names", "renumbered", "one shape", "alone"])
def test_more_layers_than_were_saved(built, way, tmp_path):
    """The head was trained, and the layers below it were unfrozen since."""
    shapes = SHAPES[:4] if way != "one shape" else [(2, 3), (3,), (2, 2), (2,)]
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    first = variables(*renamed("dense", "dense_1"), shapes=shapes)
    trained(source, first[2:])
    names = ("dense", "dense_1") if way == "same names" else ("dense_4", "dense_5")
    second = variables(*renamed(*names), shapes=shapes, seed=1)
    alone = way == "alone"
    path = saved(source, [] if alone else first, tmp_path)
    if built:
        target.build(second)
    checkpoint = tf.train.Checkpoint(optimizer=target, v=[] if alone else second)
    if alone:  # two layers could be meant, and no weight tells which
        with pytest.raises(ValueError, match=r"here: dense_4/kernel[^#]*same checkpoint"):
            checkpoint.read(path)
            target.build(second)
        assert momenta(target) == [0.0] * 4
        return
    status = checkpoint.read(path)
    target.build(second)
    assert momenta(target) == [0.0, 0.0, 0.1, 0.2]
    with pytest.raises(AssertionError, match="8 Python objects"):
        status.assert_existing_objects_matched()


def test_fewer_layers_than_were_saved(tmp_path):
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    first = trained_layers(source, ("dense", "dense_1"))
    second = variables(*renamed("dense_4", "dense_5"), shapes=SHAPES[:4], seed=1)
    target.build(second[2:])
    status = tf.train.Checkpoint(optimizer=target, v=second).read(
        saved(source, first, tmp_path)
    )
    status.expect_partial().assert_existing_objects_matched()
    assert momenta(target) == [0.3, 0.4]
    with pytest.raises(AssertionError):
        status.assert_consumed()
    # The rest was kept, and comes when it is asked for.
    target.build(second)
    assert momenta(target) == [0.1, 0.2, 0.3, 0.4]
    status.assert_consumed()


def test_an_option_more_or_less(tmp_path):
    plain = lambda **options: tko.Adam(0.1, jit_compile=False, **options)  # noqa: E731
    source = plain(amsgrad=True)
    first = trained_layers(source, ("dense",))
    path = saved(source, first, tmp_path)
    second = variables(*renamed("dense_1"), shapes=SHAPES[:2], seed=1)
    fewer, more = plain(), plain(amsgrad=True, use_ema=True)
    for target in (fewer, more):
        target.build(second)
        status = tf.train.Checkpoint(optimizer=target, v=second).read(path).expect_partial()
        assert momenta(target) == [0.1, 0.2]
        with pytest.raises(AssertionError):
            status.assert_consumed()
    # An average that was not saved starts from the weights.
    averages = [s["average"] for s in more.state_dict()["variables"].values()]
    for average, v in zip(averages, first):
        np.testing.assert_array_equal(average, v.numpy())


@pytest.mark.one_keras
def test_what_does_not_fit_raises_before_anything_changed(tmp_path):
    source = tko.Adam(0.1, jit_compile=False)
    first = trained_layers(source, ("dense", "dense_1"))
    path = saved(source, first, tmp_path)
    wide = [(2, 2), (2,), (2, 5), (5,)]
    for options, names, shapes, message in (
        ({}, ("dense", "dense_1"), wide, r"here:? .*\(2, 5\)"),
        ({}, ("dense_1", "other"), SHAPES[:4], "its slots cannot be told"),
        ({"slot_dtype": "bfloat16"}, ("dense", "dense_1"), SHAPES[:4],
         r"dense/kernel momentum: here \(2, 2\) bfloat16, saved \(2, 2\) float32"),
    ):  # fmt: skip
        target = tko.Adam(0.5, jit_compile=False, **options)
        chosen = variables(*renamed(*names), shapes=shapes, seed=1)
        trained(target, chosen)
        before, weights = target.state_dict(), [v.numpy() for v in chosen]
        with pytest.raises(ValueError, match=f"(?s)checkpoint '{path}'.*{message}"):
            # With the weights in it, the checkpoint could tell them whatever they are called.
            others = {} if "other" in names else {"v": chosen}
            tf.train.Checkpoint(optimizer=target, **others).read(path)
        for name, slots in target.state_dict()["variables"].items():
            np.testing.assert_array_equal(
                slots["momentum"], before["variables"][name]["momentum"]
            )
        for v, value in zip(chosen, weights):
            np.testing.assert_array_equal(v.numpy(), value)
        # Found out when the optimizer is built, if that is later.
        late = tko.Adam(0.5, jit_compile=False, **options)
        tf.train.Checkpoint(optimizer=late).read(path).expect_partial()
        with pytest.raises(ValueError, match=f"(?s)checkpoint '{path}'.*{message}"):
            late.build(chosen)


def test_weights_of_another_layer_are_a_mix_up(tmp_path):
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    first = trained_layers(source, ("dense", "dense_1"))
    second = variables(*renamed("dense_2", "dense_3"), shapes=SHAPES[:4], seed=1)
    target.build(second)
    path = saved(source, first, tmp_path)
    for i, j in ((0, 2), (1, 3), (2, 0), (3, 1)):
        second[i].assign(first[j])
    tf.train.Checkpoint(optimizer=target).read(path)
    assert momenta(target) == [0.3, 0.4, 0.1, 0.2]  # as the weights say
    second[0].assign(tf.zeros([2, 2]))
    with pytest.raises(ValueError, match="dense/kernel: the saved weight is that of dense_3"):
        tf.train.Checkpoint(optimizer=target).read(path)


def test_a_checkpoint_written_by_path(tmp_path):
    """By the version before: the edges to slots had the names of the variables."""
    content = json.loads((FIXTURES / "by_path.json").read_text())
    for built in (False, True):
        target = tko.Nadam(0.5, use_ema=True, jit_compile=False)
        chosen = [tf.Variable([0.0, 0.0], name=name) for name in content["variables"]]
        if built:
            target.build(chosen)
        checkpoint = tf.train.Checkpoint(optimizer=target, variables=chosen)
        status = checkpoint.read(str(FIXTURES / "by_path"))
        target.build(chosen)
        status.assert_consumed()
        found = target.state_dict()
        for name, value in content["state"].items():
            path, _, slot = name.rpartition("/")
            kept = found["variables"][path] if path else found["scalars"]
            key = slot.lstrip("_")
            np.testing.assert_array_equal(kept[key], np.asarray(value, kept[key].dtype))
        # Written again, it has the edges of today.
        again = tko.Nadam(0.5, use_ema=True, jit_compile=False)
        other = variables("a/kernel", "a/bias", "b", shapes=[(2,)] * 3)
        again.build(other)
        tf.train.Checkpoint(optimizer=again, v=other).read(saved(target, chosen, tmp_path))
        assert_same_state(target, again)


def test_written_before_the_first_step_it_is_that_of_a_fresh_one(tmp_path):
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    chosen = variables(*renamed("dense"), shapes=SHAPES[:2])
    path = saved(source, chosen, tmp_path)
    trained(target, chosen)
    tf.train.Checkpoint(optimizer=target, v=chosen).read(path)
    assert momenta(target) == [0.0, 0.0] and int(target.iterations) == 0


def test_slots_that_wait_are_not_forgotten_in_silence(tmp_path):
    source, target = tko.Adam(0.1, jit_compile=False), tko.Adam(0.1, jit_compile=False)
    chosen = trained_layers(source, ("dense",))
    tf.train.Checkpoint(optimizer=target).read(saved(source, [], tmp_path))
    with pytest.raises(ValueError, match="has no slots yet"):
        target.state_dict()
    with pytest.warns(UserWarning, match="lacks them"):
        tf.train.Checkpoint(optimizer=target).write(str(tmp_path / "d"))
    target.load_state_dict(tko.Adam(0.1).state_dict())  # what is loaded later counts
    target.build(chosen)
    assert momenta(target) == [0.0, 0.0]


# Models.

FEATURES = np.random.default_rng(0).normal(size=(8, 4)).astype("f")
TARGETS = FEATURES.sum(1, keepdims=True)


def functional():
    given = keras.Input((4,))
    hidden = keras.layers.Dense(4)(keras.layers.Dense(4)(given))
    return keras.Model(given, keras.layers.Dense(1)(hidden))


def subclassed():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = keras.layers.Dense(4), keras.layers.Dense(4)
            self.last = keras.layers.Dense(1)

        def call(self, x):
            return self.last(self.two(self.one(x)))

    return Net()


def sequential():
    return keras.Sequential(
        [keras.layers.Dense(4), keras.layers.Dense(4), keras.layers.Dense(1)]
    )


def step(model, optimizer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(FEATURES) - TARGETS) ** 2)
    chosen = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, chosen), chosen))


def assert_same_next_step(one, other):
    for model, optimizer in (one, other):
        step(model, optimizer)
    for v, w in zip(one[0].get_weights(), other[0].get_weights()):
        np.testing.assert_array_equal(v, w)
    assert_same_state(one[1], other[1])


@pytest.mark.parametrize(
    ("make", "way"),
    [(make, "together") for make in (functional, subclassed, sequential)]
    + [(subclassed, "model first"), (sequential, "optimizer first"), (functional, "manager")],
)
def test_a_second_model_of_the_process(make, way, tmp_path):
    model, optimizer = make(), tko.Adam(0.1, use_ema=True, jit_compile=False)
    for _ in range(2):
        step(model, optimizer)
    parts = {"model": model, "optimizer": optimizer}
    if way == "manager":
        manager = tf.train.CheckpointManager(tf.train.Checkpoint(**parts), str(tmp_path), 1)
        manager.save()
    path = tf.train.Checkpoint(**parts).write(str(tmp_path / "c"))
    model_2, optimizer_2 = make(), tko.Adam(0.5, use_ema=True, jit_compile=False)
    if harness.IS_KERAS_3:
        model_2(FEATURES)  # Keras 3 does not restore weights that are made later
    parts = {"model": model_2, "optimizer": optimizer_2}
    if way == "manager":
        checkpoint = tf.train.Checkpoint(**parts)
        tf.train.CheckpointManager(checkpoint, str(tmp_path), 1).restore_or_initialize()
    elif way == "together":
        tf.train.Checkpoint(**parts).read(path)
    else:
        order = sorted(parts, reverse=way == "optimizer first")
        for name in order:
            tf.train.Checkpoint(**{name: parts[name]}).read(path).expect_partial()
    assert_same_next_step((model, optimizer), (model_2, optimizer_2))


@pytest.mark.parametrize("replicas", [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("built", [False, True])
def test_other_numbers_of_replicas(strategies, replicas, built, tmp_path):
    single, made = tko.Adam(0.1, use_ema=True, jit_compile=False), []
    trained(single, variables(*renamed("dense", "dense_1"), shapes=SHAPES[:4]))
    for count in replicas:
        with harness.scope_of(strategies.get(count), count):
            chosen = variables(*renamed("dense", "dense_1"), shapes=SHAPES[:4], seed=len(made))
            made.append((tko.Adam(0.1, use_ema=True, jit_compile=False), chosen))
    (source, first), (target, second) = made
    with harness.scope_of(strategies.get(replicas[0]), replicas[0]):
        source.build(first)
        source.load_state_dict(single.state_dict())
        path = saved(source, first, tmp_path)
    with harness.scope_of(strategies.get(replicas[1]), replicas[1]):
        if built:
            target.build(second)
        status = tf.train.Checkpoint(optimizer=target, v=second).read(path)
        target.build(second)
    status.assert_consumed()
    assert momenta(target) == [0.1, 0.2, 0.3, 0.4]
    for v, w in zip(source.get_weights(), target.get_weights()):
        np.testing.assert_array_equal(v, w)


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has other files")
@pytest.mark.parametrize("scaled", [False, True])
def test_weights_and_directories_of_keras_2(scaled, tmp_path):
    def make():
        inner = tko.Adam(0.1, jit_compile=False)
        model = functional()
        model.compile(tko.LossScaleOptimizer(inner) if scaled else inner, "mse")
        return model

    model = make()
    step(model, model.optimizer)
    model.save_weights(str(tmp_path / "weights"), save_format="tf")
    model.save(str(tmp_path / "directory"))
    other = make()
    status = other.load_weights(str(tmp_path / "weights"))
    other.optimizer.build(other.trainable_variables)
    status.assert_consumed()
    third = keras.models.load_model(str(tmp_path / "directory"))
    for loaded in (other, third):
        assert_same_state(model.optimizer, loaded.optimizer)
    # Copies of the variables, written while training goes on.
    options = tf.train.CheckpointOptions(enable_async=True)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    for _ in range(2):
        path = checkpoint.save(str(tmp_path / "copies"), options=options)
    checkpoint.sync()
    other = make()
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).expect_partial()
    assert_same_next_step((model, model.optimizer), (other, other.optimizer))


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has other files")
@pytest.mark.parametrize(
    ("scaled", "frozen"), [(False, (1,)), (True, ())], ids=["thawed and frozen", "thawed"]
)
def test_layers_thawed_before_a_directory_of_keras_2_is_saved(scaled, frozen, tmp_path):
    model = with_a_frozen_layer()
    inner = tko.Adam(0.1, use_ema=True, jit_compile=False)
    model.compile(tko.LossScaleOptimizer(inner) if scaled else inner, "mse")
    step(model, model.optimizer)
    model.layers[0].trainable = True
    for place in frozen:
        model.layers[place].trainable = False
    model.compile(model.optimizer, "mse")
    model.save(str(tmp_path / "directory"))
    loaded = keras.models.load_model(str(tmp_path / "directory"))
    own = getattr(loaded.optimizer, "inner_optimizer", loaded.optimizer)
    state, before = own.state_dict()["variables"], inner.state_dict()["variables"]
    for layer in model.layers[1 + len(frozen) :]:
        path = layer.kernel.name.split(":")[0]
        for slot in ("momentum", "velocity", "average"):
            np.testing.assert_array_equal(state[path][slot], before[path][slot])
    step(model, model.optimizer)
    step(loaded, loaded.optimizer)
    for v, w in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(v, w)


def with_a_frozen_layer():
    layers = [keras.layers.Dense(units) for units in (4, 3, 1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    layers[0].trainable = False
    return model


@keras.utils.register_keras_serializable(package="tests")
class Forgetful(tko.Adam):
    """Says in its configuration that it keeps a slot that it has not."""

    def get_config(self):
        return super().get_config() | {"amsgrad": True}


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has other files")
@pytest.mark.parametrize("thawed", [False, True])
def test_a_directory_of_keras_2_that_lacks_a_slot_is_refused(thawed, tmp_path):
    model = with_a_frozen_layer()
    model.compile(Forgetful(0.1, jit_compile=False), "mse")
    step(model, model.optimizer)
    model.layers[0].trainable = thawed
    model.compile(model.optimizer, "mse")
    model.save(str(tmp_path / "directory"))
    with pytest.raises(AssertionError, match=r"kernel.velocity_hat"):
        keras.models.load_model(str(tmp_path / "directory"))


@pytest.mark.skipif(harness.IS_KERAS_3, reason="Keras 3 has other files")
def test_backup_and_restore_of_keras_2(tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(epochs, *callbacks):
        keras.utils.set_random_seed(3)
        model = functional()
        model.compile(tko.SGD(0.01, momentum=0.9), "mse")
        model.fit(
            FEATURES, TARGETS, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks]
        )
        return model

    backup = lambda: keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))  # noqa: E731
    expected = run(4)
    with pytest.raises(KeyboardInterrupt):
        run(4, backup(), Killed())
    resumed = run(4, backup())
    for v, w in zip(expected.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(v, w, rtol=1e-6, atol=1e-7)
