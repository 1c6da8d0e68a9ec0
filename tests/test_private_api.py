"""Private API of TensorFlow and Keras taken away: the same numbers, or one clear error."""

import os
import pathlib
import subprocess
import sys

import h5py
import harness
import numpy as np
import pytest
import tensorflow as tf
from hiding import hide

import tf_keras_optim as tko

keras = tf.keras
ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = "keras.src" if harness.IS_KERAS_3 else "tf_keras.src"
only_keras_3 = pytest.mark.skipif(not harness.IS_KERAS_3, reason="of Keras 3 only")
only_keras_2 = pytest.mark.skipif(harness.IS_KERAS_3, reason="of Keras 2 only")


@pytest.fixture
def without():
    """Takes names away until the test ends."""
    undo = []
    yield lambda holder, *names: undo.append(hide(holder, *names))
    while undo:
        undo.pop()()


def missing(name, *more):
    """The error names the library, its version, what is missing, and what cannot be done."""
    pattern = rf"(TensorFlow|Keras|tf_keras) \d+\.\d+\S* has no `.*{name}.*"
    return pytest.raises(RuntimeError, match=pattern + ".*".join(more))


def traced():
    return tf.function(lambda: tf.constant(0.0)).get_concrete_function()


def class_with(instance, name):
    """The class among an object's that has a name, or sets it on its instances."""
    return next((c for c in type(instance).__mro__ if name in vars(c)), type(instance))


def moved(make=lambda: tko.Adam(0.1, global_clipnorm=1.0), steps=3):
    """The weights after some eager steps."""
    weights = [tf.Variable([1.0, -2.0]), tf.Variable(3.0)]
    optimizer = make()
    for step in range(steps):
        gradients = [tf.constant([0.5, step + 1.0]), tf.constant(-0.25)]
        optimizer.apply_gradients(zip(gradients, weights))
    return np.concatenate([np.ravel(weight.numpy()) for weight in weights])


# TensorFlow: steps.


@pytest.fixture(scope="module")
def plain_moves():
    return moved()


@pytest.mark.one_keras
def test_eager_steps_by_public_calls(plain_moves, without):
    def by_rates():
        rates = iter([0.5, 0.25, 0.125])
        return moved(lambda: tko.SGD(lambda: next(rates)))

    plain = by_rates()
    without(type(tf.constant(0.0)), "_shape_tuple")
    np.testing.assert_array_equal(moved(), plain_moves)
    without(class_with(traced(), "_call_flat"), "_call_flat")
    np.testing.assert_array_equal(moved(), plain_moves)
    np.testing.assert_array_equal(by_rates(), plain)


@pytest.mark.one_keras
def test_steps_of_many_variables_by_public_calls(without):
    def values():
        weights = [tf.Variable([1.0, 2.0 + place]) for place in range(5)]
        tko.Adam(0.1, jit_compile=False).apply_gradients([(2.0 * w, w) for w in weights])
        return [weight.numpy() for weight in weights]

    plain = values()
    without(class_with(traced(), "_call_flat"), "_call_flat")
    np.testing.assert_array_equal(values(), plain)


@pytest.mark.one_keras
def test_a_call_of_another_form_is_not_made(plain_moves, monkeypatch):
    cls = class_with(traced(), "_call_flat")
    plain = cls._call_flat

    def refuses(tensors, captured, needed):
        raise AssertionError("called")

    def asked(self):
        ours = sys._getframe(1).f_globals["__name__"].startswith("tf_keras_optim")
        return refuses if ours else plain.__get__(self)

    monkeypatch.setattr(cls, "_call_flat", property(asked))
    np.testing.assert_array_equal(moved(), plain_moves)


@pytest.mark.one_keras
def test_a_compiled_step_that_is_not_told_so(without):
    def compiled():
        weight = tf.Variable(tf.range(1.0, 5.0))
        optimizer = tko.Adam(0.1, clipnorm=1.0, skip_nonfinite=True)
        optimizer.build([weight])

        @tf.function(jit_compile=True)
        def step(gradient):
            optimizer.apply_gradients([(gradient, weight)])

        for first in (1.0, np.nan, 0.5):
            step(tf.constant([first, 2.0, 3.0, 4.0]))
        return [*weight.numpy(), float(optimizer.iterations.numpy())]

    plain = compiled()
    without("tensorflow.python.ops.control_flow_util", "GraphOrParentsInXlaContext")
    np.testing.assert_allclose(compiled(), plain, rtol=1e-6)


