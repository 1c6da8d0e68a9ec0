"""SavedModels that continue training with TensorFlow alone."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.checkpoint_functions as checkpoint_functions
import tf_keras_optim.saving.checksums as checksums
import tf_keras_optim.saving.signature as signature
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.state.paths import by_path
from tf_keras_optim.engine.step import late_rates, watch
from tf_keras_optim.engine.tensorflow import missing, placement
from tf_keras_optim.engine.tensorflow.tensorflow_private_tracking import keep_untracked
from tf_keras_optim.engine.update import kernels
from tf_keras_optim.keras_compat import keras_private
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.saving.training_steps import Steps
from tf_keras_optim.saving.turns import TURN

_MARK = "saved_model.pb"  # a directory that has it may be replaced


def export_training(
    model: Any,
    path: str | os.PathLike,
    loss: Any = None,
    input_signature: Any = None,
    jit_compile: bool | None = None,
) -> None:
    """Writes a SavedModel that contains the training step; the write is atomic.

    `tf.saved_model.load` reads it in a process that has neither this package nor Keras. The
    functions in `loaded.signatures`, which are also attributes of `loaded`, continue training:

    - `train` takes a batch, returns `loss` (before the update) and metrics, and updates all
      state. It puts the trained weights in place;
    - `evaluate` has the same inputs and outputs, without an update;
    - `infer` takes the model's inputs and returns its outputs. `evaluate` and `infer` put the
      evaluation weights in place, if there are such;
    - `save` and `restore` write weights and state to a checkpoint at the prefix `path`, and
      read them. A new prefix for each save makes it atomic. `tko.load_state` reads it too;
    - `get_learning_rate`; `set_learning_rate`, unless the rate is a callable of your own: with
      a schedule it sets the factor by which the rate is the given number now;
    - `reset_optimizer` (keeps the learning rate); `reset_metrics` (metrics else accumulate).

    Inputs are named `x`, `y` and, if the signature has it, `sample_weight`. If `x` or `y` is a
    dict, its keys are the names; if it is a list, the names of the model's inputs or outputs
    are. The name of a nested input joins the keys and positions on its path by "_" ("image_0"),
    after "sample_weight" for weights. Characters other than ASCII letters and digits become
    "_". A ragged tensor is passed as NAME_values and NAME_row_splits, a sparse one as
    NAME_indices, NAME_values and NAME_dense_shape. In Keras 2 the state of random layers is
    part of the model after `tf.keras.backend.experimental.enable_tf_random_generator()`.

    A call of `train` that raises (a label out of range, an assertion) has changed no trained
    weight and no state of the optimizer. Moving averages of BatchNormalization, random
    generators and metrics may have changed. A step that XLA compiles as a whole raises nothing:
    a label out of range gives a loss of NaN, and `skip_nonfinite` skips the step.

    Args:
      model: a built and compiled model with an optimizer of this package and one replica.
      path: the directory to write. An exported model or empty directory there is replaced.
      loss: function of labels and outputs that returns a tensor of losses, in place of the
        compiled loss and metrics. Its mean and the model's own regularization are minimized.
      input_signature: `(x, y)` or `(x, y, sample_weight)`, or a dict with these keys, of
        `tf.TensorSpec`, `tf.RaggedTensorSpec` or `tf.SparseTensorSpec`, nested like the data,
        e.g. `dataset.element_spec`. By default it follows from the model's inputs and from the
        labels that its losses expect, for batches of any size.
      jit_compile: whether XLA compiles the three steps. With False it compiles no kernel of
        the optimizer either. By default as the model was compiled.

    Raises:
      TypeError: the model has no optimizer of this package.
      ValueError: the model is not built or compiled, or has several replicas; the signature
        cannot be inferred; or `path` is something else.
    """
    _check(model)
    atomic.check_directory(path, _MARK)
    specs = signature.specs_of(model, input_signature)
    compiled = jit_compile is not False
    with TURN, placement.portable(), _tracing(model.optimizer, compiled):
        module = _module(model, specs, loss, jit_compile)
        write_directory(module, module.traced, path)


def write_directory(module: Any, signatures: dict[str, Any], path: str | os.PathLike) -> None:
    """Writes a SavedModel and the checksums of its files atomically.

    Args:
      module: what to save.
      signatures: its functions by name.
      path: the directory to write, or to replace if it has a SavedModel.
    """
    with atomic.replaced_directory(path, _MARK) as directory:
        tf.saved_model.save(module, str(directory), signatures=signatures)
        checksums.write(directory)


def _check(model: Any) -> None:
    optimizer = getattr(model, "optimizer", None)
    if not isinstance(optimizer, (Optimizer, LossScaleOptimizer)):
        raise TypeError(
            "`export_training` takes a model compiled with an optimizer of tf_keras_optim. "
            f"The optimizer of {model.name!r} is {optimizer!r}. Compile it with one; "
            "`tf_keras_optim.convert` takes over the state of Keras' own."
        )
    if not model.built:
        raise ValueError(
            f"`export_training`: model {model.name!r} is not built, so it has no weights yet. "
            "Call it on a batch, or train it, first."
        )
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"`export_training`: model {model.name!r} has {replicas} replicas. Write its state "
            "with `save_state(path, optimizer, model.variables)`, load it into the same model "
            "made outside the strategy, and export that."
        )


@contextlib.contextmanager
def _tracing(optimizer: Any, compiled: bool) -> Iterator[None]:
    """Traces without compiled kernels if `compiled` is False; restores the optimizer's flag."""
    traces = _inner(optimizer).tko.traces
    before = traces.in_graph
    uncompiled = contextlib.nullcontext() if compiled else kernels.uncompiled()
    with uncompiled, late_rates.fixed(), watch.unwatched():
        try:
            yield
        finally:
            traces.in_graph = before


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


