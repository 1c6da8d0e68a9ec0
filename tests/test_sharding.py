"""State divided among replicas: the same numbers as undivided, in a part of the memory."""

import functools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tests.support.steps import traced_or_not

SHAPES = [*[(64, 64)] * 4, (64,)]
STEPS, OVERFLOW = 20, 7
PLAIN = {"jit_compile": False}
CASES = {
    "adam": (tko.Adam, PLAIN),
    "adamw": (
        tko.AdamW,
        {"weight_decay": 0.1, "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9}
        | PLAIN,
    ),
    "muon": (tko.Muon, {"weight_decay": 0.1} | PLAIN),
    "int8": (tko.Adam, {"slot_dtype": "int8"}),  # which XLA compiles faster
}
# Kernels of 8 bits take longest to compile: with four replicas only.
RUNS = [(case, n) for case in CASES for n in (2, 4) if (case, n) != ("int8", 2)]


def gradients(steps, replicas, shapes, overflow=None):
    """By step and variable, one gradient for each replica; one is not finite in one step."""
    generator = np.random.default_rng(3)
    found = []
    for number in range(steps):
        whole = [generator.normal(size=(4, *shape)) for shape in shapes]
        parts = [w.reshape(replicas, -1, *w.shape[1:]).sum(axis=1) for w in whole]
        if number == overflow:
            parts[2][replicas - 1].flat[0] = np.inf
        found.append([part.astype("f") for part in parts])
    return found


class Trial:
    """Variables and an optimizer in a strategy, and steps with one gradient a replica."""

    def __init__(self, strategy, make, shapes=SHAPES, traced=True, dtype=tf.float32):
        self.strategy = strategy
        generator = np.random.default_rng(4)
        with strategy.scope():
            self.variables = [
                tf.Variable(generator.normal(size=shape), dtype=dtype, name=f"w{n}")
                for n, shape in enumerate(shapes)
            ]
            self.optimizer = make()
            self.optimizer.build(self.variables)
        self.step = traced_or_not(self.take_step, traced)

    def take_step(self, given):
        def replica(given):
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            parts = [None if g is None else tf.gather(g, own) for g in given]
            if hasattr(self.optimizer, "inner_optimizer") and not harness.IS_KERAS_3:
                parts = self.optimizer.get_unscaled_gradients(parts)
            self.optimizer.apply_gradients(list(zip(parts, self.variables)))

        self.strategy.run(replica, args=(given,))

    def train(self, batches):
        for batch in batches:
            dtype = self.variables[0].dtype
            self.step([None if g is None else tf.constant(g, dtype) for g in batch])
        return self

    def values(self):
        """The weights, which all replicas have alike."""
        found = []
        for variable in self.variables:
            first, *others = (v.numpy() for v in variable.values)
            for other in others:
                assert first.tobytes() == other.tobytes()
            found.append(first)
        return found


def bytes_by_device(optimizer):
    """What is kept for variables, in bytes, on each device."""
    found = {}
    for variable in kept(optimizer):
        for part in getattr(variable, "values", [variable]):
            size = part.shape.num_elements() * part.dtype.size
            found[part.device] = found.get(part.device, 0) + size
    return found


def kept(optimizer):
    """What is kept for variables: the state without numbers."""
    listed = state.inner(optimizer).variables
    return [v for v in map(state.native, listed) if v.shape.rank > 0]


def assert_same(one, other):
    """Weights and all that is kept are equal bit for bit."""
    for mine, theirs in zip(one.values(), other.values(), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    mine, theirs = state.by_name(one.optimizer), state.by_name(other.optimizer)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert np.asarray(mine[name]).tobytes() == np.asarray(theirs[name]).tobytes(), name


def both(strategy, make, batches, **settings):
    """The same training undivided and divided; the second one is returned."""
    plain, divided = (
        Trial(strategy, functools.partial(make, shard_slots=shard), **settings).train(batches)
        for shard in (False, True)
    )
    assert_same(plain, divided)
    return plain, divided


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "replicas"), RUNS)
def test_equal_bit_for_bit_in_a_part_of_the_memory(strategies, case, replicas):
    cls, arguments = CASES[case]

    def make(shard_slots):
        optimizer = cls(0.01, shard_slots=shard_slots, **arguments)
        return tko.LossScaleOptimizer(optimizer, initial_scale=8.0)

    shapes = list(SHAPES)
    if case == "muon":
        shapes[3] = (64, 32)  # by AdamW, with two slots
    elif case == "int8":
        shapes.pop()  # one kind of kernel to compile
    batches = gradients(STEPS, replicas, shapes, overflow=OVERFLOW)
    plain, divided = both(strategies[replicas], make, batches, shapes=shapes)
    assert int(divided.optimizer.skipped_steps.numpy()) == 1
    whole, parts = (bytes_by_device(trial.optimizer) for trial in (plain, divided))
    assert len(whole) == len(parts) == replicas
    limit = {2: 0.55, 4: 0.30}[replicas]
    assert max(parts.values()) <= limit * max(whole.values())
    assert sum(parts.values()) == max(whole.values())