@pytest.mark.one_keras
def test_checks_around_operations_are_found(plain_moves, without):
    without("tensorflow.python.framework.op_callbacks", "should_invoke_op_callbacks")
    np.testing.assert_array_equal(moved(), plain_moves)
    tf.debugging.enable_check_numerics()
    try:  # XLA would refuse the operations that are added
        found = moved(lambda: tko.Adam(0.1, global_clipnorm=1.0, jit_compile=True))
    finally:
        tf.debugging.disable_check_numerics()
    np.testing.assert_allclose(found, plain_moves, rtol=1e-6)


# TensorFlow: variables.


def train_replicas(strategy):
    """Three steps; replicas have other gradients. Returns the components, one a row."""
    with strategy.scope():
        weight = tf.Variable([1.0, 2.0])
        optimizer = tko.Adam(0.1, use_ema=True)
        optimizer.build([weight])

    @tf.function
    def step():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.cast(number, tf.float32) + tf.constant([1.0, -1.0])
        optimizer.apply_gradients([(gradient, weight)])

    for _ in range(3):
        strategy.run(step)
    optimizer.finalize_variable_values([weight])
    return np.stack([v.numpy() for v in strategy.experimental_local_results(weight)])


@pytest.mark.one_keras
def test_replicas_find_their_components(strategy, without):
    plain = train_replicas(strategy)
    with strategy.scope():
        variable = tf.Variable(0.0)
    for cls in type(variable).__mro__:
        names = [n for n in ("_get", "_get_on_device_or_primary") if n in vars(cls)]
        without(cls, *names)
    found = train_replicas(strategy)
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.one_keras
def test_a_component_is_known_without_its_container(strategy, without):
    with strategy.scope():
        weight, optimizer = tf.Variable([1.0, 2.0]), tko.SGD(0.5)
        for holder in (weight.values[0], weight.values[0].handle):
            without(type(holder), "_distributed_container", "_aggregating_container")
        optimizer.build([weight])

    def step():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply_gradients([(tf.ones([2]), weight.values[number])])

    strategy.run(step)
    for part in weight.values:
        np.testing.assert_array_equal(part.numpy(), [0.0, 1.0])


@pytest.mark.one_keras
def test_central_storage_is_recognized(without):
    without("tensorflow.python.distribute.ps_values", "AggregatingVariable")
    devices = ["CPU:0", "CPU:1"]
    central = tf.distribute.experimental.CentralStorageStrategy(devices, devices[0])
    with central.scope():
        weight, optimizer = tf.Variable([1.0, 2.0]), tko.SGD(0.5)
        optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.constant([1.0, 2.0]), weight)]))
    central.run(step)
    np.testing.assert_array_equal(weight.numpy(), [0.0, 0.0])


@pytest.mark.one_keras
@pytest.mark.parametrize("name", ["_handle_name", "_variable_creator_stack"])
def test_slots_have_their_names(name, without):
    def names():
        optimizer = tko.Adam(0.1)
        optimizer.build([tf.Variable([1.0, 2.0], name="kernel")])
        return [variable.name.split("/")[-1] for variable in optimizer.variables]

    plain = names()
    holder = tf.Variable(0.0)
    if name == "_variable_creator_stack":
        holder = tf.compat.v1.get_default_graph()
    without(class_with(holder, name), name)
    assert names() == plain
    assert any("kernel_momentum" in name for name in plain)


# TensorFlow: functions that are traced.


def following(optimizer, weight):
    return tf.function(lambda: optimizer.apply_gradients([(tf.constant(1.0), weight)]))