class _Module(tf.Module):
    """The object that is saved: traced functions, and the variables that they use, by name."""

    def __init__(self) -> None:
        super().__init__(name="training")
        self._functions: dict[str, Any]
        keep_untracked(self, "_functions", {})
        self.weights: dict[str, tf.Variable] = {}
        self.state: dict[str, tf.Variable] = {}
        self.resources: list[Any] = []
        self.names: Any = None  # names of the inputs in the order of the data

    @property
    def traced(self) -> dict[str, Any]:
        """The functions by name."""
        return dict(self._functions)

    def add(self, name: str, body: Any, specs: dict[str, Any], compiled: bool = False) -> Any:
        """Traces a function and adds it."""
        function = tf.function(body, jit_compile=compiled or None, autograph=False)
        if compiled:
            function = tf.function(self._beside_weights(function), autograph=False)
        self._functions[name] = function.get_concrete_function(**specs)
        setattr(self, name, function)

    def _beside_weights(self, function: Any) -> Any:
        """Returns a function that is called on the device of the state."""

        def call(**inputs: tf.Tensor) -> Any:
            with placement.beside(next(iter(self.state.values()))):
                return function(**inputs)

        return call


def _module(model: Any, specs: signature.Specs, loss: Any, jit_compile: bool | None) -> _Module:
    module, optimizer = _Module(), model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.get_weights()  # state that was loaded before its slots is in place now
    if _inner(optimizer).tko.store.evaluating is not None:
        evaluation.make_all(_inner(optimizer).tko.context)  # what the steps exchange
    with _explained(model, specs):
        _build_metrics(model, specs)
    native = _inner(optimizer).tko.keras.unwrap
    module.weights = {name: native(v) for name, v in by_path(model.variables).items()}
    module.state = dict(_inner(optimizer).tko.store.named)
    steps = Steps(model, specs, loss)
    compiled = bool(model.jit_compile if jit_compile is None else jit_compile)
    with _explained(model, specs):
        module.add("train", steps.train, specs.all, compiled)
        module.add("evaluate", steps.evaluate, specs.all, compiled)
    order = dict(zip(("x", "y", signature.WEIGHT), specs.names))
    module.names = tf.function(
        lambda: {part: tf.constant(names, tf.string) for part, names in order.items()}
    )
    module.names.get_concrete_function()
    with _explained(model, specs):
        module.add("infer", steps.infer, {n: specs.all[n] for n in specs.names[0]}, compiled)
    _add_small_functions(module, model)
    metrics = [native(v) for metric in model.metrics for v in metric.variables]
    others = _others(module, metrics)
    module.resources = [*metrics, *others.values(), *_tables(model)]
    checkpoint = checkpoint_functions.Functions(_inner(optimizer), module.weights, others)
    path = {"path": tf.TensorSpec([], tf.string, "path")}
    module.add("save", checkpoint.save, path)
    module.add("restore", checkpoint.restore, path)
    return module