@pytest.mark.one_keras
@pytest.mark.parametrize(("traced", "calls"), [(True, 2), (False, None)])
def test_averages_and_sums_without_all_gradients(strategies, traced, calls):
    """Sums are divided too; a clip sees all of them, and averages overwrite weights."""
    shapes = [(4, 3), (5,), (2, 2)]
    batches = gradients(8, 2, shapes)
    for number in (3, 4, 5, 6, 7):  # in the last two updates there is none at all
        batches[number][1] = None

    def make(shard_slots):
        return tko.SGD(
            0.1,
            momentum=0.9,
            shard_slots=shard_slots,
            gradient_accumulation_steps=calls,
            global_clipnorm=0.5,
            use_ema=True,
            ema_overwrite_frequency=2,
            **PLAIN,
        )

    with pytest.warns(UserWarning, match="no gradient for w1"):
        both(strategies[2], make, batches, shapes=shapes, traced=traced)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (tko.Prodigy, {}),  # numbers over all variables, and slots that start as the weights
        (tko.Soap, {"every": 2}),  # refreshed slots
        (tko.SGD, {"groups": {"w0": tko.Adam(0.1), "w1": None}, "lookahead_steps": 2}),
        (tko.SGD, {}),  # nothing to divide but the work
    ],
)
def test_other_kinds_of_state(strategies, cls, arguments):
    shapes = [(4, 4), (4,)]

    def make(shard_slots):
        return cls(0.1, shard_slots=shard_slots, **PLAIN, **arguments)

    both(strategies[2], make, gradients(4, 2, shapes), shapes=shapes)


@pytest.mark.one_keras
def test_narrow_weights_have_their_master_copies_on_one_device(strategies):
    shapes = [(4, 4), (4,)]
    batches = gradients(4, 2, shapes)
    settings = {"shapes": shapes, "dtype": tf.bfloat16}

    def make(shard_slots):
        return tko.Adam(1e-3, shard_slots=shard_slots, **PLAIN)

    _, divided = both(strategies[2], make, batches, **settings)
    assert len(bytes_by_device(divided.optimizer)) == 2
    with strategies[2].scope():
        other = make(shard_slots=False)
        with pytest.raises(ValueError, match="'w0', which is bfloat16, has a master copy"):
            other.build(divided.variables)
    assert not other.built


@pytest.mark.one_keras
def test_lazy_rows(strategies):
    """Of a table whose rows are lazy only these rows are copied."""
    strategy, shapes = strategies[2], [(6, 3), (5, 3)]
    rows = np.random.default_rng(0).integers(0, 5, (4, 2, 3)).astype("i")

    def trained(shard_slots):
        trial = Trial(
            strategy,
            lambda: tko.Adam(0.1, sparse="lazy", shard_slots=shard_slots, **PLAIN),
            shapes,
        )

        @tf.function(autograph=False)
        def step(ids):
            def replica():
                context = tf.distribute.get_replica_context()
                own = tf.gather(ids, context.replica_id_in_sync_group)
                values = tf.cast(own, tf.float32)[:, None] + tf.ones([3, 3])
                slices = [tf.IndexedSlices(values, own, v.shape) for v in trial.variables]
                trial.optimizer.apply_gradients(list(zip(slices, trial.variables)))

            strategy.run(replica)

        for ids in rows:
            step(tf.constant(ids))
        return trial

    assert_same(trained(False), trained(True))