@pytest.mark.one_keras
@pytest.mark.parametrize("name", ["capture_call_time_value", "function_captures"])
def test_a_rate_that_traced_functions_cannot_follow_is_not_replaced(name, without):
    graph = traced().graph
    without(class_with(graph, name), name)
    weight, optimizer = tf.Variable(0.0), tko.SGD(0.5)
    step = following(optimizer, weight)
    step()
    optimizer.learning_rate = 0.25  # a number becomes the value of a variable
    step()
    assert float(weight.numpy()) == -0.75
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    with missing("capture_call_time_value", "`learning_rate`", "cannot be replaced"):
        optimizer.learning_rate = schedule
    assert float(optimizer.current_learning_rate) == 0.25
    called = tko.SGD(lambda: 0.5)
    with missing("capture_call_time_value", "which Python computes"):
        following(called, weight)()
    called.apply_gradients([(tf.constant(1.0), weight)])
    assert float(weight.numpy()) == -1.25


def test_a_saved_function_keeps_its_schedule(tmp_path, without):
    without("tensorflow.python.saved_model.save_context", "in_save_context")
    module = tf.Module()
    module.weight = tf.Variable(0.0)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    optimizer = tko.SGD(schedule)
    optimizer.build([module.weight])
    module.state = [optimizer.iterations, optimizer.learning_rate_multiplier]
    module.state = [getattr(v, "value", v) if harness.IS_KERAS_3 else v for v in module.state]

    @tf.function(input_signature=[])
    def step():
        optimizer.apply_gradients([(tf.constant(1.0), module.weight)])
        return module.weight.read_value()

    module.step = step
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert [float(loaded.step()) for _ in range(3)] == [-0.5, -0.75, -1.0]


def compiled_model(**arguments):
    model = harness.small_model()
    model.compile(tko.SGD(0.5), harness.classification_loss(), **arguments)
    return model


