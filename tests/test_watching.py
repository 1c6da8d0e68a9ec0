"""What `statistics` and `OptimizerMonitor` tell of a run, against NumPy."""

import csv
import math
import warnings
import zipfile

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state, steps

keras = tf.keras
SHAPES = {"enc/kernel": (2, 3), "enc/bias": (2, 3), "head/kernel": (2, 3)}  # one to compile
STEPS = 4
CLOSE = {"rtol": 1e-5, "atol": 0}


def made(dtype=tf.float32):
    generator = np.random.default_rng(5)
    return [
        tf.Variable(generator.normal(size=shape), name=name.replace("/", "_"), dtype=dtype)
        for name, shape in SHAPES.items()
    ]


def batches(count=STEPS):
    generator = np.random.default_rng(6)
    shapes = SHAPES.values()
    return [[generator.normal(size=s).astype("f") for s in shapes] for _ in range(count)]


def norm(arrays):
    return math.sqrt(sum(np.sum(np.square(np.asarray(a, "d"))) for a in arrays))


def values(variables):
    return [np.asarray(variable.numpy(), "d") for variable in variables]


def ratio(before, after):
    return norm([a - b for a, b in zip(after, before)]) / norm(before)


def stepper(optimizer, variables, regime="eager"):
    """Takes a step; gradients of `None` stay out."""

    def apply(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    return steps.in_regime(apply, regime)


def watched(optimizer, variables):
    optimizer.build(variables)
    first = optimizer.statistics()
    assert math.isnan(first["gradient_norm"]) and first["update"] == 0.0
    return optimizer


def close(found, **expected):
    for name, number in expected.items():
        np.testing.assert_allclose(found[name], number, err_msg=name, **CLOSE)


LIMIT = float(np.mean(sorted(map(norm, batches()))[1:3]))  # two gradients of four exceed it
MADE = {
    "fused": lambda: tko.Adam(0.1),
    "together": lambda: tko.AdamW(
        0.1, weight_decay=0.5, global_clipnorm=LIMIT, use_ema=True, ema_overwrite_frequency=2
    ),
    "one by one": lambda: tko.Lion(0.1, clipnorm=2.4, jit_compile=False),
    "elements": lambda: tko.SGD(0.1, momentum=0.9, clipvalue=1.85, jit_compile=False),
}
CLIPPED = {  # what NumPy says of one step's gradients
    "together": lambda batch: norm(batch) > LIMIT,
    "one by one": lambda batch: any(norm([g]) > 2.4 for g in batch),
    "elements": lambda batch: any(np.abs(g).max() > 1.85 for g in batch),
}


WAYS = [  # each kind once, and each kernel in every regime
    *(("fused", regime) for regime in harness.REGIMES),
    *(("together", regime) for regime in ("function", "xla")),
    ("one by one", "eager"),
    ("elements", "function"),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("kind", "regime"), WAYS)
def test_every_number_is_numpys_and_training_is_the_same(kind, regime):
    variables, twins = made(), made()
    optimizer, alone = watched(MADE[kind](), variables), MADE[kind]()
    alone.build(twins)
    step, other = stepper(optimizer, variables, regime), stepper(alone, twins, regime)
    clipped = 0
    for number, batch in enumerate(batches()):
        tensors, before = [tf.constant(g) for g in batch], values(variables)
        step(tensors)
        other(tensors)
        found, after = optimizer.statistics(per_variable=True), values(variables)
        close(
            found,
            update=number + 1,
            learning_rate=np.float32(0.1),
            gradient_norm=norm(batch),
            update_ratio=ratio(before, after),
        )
        for place, path in enumerate(optimizer.state_dict()["variables"]):
            own = slice(place, place + 1)
            expected = norm(batch[own]), ratio(before[own], after[own])
            named = [f"{name}/variables/{path}" for name in ("gradient_norm", "update_ratio")]
            np.testing.assert_allclose([found[name] for name in named], expected, **CLOSE)
        if kind in CLIPPED:
            clipped += CLIPPED[kind](batch)
            assert found["clipped_updates"] == clipped
            close(found, clipped_share=clipped / (number + 1))
        else:
            assert "clipped_share" not in found
    if kind in CLIPPED:
        assert 0 < clipped < STEPS
    state.assert_equal(optimizer.state_dict(), alone.state_dict())
    for mine, theirs in zip(variables, twins):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["eager", "xla"])