@pytest.mark.one_keras
@pytest.mark.parametrize("wrapped", [True, False])
def test_evaluation_weights(strategies, wrapped):
    shapes = [(4, 3), (5,)]

    def make(shard_slots):
        optimizer = tko.AdamW(0.1, use_ema=True, shard_slots=shard_slots, **PLAIN)
        return tko.LossScaleOptimizer(optimizer) if wrapped else optimizer

    batches = gradients(5, 2, shapes)
    plain, divided = both(strategies[2], make, batches[:3], shapes=shapes)
    trained = divided.values()
    for trial in (plain, divided):
        state.inner(trial.optimizer).use_evaluation_weights()
    assert_same(plain, divided)
    assert not np.array_equal(divided.values()[0], trained[0])
    for trial in (plain, divided):
        trial.train(batches[3:4])  # puts the trained weights back
        with state.inner(trial.optimizer).evaluation_weights():
            pass
        trial.train(batches[4:])
    assert_same(plain, divided)
    for trial in (plain, divided):
        trial.optimizer.finalize_variable_values(trial.variables)
    assert_same(plain, divided)


@pytest.mark.one_keras
def test_what_comes_late_has_an_owner_too(strategies):
    shapes = [(4, 3), (3,), (4, 3), (3,)]
    batches = gradients(4, 2, shapes)
    found = []
    for shard_slots in (False, True):
        make = functools.partial(tko.Adam, 0.1, shard_slots=shard_slots, **PLAIN)
        trial = Trial(strategies[2], make, shapes[:2])
        trial.train([batch[:2] for batch in batches[:2]])
        with strategies[2].scope():
            later = [tf.Variable(tf.ones(shape), name="later") for shape in shapes[2:]]
            trial.variables += later
            trial.optimizer.build(trial.variables)
            with pytest.warns(UserWarning, match="was changed after"):
                trial.optimizer.use_ema = True
                trial.optimizer.gradient_accumulation_steps = 2
        trial.step = tf.function(trial.take_step, autograph=False)
        found.append(trial.train(batches))
    assert_same(*found)
    sizes = bytes_by_device(found[1].optimizer).values()
    assert len(sizes) == 2


def test_values_are_copied_not_summed(strategies):
    """A sum with zeros would make 0.0 of -0.0, and is not needed."""
    with strategies[2].scope():
        variable = tf.Variable([1.0, 2.0, 3.0])
        optimizer = tko.SGD(1.0, shard_slots=True)
    start = np.array([-0.0, np.inf, 3.0], "f")
    for component in variable.values:
        component.assign(start)

    def replica():
        gradient = tf.constant([0.0, 1.0, np.nan])
        optimizer.apply_gradients([(gradient, variable)], skip_gradients_aggregation=True)

    strategies[2].run(replica)
    for component in variable.values:
        found = component.numpy()
        assert found[:2].tobytes() == start[:2].tobytes()
        assert np.isnan(found[2])


# Files.


def make_model(strategies, replicas, shard_slots, seed=0):
    with harness.scope_of(strategies.get(replicas), replicas):
        model = harness.small_model(seed=seed)
        optimizer = tko.AdamW(0.01, use_ema=True, shard_slots=shard_slots, **PLAIN)
        optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=8.0)
        model.compile(optimizer, harness.classification_loss(), jit_compile=False)
    return model


def train(model, batches):
    x, y = harness.classification_data(8 * batches, seed=batches)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


def arrays(model):
    return [*model.get_weights(), *model.optimizer.get_weights()]


def assert_arrays(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.fixture(scope="module")
def saved(strategies, tmp_path_factory):
    """Two models, undivided and divided, after the same `fit`, in files of all kinds."""
    found = {}
    for shard_slots in (False, True):
        directory = tmp_path_factory.mktemp("divided" if shard_slots else "plain")
        model = make_model(strategies, 2, shard_slots)
        train(model, 5)
        model.save(str(directory / "model.keras"))
        model.save_weights(str(directory / "model.weights.h5"))
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
            str(directory / "ckpt")
        )
        tko.save_state(directory / "state.npz", model.optimizer, model.variables)
        found[shard_slots] = directory, arrays(model)
        train(model, 2)
        found[shard_slots] += (arrays(model),)
    return found


def test_fit_gives_the_same(saved):
    for place in (1, 2):
        assert_arrays(saved[True][place], saved[False][place])


WAYS = ("keras", "weights", "checkpoint", "state_file")
# Of a file: whether divided state was saved, by how many replicas and how it is loaded.
DIRECTIONS = [(False, 2, True), (True, 2, False), (True, 1, False), (True, 4, True)]