@contextlib.contextmanager
def _explained(model: Any, specs: signature.Specs) -> Iterator[None]:
    """Adds the inputs that a model was traced with, and a remedy, to an error of tracing."""
    try:
        yield
    except missing.PrivateApiError:
        raise
    except Exception as error:
        if str(error).startswith("`export_training`"):
            raise
        parts = zip(("x", "y", signature.WEIGHT), (specs.x, specs.y, specs.weight))
        raise ValueError(
            f"`export_training`: the steps of model {model.name!r} cannot be traced with "
            f"{', '.join(f'{name}={part}' for name, part in parts)}: "
            f"{type(error).__name__}: {error}\nGive the `input_signature` of batches that "
            "`train_on_batch` takes. Where a layer, loss or metric takes no ragged or sparse "
            "tensor, make it dense in the model (`to_tensor`, `tf.sparse.to_dense`), or in the "
            "data and give a tf.TensorSpec."
        ) from error


def _build_metrics(model: Any, specs: signature.Specs) -> None:
    """Makes the metrics' variables; Keras 3 makes them outside functions only."""
    if not keras_private.IS_KERAS_3 or not model.compiled:
        return
    given = {signature.WEIGHT: specs.weight, "y": specs.y, "x": specs.x}
    for name, part in given.items():
        if any(s is not None and s.shape.rank is None for s in tf.nest.flatten(part)):
            raise ValueError(
                f"`export_training`: `{name}` of `input_signature` has a tensor of unknown "
                f"rank, which Keras 3 does not take. Received: {part}. Give a shape, with "
                "`None` for each dimension that varies."
            )
    try:
        keras_private.build_metrics(model, specs.batch)
    except missing.PrivateApiError:
        raise
    except RuntimeError:
        # Keras tries dense tensors, and one argument; the model's own step may give others.
        kinds = (tf.TensorSpec, type(None))
        dense = all(isinstance(spec, kinds) for spec in tf.nest.flatten(specs.x))
        if dense and type(model).train_step is keras.Model.train_step:
            raise


def _add_small_functions(module: _Module, model: Any) -> None:
    optimizer = _inner(model.optimizer)
    parts = optimizer.tko

    def get_learning_rate() -> dict[str, tf.Tensor]:
        return {"learning_rate": parts.rate.at(parts.counter.updates())}

    def set_learning_rate(learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        parts.rate.assign(learning_rate)
        return get_learning_rate()

    def reset_optimizer() -> dict[str, tf.Tensor]:
        optimizer.reset_state()
        return {"iterations": parts.store.iterations.read_value()}

    def reset_metrics() -> dict[str, tf.Tensor]:
        model.reset_metrics()
        return {"iterations": parts.store.iterations.read_value()}

    module.add("get_learning_rate", get_learning_rate, {})
    if parts.rate.can_be_set():
        rate = {"learning_rate": tf.TensorSpec([], tf.float32, "learning_rate")}
        module.add("set_learning_rate", set_learning_rate, rate)
    module.add("reset_optimizer", reset_optimizer, {})
    module.add("reset_metrics", reset_metrics, {})


def _others(module: _Module, metrics: list[tf.Variable]) -> dict[str, tf.Variable]:
    """Returns the other variables of the functions, such as the state of random generators."""
    named = [*module.weights.values(), *module.state.values(), *metrics]
    known = {id(variable) for variable in named}
    found: dict[str, tf.Variable] = {}
    for function in module.traced.values():
        for variable in function.graph.variables:
            if id(variable) not in known:
                known.add(id(variable))
                found[f"{len(found)}_{variable.name.split(':')[0]}"] = variable
    return found


def _tables(model: Any) -> list[Any]:
    """Returns the look-up tables of preprocessing layers."""
    kind = tf.saved_model.experimental.TrackableResource
    parts = [vars(layer).values() for layer in keras_private.layers(model)]
    return [value for values in parts for value in values if isinstance(value, kind)]