def test_groups_have_their_own_rates_and_ratios(regime):
    groups = {
        "bias": {"learning_rate_multiplier": 0.5},
        "head": tko.Lion(keras.optimizers.schedules.ExponentialDecay(0.2, 1, 0.5)),
    }
    variables = made()
    optimizer = watched(tko.SGD(0.1, groups=groups), variables)
    step = stepper(optimizer, variables, regime)
    for number, batch in enumerate(batches(2)):
        before = values(variables)
        step([tf.constant(g) for g in batch])
        found, after = optimizer.statistics(), values(variables)
        close(
            found,
            learning_rate=0.1,
            gradient_norm=norm(batch),
            update_ratio=ratio(before, after),
        )
        rates = {"others": 0.1, "bias": 0.05, "head": 0.2 * 0.5**number}
        for place, (label, rate) in enumerate(rates.items()):
            own = slice(place, place + 1)
            np.testing.assert_allclose(found[f"learning_rate/groups/{label}"], rate, **CLOSE)
            np.testing.assert_allclose(
                found[f"update_ratio/groups/{label}"], ratio(before[own], after[own]), **CLOSE
            )
    with pytest.raises(ValueError, match="Call `statistics` of that one"):
        groups["head"].statistics()


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["function", "xla"])
def test_under_accumulation_an_update_is_measured_at_the_end_of_its_window(regime):
    """The head has a gradient in one call of the first window, and in none of the second."""
    variables = made()
    optimizer = watched(tko.SGD(0.1, gradient_accumulation_steps=2), variables)
    both = stepper(optimizer, variables, regime)
    few = stepper(optimizer, variables[:2], regime)
    given = batches()
    before = values(variables)
    both([tf.constant(g) for g in given[0]])
    found = optimizer.statistics()
    assert math.isnan(found["gradient_norm"]) and found["accumulated_calls"] == 1.0
    few([tf.constant(g) for g in given[1][:2]])
    found, after = optimizer.statistics(), values(variables)
    means = [(g + h) / 2 for g, h in zip(given[0], given[1])]
    means[2] = given[0][2] / 2
    assert found["accumulated_calls"] == 0.0 and found["update"] == 1.0
    close(found, gradient_norm=norm(means), update_ratio=ratio(before, after))
    for batch in given[2:]:
        assert optimizer.statistics()["gradient_norm"] == found["gradient_norm"]
        few([tf.constant(g) for g in batch[:2]])
    found = optimizer.statistics()
    means = [(g + h) / 2 for g, h in zip(*given[2:])][:2]
    close(
        found, gradient_norm=norm(means), update_ratio=ratio(after[:2], values(variables)[:2])
    )


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("regime", "clip"), [("eager", None), ("function", 1.0), ("xla", None), ("xla", 1.0)]
)
def test_a_skipped_step_leaves_the_numbers_of_the_last_update(regime, clip):
    variables = made()
    optimizer = tko.LossScaleOptimizer(tko.SGD(0.1, global_clipnorm=clip), initial_scale=1024.0)
    watched(optimizer, variables)
    step = stepper(optimizer, variables, regime)
    scale = 1024.0 if harness.IS_KERAS_3 else 1.0  # Keras 2 gives unscaled gradients
    first, second, third = batches(3)
    before = values(variables)
    step([tf.constant(g) * scale for g in first])
    found = optimizer.statistics()
    expected = {"gradient_norm": norm(first), "update_ratio": ratio(before, values(variables))}
    close(found, loss_scale=1024.0, skipped_steps=0.0, **expected)
    bad = [tf.constant(g) * scale for g in second]
    step([bad[0] * math.inf, *bad[1:]])
    found = optimizer.statistics()
    close(found, loss_scale=512.0, skipped_steps=1.0, consecutive_skips=1.0, **expected)
    before = values(variables)
    step([tf.constant(g) * (scale / 2 if scale > 1 else 1) for g in third])
    found = optimizer.statistics()
    close(found, gradient_norm=norm(third), update_ratio=ratio(before, values(variables)))
    close(found, loss_scale=512.0, skipped_steps=1.0, consecutive_skips=0.0, update=2.0)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["function", "xla"])