@pytest.mark.one_keras
@pytest.mark.parametrize(("was_divided", "replicas", "divides"), DIRECTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_files_are_the_same(saved, strategies, way, was_divided, replicas, divides):
    directory, at_save, _ = saved[was_divided]
    model = make_model(strategies, replicas, divides, seed=1)
    with harness.scope_of(strategies.get(replicas), replicas):
        if way == "keras":
            # The file says whether state is divided.
            model = tf.keras.models.load_model(str(directory / "model.keras"))
            divides = was_divided and replicas > 1
        elif way == "weights":
            model.load_weights(str(directory / "model.weights.h5"))
        elif way == "checkpoint":
            checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
            checkpoint.read(str(directory / "ckpt")).assert_existing_objects_matched()
        else:
            tko.load_state(directory / "state.npz", model.optimizer, model.variables)
        model.optimizer.build(model.trainable_variables)
    assert_arrays(arrays(model), at_save)
    mirrored = {isinstance(v, tf.distribute.DistributedValues) for v in kept(model.optimizer)}
    assert mirrored == {replicas > 1 and not divides}


def test_training_goes_on_from_a_file(saved, strategies):
    directory, _, later = saved[False]
    model = make_model(strategies, 2, True, seed=1)
    with strategies[2].scope():
        model.load_weights(str(directory / "model.weights.h5"))
    train(model, 2)
    assert_arrays(arrays(model), later)


@pytest.mark.one_keras
def test_an_interrupted_fit_with_a_layer_thawed_goes_on(strategies, tmp_path):
    """Both undivided and divided: frozen, thawed, and the latter interrupted in between."""

    class Interrupt(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    x, y = harness.classification_data(16, seed=2)

    def make(shard_slots):
        model = make_model(strategies, 2, shard_slots)
        first = next(layer for layer in model.layers if layer.trainable_variables)
        first.trainable = False
        model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
        first.trainable = True
        with strategies[2].scope():
            model.compile(model.optimizer, model.loss, jit_compile=False)
        return model

    def fit(model, *callbacks):
        callbacks = [tf.keras.callbacks.BackupAndRestore(str(tmp_path)), *callbacks]
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)

    plain = make(False)
    plain.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(make(True), Interrupt())
    resumed = make(True)
    fit(resumed)
    assert int(resumed.optimizer.iterations) == 8
    assert_arrays(arrays(resumed), arrays(plain))


# What is not possible.


def test_one_replica_has_nothing_to_divide():
    one = tf.distribute.OneDeviceStrategy("CPU:1")
    for strategy in (tf.distribute.get_strategy(), one):
        with strategy.scope():
            variable = tf.Variable([1.0])
            optimizer = tko.SGD(1.0, momentum=0.5, shard_slots=True)
            optimizer.build([variable])
            optimizer.shard_slots = False
        strategy.run(lambda v, o: o.apply_gradients([(tf.ones([1]), v)]), (variable, optimizer))
        assert variable.numpy() == [0.0]


def test_other_strategies_are_refused():
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    workers = tf.distribute.MultiWorkerMirroredStrategy()
    for strategy in (central, workers):
        name = type(strategy).__name__
        with strategy.scope():
            with pytest.raises(ValueError, match=f"needs tf.distribute.Mirrored.*{name}"):
                tko.Adam(shard_slots=True)
            tko.Adam(shard_slots=False)


def test_it_is_decided_when_the_optimizer_is_made(strategies):
    with strategies[2].scope():
        for first in (True, False):
            optimizer = tko.SGD(shard_slots=first)
            with pytest.raises(ValueError, match=rf"`shard_slots`={not first} came after"):
                optimizer.shard_slots = not first
            assert optimizer.shard_slots is first


class Stepwise(tko.Optimizer):
    def update_step(self, gradient, variable, learning_rate=None):
        variable.assign_sub(gradient)


class Applying(tko.SGD):
    def apply_gradients(self, *args, **kwargs):
        return super().apply_gradients(*args, **kwargs)


def test_what_each_replica_would_do_for_itself_is_refused(strategies):
    with strategies[2].scope():
        with pytest.raises(ValueError, match=r"`shard_slots`=True needs .* `update`"):
            Stepwise(0.1, shard_slots=True)
        with pytest.raises(ValueError, match="combined with `gradient_reducer`"):
            tko.SGD(0.1, shard_slots=True, gradient_reducer=list)
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.1, shard_slots=True)
        optimizer.build([variable])
        wrapped = tko.LossScaleOptimizer(Applying(0.1, shard_slots=True))
    with pytest.raises(TypeError, match="`update_step` updates a variable in each replica"):
        strategies[2].run(lambda: optimizer.update_step(tf.ones([1]), variable, 0.1))
    with pytest.raises(ValueError, match="overrides `apply` or `apply_gradients`"):
        strategies[2].run(lambda: wrapped.apply_gradients([(tf.ones([1]), variable)]))
    assert variable.numpy() == [1.0]