def test_export_says_that_it_cannot_order_operations(tmp_path, without):
    with tf.Graph().as_default():
        without(type(tf.no_op()), "_add_control_inputs")
    with missing("_add_control_inputs", "`export_training`"):
        tko.export_training(compiled_model(), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


# TensorFlow: checkpoints.


def trained(steps):
    weights = [tf.Variable([1.0, 2.0], name="a"), tf.Variable(3.0, name="b")]
    optimizer = tko.Adam(0.1)
    for _ in range(steps):
        optimizer.apply_gradients([(tf.ones_like(weight), weight) for weight in weights])
    return weights, optimizer


def test_a_checkpoint_is_restored_by_tensorflows_own_way(tmp_path, without):
    weights, optimizer = trained(2)
    checkpoint = tf.train.Checkpoint(weights=weights, optimizer=optimizer)
    path = checkpoint.write(str(tmp_path / "checkpoint"))
    others, other = trained(0)
    holder = tf.Module()
    without(class_with(holder, "_maybe_initialize_trackable"), "_maybe_initialize_trackable")
    tf.train.Checkpoint(weights=others, optimizer=other).read(path)
    other.build(others)
    for one, two in zip(optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_a_checkpoint_whose_reader_has_changed_is_refused(tmp_path, without):
    from tensorflow.python.checkpoint import restore

    _, optimizer = trained(1)
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    without(restore.CheckpointPosition, "checkpoint")
    _, other = trained(0)
    other.build([tf.Variable([1.0, 2.0], name="a"), tf.Variable(3.0, name="b")])
    with missing("save_path_string", "slots cannot be restored"):
        tf.train.Checkpoint(optimizer=other).read(path)
    assert not any(np.any(v.numpy()) for v in other.variables[2:])


@pytest.mark.parametrize("name", ["_trackable_children", "_track_trackable"])
def test_an_optimizer_that_checkpoints_cannot_hold_says_so(name, plain_moves, without):
    without(class_with(tf.Module(), name), name)
    with pytest.warns(UserWarning, match=rf"TensorFlow .* `Trackable.{name}`.*save_state"):
        np.testing.assert_array_equal(moved(), plain_moves)


# Keras: strings and wrappers.


def test_install_says_that_there_is_no_table(without):
    if harness.IS_KERAS_3:
        without(f"{SOURCE}.optimizers", "ALL_OBJECTS_DICT")
        with missing("ALL_OBJECTS_DICT", "`install`"):
            tko.install()
        tko.uninstall()
    holder, name = ("trainers.trainer", "LossScaleOptimizer")
    if not harness.IS_KERAS_3:
        holder, name = ("engine.training", "lso")
    without(f"{SOURCE}.{holder}", name)
    before = type(keras.optimizers.get("adam"))
    with pytest.raises(RuntimeError, match="`install` cannot"):
        tko.install()
    assert type(keras.optimizers.get("adam")) is before
    assert issubclass(before, keras.optimizers.Optimizer) and before is not tko.Adam


# What of Keras' Optimizer is not overridden, and why. Keras 2 and 3 together.
NOT_OVERRIDDEN: dict[str, str] = {}


def test_every_public_name_of_keras_optimizer_is_ours():
    def owner_of(name):
        return next(cls for cls in tko.Optimizer.__mro__ if name in vars(cls))

    names = [name for name in dir(keras.optimizers.Optimizer) if not name.startswith("_")]
    theirs = [name for name in names if not owner_of(name).__module__.startswith("tf_keras_op")]
    assert set(theirs) <= set(NOT_OVERRIDDEN), "override these, or say why not"


# Keras: models.


def test_an_export_by_public_ways(tmp_path, without):
    model = compiled_model(metrics=["accuracy"])
    names = ("_symbolic_build", "_flatten_layers", "_compile_metrics")
    names += ("_inputs_struct", "_outputs_struct", "_nested_inputs", "_nested_outputs")
    for cls in type(model).__mro__:
        without(cls, *(name for name in names if name in vars(cls)))
    without(type(model), "_compile_metrics")
    x, y = harness.classification_data(8)
    tko.export_training(model, tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    for _ in range(2):
        found = loaded.train(x=x, y=y)
        expected = model.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
        np.testing.assert_allclose(found["accuracy"], expected["accuracy"], rtol=1e-5)
        model.reset_metrics()
        loaded.reset_metrics()


@only_keras_3
def test_a_ragged_export_says_what_it_needs(tmp_path, without):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile(tko.SGD(0.5), "mse", metrics=["mae"])
    without(class_with(model, "_symbolic_build"), "_symbolic_build")
    ragged = tf.RaggedTensorSpec([None, None], tf.float32)
    with pytest.raises((RuntimeError, ValueError), match=r"_symbolic_build.*ragged or sparse"):
        tko.export_training(
            model, tmp_path / "x", input_signature=(ragged, tf.TensorSpec([None, 1]))
        )


@only_keras_3
def test_notes_are_written_where_the_group_has_another_name(tmp_path, without):
    from keras.src.saving import saving_lib

    model = compiled_model()
    x, y = harness.classification_data(8)
    model.train_on_batch(x, y)
    path = tmp_path / "model.weights.h5"
    without(saving_lib.H5IOStore, "_h5_entry_group")
    model.save_weights(path)
    with h5py.File(path) as file:
        arrays = file["optimizer/vars"]
        assert all("tf_keras_optim" in array.attrs for array in arrays.values())
    other = compiled_model()
    other.load_weights(path)
    other.optimizer.build(other.trainable_variables)
    for one, two in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@only_keras_2
def test_a_variable_under_a_policy_is_found_inside(without):
    class Renamed(tf.Module):
        __module__ = "tf_keras.src.mixed_precision.autocast_variable"
        true_dtype = tf.float32

        def __init__(self, **parts):
            super().__init__()
            vars(self).update(parts)

    weight, optimizer = tf.Variable([1.0, 2.0]), tko.SGD(0.5)
    optimizer.build([weight])
    optimizer.apply_gradients([(tf.ones([2]), Renamed(within=weight))])
    np.testing.assert_array_equal(weight.numpy(), [0.5, 1.5])
    with missing("_variable", "mixed precision"):
        optimizer.apply_gradients([(tf.ones([2]), Renamed())])


# Conversion.


def test_a_live_optimizer_that_hides_its_state_is_not_converted(without):
    theirs = keras.optimizers.Adam(0.25)
    theirs.build(
        [tf.Variable([1.0], name="a") if not harness.IS_KERAS_3 else keras.Variable([1.0])]
    )
    name = "_trainable_variables" if harness.IS_KERAS_3 else "_index_dict"
    without(class_with(theirs, name), name)
    with missing(rf"Adam\.{name}", "convert the file"):
        tko.convert(theirs)
    without(class_with(theirs, "_learning_rate"), "_learning_rate")
    fresh = tko.convert(keras.optimizers.Adam(0.25))
    assert float(fresh.current_learning_rate) == 0.25


# All of it at once, from the start.

ALL = """
import warnings

import hiding
import tensorflow as tf

keras = tf.keras
legacy = keras.optimizers.Optimizer.__module__.startswith("tf_keras")
source = "tf_keras.src." if legacy else "keras.src."
python = "tensorflow.python."
hiding.hide(python + "ops.control_flow_util", "GraphOrParentsInXlaContext")
hiding.hide(python + "framework.op_callbacks", "should_invoke_op_callbacks")
hiding.hide(python + "distribute.ps_values", "AggregatingVariable")
hiding.hide(python + "saved_model.save_context", "in_save_context")
internal = ("AutoTrackable", "Trackable", "wrap", "no_automatic_dependency_tracking",
            "DelegatingTrackableMixin")
hiding.hide(tf.__internal__.tracking, *internal)
function = tf.function(lambda: 0).get_concrete_function()
hiding.hide(type(tf.constant(0)), "_shape_tuple")
hiding.hide(type(function), "_call_flat")
hiding.hide(type(function.graph), "capture_call_time_value", "function_captures")
hiding.hide(type(tf.Variable(0)), "_handle_name")
hiding.hide(tf.Graph, "_variable_creator_stack", "_add_control_inputs")
for name in ("_trackable_children", "_lookup_dependency", "_track_trackable",
             "_delete_tracking", "_handle_deferred_dependencies", "_deferred_dependencies",
             "_maybe_initialize_trackable"):
    for cls in tf.Module.__mro__[:-1]:
        if name in vars(cls) or cls is tf.Module:
            hiding.hide(cls, name)
hiding.hide(source + "saving.saving_lib", "load_weights_only")
if legacy:
    hiding.hide(source + "saving.legacy.saved_model.load", "load")
    hiding.hide(source + "mixed_precision.loss_scale_optimizer", "LossScaleOptimizerV3")
    hiding.hide(source + "optimizers", "convert_to_legacy_optimizer")
    hiding.hide(source + "engine.training", "lso")
else:
    hiding.hide(source + "optimizers", "ALL_OBJECTS_DICT")
    hiding.hide(source + "trainers.trainer", "LossScaleOptimizer")
for name in ("_symbolic_build", "_flatten_layers", "_compile_metrics", "_inputs_struct"):
    hiding.hide(keras.Model, name)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import tf_keras_optim as tko
texts = [str(one.message) for one in said if "tf_keras_optim uses" in str(one.message)]
assert len(texts) == (2 if legacy else 1), texts
warnings.simplefilter("ignore")
weights = [tf.Variable([1.0, -2.0]), tf.Variable(3.0)]
optimizer = tko.Adam(0.1, global_clipnorm=1.0)
for step in range(3):
    gradients = [tf.constant([0.5, step + 1.0]), tf.constant(-0.25)]
    optimizer.apply_gradients(zip(gradients, weights))
values = [*weights[0].numpy(), weights[1].numpy()]
print("moved", *(float(value) for value in values))
scaled = tko.LossScaleOptimizer(tko.SGD(0.5), initial_scale=8.0)
weight = tf.Variable(1.0)
scaled.minimize(lambda: 1.0 * weight, [weight])
print("scaled", float(weight.numpy()))
"""


def test_the_package_works_without_any_of_it(plain_moves):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", ALL],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    found = np.array(lines["moved"].split(), np.float32)
    np.testing.assert_array_equal(found, plain_moves)
    assert lines["scaled"] == "0.5"