def test_of_rows_those_with_a_gradient_count(regime):
    table = tf.Variable(np.random.default_rng(0).normal(size=(6, 3)), dtype=tf.float32)
    optimizer = watched(tko.Adam(0.1, sparse="lazy", clipnorm=0.5), [table])

    def apply(rows, indices):
        optimizer.apply_gradients([(tf.IndexedSlices(rows, indices, [6, 3]), table)])

    step = steps.in_regime(apply, regime)
    for seed, indices in enumerate(([1, 4, 1, 5], [0, 0, 2, 5])):
        rows = np.random.default_rng(seed).normal(size=(4, 3)).astype("f")
        summed, before = np.zeros((6, 3)), table.numpy().astype("d")
        np.add.at(summed, indices, rows)
        step(tf.constant(rows), tf.constant(indices))
        own = sorted(set(indices))
        expected = ratio([before[own]], [table.numpy().astype("d")[own]])
        found = optimizer.statistics()
        close(found, gradient_norm=norm([summed]), update_ratio=expected, clipped_share=1.0)


@pytest.mark.one_keras
def test_of_a_narrow_variable_all_digits_count():
    variables = made(tf.bfloat16)
    optimizer = watched(tko.SGD(1e-4), variables)
    before, batch = values(variables), batches(1)[0]
    stepper(optimizer, variables)([tf.constant(g) for g in batch])
    assert all(np.array_equal(a, b) for a, b in zip(values(variables)[1:2], before[1:2]))
    found = optimizer.statistics()
    np.testing.assert_allclose(
        found["update_ratio"], 1e-4 * norm(batch) / norm(before), rtol=1e-3
    )


def test_a_step_has_nothing_more_while_nobody_watches():
    variables = made()
    optimizer = tko.AdamW(0.1, global_clipnorm=1.0)
    optimizer.build(variables)
    tensors = [tf.constant(g) for g in batches(1)[0]]

    def traced():
        function = stepper(optimizer, variables, "function")
        return function.get_concrete_function(tensors).graph

    def names(graph):
        return {variable.name for variable in graph.variables if "watch" in variable.name}

    graph = traced()
    count = len(graph.get_operations())
    assert not names(graph)
    with pytest.warns(UserWarning, match="a step was traced into a function before measuring"):
        optimizer.statistics()
    later = traced()
    assert names(later) and len(later.get_operations()) > count
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.statistics()


def test_a_function_that_was_traced_before_gives_no_number():
    variables = made()
    optimizer = tko.SGD(0.1)
    optimizer.build(variables)
    tensors = [tf.constant(g) for g in batches(1)[0]]
    early = stepper(optimizer, variables, "function")
    early(tensors)
    with pytest.warns(UserWarning, match="does not measure until"):
        optimizer.statistics()
    early(tensors)
    assert math.isnan(optimizer.statistics()["gradient_norm"])
    stepper(optimizer, variables)(tensors)  # eager steps are traced anew
    close(optimizer.statistics(), gradient_norm=norm(batches(1)[0]), update=3.0)
    early(tensors)
    found = optimizer.statistics(per_variable=True)
    assert found["update"] == 4.0
    assert all(
        math.isnan(v) for n, v in found.items() if n.startswith(("gradient", "update_r"))
    )

    @tf.function(autograph=False)
    def inside():
        optimizer.statistics()

    with pytest.raises(RuntimeError, match="Call it outside of `tf"):
        inside()


def test_state_and_files_are_those_of_an_optimizer_that_nobody_watches(tmp_path):
    variables, twins = made(), made()
    optimizer, alone = (
        watched(tko.Adam(0.1, clipnorm=1.0), variables),
        tko.Adam(0.1, clipnorm=1.0),
    )
    for one, chosen in ((optimizer, variables), (alone, twins)):
        one.build(chosen)
        for batch in batches(2):
            stepper(one, chosen)([tf.constant(g) for g in batch])
    files = [tmp_path / "watched.npz", tmp_path / "alone.npz"]
    listed = optimizer.variables if harness.IS_KERAS_3 else optimizer.variables()
    others = alone.variables if harness.IS_KERAS_3 else alone.variables()
    assert [v.shape for v in listed] == [v.shape for v in others]
    prefixes = []
    for path, one, chosen in zip(files, (optimizer, alone), (variables, twins)):
        tko.save_state(path, one, chosen)
        prefixes.append(tf.train.Checkpoint(optimizer=one).write(str(path) + "_checkpoint"))
    contents = []
    for path in files:  # apart from the time at which they were written
        with zipfile.ZipFile(path) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]
    keys = [sorted(name for name, _ in tf.train.list_variables(p)) for p in prefixes]
    assert keys[0] == keys[1]
    tko.load_state(files[0], alone, twins)
    tko.load_state(files[1], optimizer, variables)
    state.assert_equal(optimizer.state_dict(), alone.state_dict())
    assert optimizer.get_config().keys() == alone.get_config().keys()
    optimizer.reset_state()
    assert math.isnan(optimizer.statistics()["gradient_norm"])


def model_of(optimizer, **arguments):
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Input((3,)),
        keras.layers.Dense(4, activation="tanh", name="hidden"),
        keras.layers.Dense(2, name="head"),
    ]
    model = keras.Sequential(layers, name="small")
    model.compile(optimizer, "mse", **arguments)
    return model


def data(count=12):
    generator = np.random.default_rng(2)
    return [generator.normal(size=(count, n)).astype("f") for n in (3, 2)]


def fit(model, *callbacks, epochs=1, **arguments):
    x, y = data()
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0} | arguments
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments)


class Weights(keras.callbacks.Callback):
    """Keeps the weights before each batch, and after the last one."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(self.model.get_weights())

    def on_train_end(self, logs=None):
        self.seen.append(self.model.get_weights())


def gradients_at(weights, number):
    """The gradients of a batch at some weights, by NumPy."""
    x, y = (array.astype("d")[4 * number : 4 * number + 4] for array in data())
    kernel, bias, head, last = (w.astype("d") for w in weights)
    hidden = np.tanh(x @ kernel + bias)
    slope = 2.0 * (hidden @ head + last - y) / y.size
    back = (slope @ head.T) * (1.0 - hidden**2)
    return x.T @ back, back.sum(0), hidden.T @ slope, slope.sum(0)


# By default XLA compiles no whole step on CPUs; test_watched_runs.py has one that it compiles.
def test_in_fit_logs_and_records_are_numpys_numbers(tmp_path):
    monitor, weights = tko.callbacks.OptimizerMonitor(every=1), Weights()
    path = tmp_path / "log.csv"
    model, twin = (
        model_of(tko.AdamW(0.01, global_clipnorm=0.5, weight_decay=0.1)) for _ in "12"
    )
    seen = []

    def note(batch, logs):
        seen.append(logs["optimizer/gradient_norm"])

    looks = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    logger = keras.callbacks.CSVLogger(str(path))
    history = fit(model, weights, monitor, looks, logger).history
    assert len(monitor.records) == 3
    norms = []
    for number, record in enumerate(monitor.records):
        before, after = weights.seen[number : number + 2]
        norms.append(norm(gradients_at(before, number)))
        close(
            record,
            batch=number + 1,
            learning_rate=np.float32(0.01),
            gradient_norm=norms[-1],
            update_ratio=ratio([w.astype("d") for w in before], [w.astype("d") for w in after]),
            clipped_updates=sum(n > 0.5 for n in norms),
        )
    np.testing.assert_allclose(seen, norms, **CLOSE)
    assert history["optimizer/gradient_norm"] == [monitor.records[-1]["gradient_norm"]]
    with path.open() as file:
        (row,) = csv.DictReader(file)
    np.testing.assert_allclose(float(row["optimizer/gradient_norm"]), norms[-1], **CLOSE)
    assert monitor.records[-1]["loss"] == history["loss"][0]
    fit(twin)
    for mine, theirs in zip(model.get_weights(), twin.get_weights()):
        np.testing.assert_array_equal(mine, theirs)
    state.assert_equal(model.optimizer.state_dict(), twin.optimizer.state_dict())


def test_a_second_fit_and_a_recompiled_model():
    """The first call of `fit` has a function that measures nothing; it is made anew."""
    model = model_of(tko.SGD(0.1), jit_compile=False)
    fit(model)
    monitor = tko.callbacks.OptimizerMonitor(every=2)
    fit(model, monitor)
    function = model.train_function
    fit(model, monitor)
    assert model.train_function is function  # traced once
    assert [record["update"] for record in monitor.records] == [4.0, 6.0, 7.0, 9.0]
    assert [record["batch"] for record in monitor.records] == [1.0, 3.0, 4.0, 6.0]
    model.compile(tko.ScheduleFreeAdamW(0.1), "mse", run_eagerly=True)
    fit(model, tko.callbacks.EvaluationWeights(), monitor)
    last = monitor.records[-1]
    assert (last["update"], last["evaluation_weights"]) == (3.0, 1.0)
    assert not any(math.isnan(value) for record in monitor.records for value in record.values())


@pytest.mark.one_keras
def test_tensorboard_and_a_page_of_pictures(tmp_path):
    groups = {"head": {"learning_rate_multiplier": 0.5}}
    model = model_of(tko.SGD(0.1, groups=groups, clipnorm=0.1), run_eagerly=True)
    monitor = tko.callbacks.OptimizerMonitor(tmp_path, every=2, per_variable=True)
    fit(model, monitor)
    events = {}
    for path in tmp_path.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                events.setdefault(value.tag, {})[event.step] = number
    for name, number in monitor.records[-1].items():
        if name not in ("batch", "loss", "update"):
            assert set(events[f"optimizer/{name}"]) == {1, 3}
            np.testing.assert_allclose(events[f"optimizer/{name}"][3], number, **CLOSE)
    figure = monitor.plot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    lines = {
        axes.get_title(): [line.get_label() for line in axes.get_lines()]
        for axes in figure.axes
    }
    assert lines["Learning rate"] == lines["Update / weights"] == ["all", "others", "head"]
    assert list(lines) == [
        "Loss", "Learning rate", "L2 norm of the gradient", "Update / weights",
        "Share of clipped updates",
    ]  # fmt: skip


@pytest.mark.one_keras
def test_replicas_share_one_norm(strategy):
    with strategy.scope():
        model = model_of(tko.SGD(0.1, global_clipnorm=0.5), jit_compile=False)
    monitor, weights = tko.callbacks.OptimizerMonitor(every=1), Weights()
    fit(model, monitor, weights)
    norms = []
    for number, record in enumerate(monitor.records):
        before, after = ([w.astype("d") for w in s] for s in weights.seen[number : number + 2])
        norms.append(norm(gradients_at(before, number)))
        close(record, gradient_norm=norms[-1], update_ratio=ratio(before, after))
        assert record["clipped_updates"] == sum(one > 0.5 for one in norms)
    with strategy.scope():
        found = model.optimizer.statistics()
    close(found, **{name: record[name] for name in found})


def test_inside_keras_own_wrapper():
    own = keras.mixed_precision.LossScaleOptimizer
    model = model_of(own(tko.SGD(0.1), initial_scale=64.0), run_eagerly=True)
    monitor, weights = tko.callbacks.OptimizerMonitor(every=1), Weights()
    fit(model, monitor, weights)
    assert len(monitor.records) == 3
    for number, record in enumerate(monitor.records):
        close(record, loss_scale=64.0)
        close(record, gradient_norm=norm(gradients_at(weights.seen[number], number)))


def test_what_a_monitor_refuses():
    with pytest.raises(ValueError, match=r"`every` must be a number of batches.*Received: 0\."):
        tko.callbacks.OptimizerMonitor(every=0)
    monitor = tko.callbacks.OptimizerMonitor()
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        monitor.plot()
    model = model_of(keras.optimizers.SGD(0.1))
    with pytest.raises(
        TypeError, match="`OptimizerMonitor` needs a model that is compiled with"
    ):
        fit(model, monitor)


def test_steps_in_keras_order_measure_nothing_and_say_so():
    class Own(tko.SGD):
        def _apply_weight_decay(self, variables):
            super()._apply_weight_decay(variables)

    variables, optimizer = made(), Own(0.1)
    with pytest.warns(UserWarning, match="takes steps in Keras' order"):
        optimizer.statistics()
    stepper(optimizer, variables)([tf.constant(g) for g in batches(1)[0]])
    found = optimizer.statistics()
    assert math.isnan(found["gradient_norm"]) and found["update"] == 1.0


@pytest.mark.one_keras
def test_an_update_step_is_measured():
    class Own(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate=None):
            variable.assign_sub(0.5 * gradient)

    variables, optimizer = made(), Own(0.1)
    watched(optimizer, variables)
    before, batch = values(variables), batches(1)[0]
    stepper(optimizer, variables)([tf.constant(g) for g in batch])
    expected = 0.5 * norm(batch) / norm(before)
    close(optimizer.statistics(), gradient_norm=norm(batch), update_ratio=expected)


def test_models_that_are_watched_are_saved_and_exported(tmp_path):
    model, other = (model_of(tko.Adam(0.01), run_eagerly=True) for _ in "12")
    fit(model, tko.callbacks.OptimizerMonitor(every=1))
    fit(other)
    path = str(tmp_path / ("model.keras" if harness.IS_KERAS_3 else "model"))
    model.save(path)
    loaded = keras.models.load_model(path)
    if not loaded.optimizer.built:
        loaded.optimizer.build(loaded.trainable_variables)
    for mine, theirs in zip(loaded.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(mine, theirs)
    for number in range(4):
        mine, theirs = (state.slots(one.optimizer, number) for one in (loaded, other))
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.one_keras
def test_a_step_in_a_saved_model_measures_nothing(tmp_path):
    module = tf.Module()
    module.variable = tf.Variable([3.0, 4.0])
    module.optimizer = watched(tko.SGD(0.5, clipnorm=9.0), [module.variable])

    def step(gradient):
        module.optimizer.apply_gradients([(gradient, module.variable)])

    module.step = tf.function(step, input_signature=[tf.TensorSpec([2])], autograph=False)
    module.step(tf.constant([0.6, 0.8]))
    close(module.optimizer.statistics(), gradient_norm=1.0, update_ratio=0.1)
    tf.saved_model.save(module, str(tmp_path / "module"))
    again = tf.saved_model.load(str(tmp_path / "module"))
    again.step(tf.constant([0.6, 0.8]))
    np.testing.assert_allclose(again.variable.numpy(), [2.4, 3.2], rtol=1e-6)


@pytest.mark.one_keras
def test_an_exported_training_measures_nothing(tmp_path):
    model = model_of(tko.SGD(0.1), run_eagerly=True)
    fit(model, tko.callbacks.OptimizerMonitor())
    before = model.optimizer.statistics()
    tko.export_training(model, str(tmp_path))
    assert model.optimizer.statistics() == before
    loaded, (x, y) = tf.saved_model.load(str(tmp_path)), data(4)
    loaded.signatures["train"](x=tf.constant(x), y=tf.constant(y))
    names = [variable.name for variable in loaded.signatures["train"].variables]
    assert names and not any("watch" in name for name in names)
