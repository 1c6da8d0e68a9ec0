"""Private API of the running Keras, Keras 3 or tf_keras; nothing else in the package uses it.

A name that Keras has moved or dropped fails no import: each function looks for what it needs
when it is called, and says what happens without.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import missing
from tf_keras_optim.keras_compat.running import keras

IS_KERAS_3 = not keras.__name__.startswith("tf_keras")
_LIBRARY = "Keras" if IS_KERAS_3 else "tf_keras"


def _module(name: str) -> Any:
    """Returns one of the running Keras' modules below `src`, or `None`."""
    root = "keras" if IS_KERAS_3 else "tf_keras"
    try:
        return importlib.import_module(f"{root}.src.{name}")
    except ImportError:
        return None


def error(name: str, consequence: str) -> RuntimeError:
    """Returns the error about a name that the running Keras no longer has."""
    return missing.error(_LIBRARY, keras.__version__, name, consequence)


def replace(module: str, name: str, made: Callable[[Any], Any], consequence: str) -> None:
    """Replaces a function of Keras' by what `made` makes of it.

    Needs that function in that module. Without it there is one warning, when this package is
    imported.

    Args:
      module: the module below `src`.
      name: the function's name there.
      made: returns what takes its place.
      consequence: what cannot be done without, for the warning.
    """
    holder = _module(module)
    original = getattr(holder, name, None)
    if original is None:
        lacking = f"{_LIBRARY.lower()}.src.{module}.{name}"
        text = missing.text(_LIBRARY, keras.__version__, lacking, consequence)
        warnings.warn(text, stacklevel=3)
        return
    setattr(holder, name, made(original))


# Strings and wrappers in `compile`.


def strings() -> MutableMapping[str, Any] | None:
    """Returns the table in which the running Keras looks strings up.

    Keras 3 knows the names of `model.compile` only from a table of its own; in Keras 2 the
    table of registered objects, which is public, comes first.

    Needs `keras.src.optimizers.ALL_OBJECTS_DICT`. Without it the answer is `None`: strings mean
    Keras' own optimizers, and Keras says that it does not know "tf_keras_optim>Adam".
    """
    if not IS_KERAS_3:
        return keras.saving.get_custom_objects()
    return getattr(_module("optimizers"), "ALL_OBJECTS_DICT", None)


def required_strings() -> MutableMapping[str, Any]:
    """Returns what `strings` does.

    Raises:
      RuntimeError: there is no such table.
    """
    found = strings()
    if found is None:
        consequence = (
            "`install` cannot make strings mean this package. Give `compile` an optimizer, "
            "`tko.Adam()`."
        )
        raise error("optimizers.ALL_OBJECTS_DICT", consequence)
    return found


def automatic_wrapper() -> tuple[Any, str]:
    """Returns the object and the attribute by which `compile` finds the wrapper for float16.

    Needs `trainer.LossScaleOptimizer` of Keras 3, `training.lso` of Keras 2.

    Raises:
      RuntimeError: there is none.
    """
    module, name = ("trainers.trainer", "LossScaleOptimizer")
    if not IS_KERAS_3:
        module, name = ("engine.training", "lso")
    holder = _module(module)
    if not hasattr(holder, name):
        consequence = (
            "`install` cannot make `compile` wrap optimizers in this package's "
            "LossScaleOptimizer. Give `compile` an optimizer, "
            "`tko.LossScaleOptimizer(tko.Adam())`."
        )
        raise error(f"{module}.{name}", consequence)
    return holder, name


def loss_scale_class() -> Any:
    """Returns the class of Keras 2's wrapper around new optimizers.

    Needs `loss_scale_optimizer.LossScaleOptimizerV3`. Without it the class is found among the
    subclasses of what is public, `tf_keras.mixed_precision.LossScaleOptimizer`.

    Raises:
      RuntimeError: there is none.
    """
    module = _module("mixed_precision.loss_scale_optimizer")
    found = getattr(module, "LossScaleOptimizerV3", None)
    if found is not None:
        return found
    for cls in keras.mixed_precision.LossScaleOptimizer.__subclasses__():
        if issubclass(cls, keras.optimizers.Optimizer):
            return cls
    consequence = (
        "tf_keras_optim has no LossScaleOptimizer to offer `compile`, and cannot be used."
    )
    raise error("loss_scale_optimizer.LossScaleOptimizerV3", consequence)


def replace_legacy_conversion(made: Callable[[Any], Any]) -> None:
    """Replaces Keras 2's `convert_to_legacy_optimizer`, wherever it has been imported.

    Needs that function in `tf_keras.__internal__.optimizers` or `tf_keras.src.optimizers`.
    Without it nothing is replaced, and what stands in its place says by itself that it does not
    know an argument.
    """
    name, original = "convert_to_legacy_optimizer", None
    for module in ("tf_keras.__internal__.optimizers", "tf_keras.src.optimizers"):
        try:
            original = getattr(importlib.import_module(module), name, original)
        except ImportError:
            continue
    if original is None:
        return
    replacement = made(original)
    for holder in list(sys.modules.values()):
        if vars(holder).get(name) is original:
            setattr(holder, name, replacement)


# Models.


def structure(model: Any, part: str) -> Any:
    """Returns a model's symbolic inputs or outputs in their structure, `None` without any.

    Needs `Functional._inputs_struct` and `_outputs_struct` of Keras 3, `_nested_inputs` and
    `_nested_outputs` of Keras 2. Without them `model.input` and `model.output` tell, which not
    every model has; where they do not, the structure is flat.

    Args:
      model: a Keras model.
      part: "inputs" or "outputs".
    """
    for attribute in (f"_{part}_struct", f"_nested_{part}"):
        found = getattr(model, attribute, None)
        if found is not None:
            return found
    flat = getattr(model, part, None)
    if flat is None:
        return None
    try:
        found = getattr(model, part.removesuffix("s"), None)
    except (ValueError, RuntimeError):
        found = None
    return flat if found is None else found


def metrics_want_all_labels(model: Any) -> bool:
    """Says whether a compiled model's metrics want labels for every output, as in Keras 3.

    Needs `Trainer._compile_metrics`. Without it the model's compile config tells.
    """
    if not IS_KERAS_3:
        return False
    if hasattr(model, "_compile_metrics"):
        return model._compile_metrics is not None
    config = model.get_compile_config() or {}
    return any(config.get(name) is not None for name in ("metrics", "weighted_metrics"))


def build_metrics(model: Any, batch: Any) -> None:
    """Makes the variables of a model's metrics and losses, which Keras 2 needs not.

    Needs `Trainer._symbolic_build`. Without it the model is evaluated on one batch of zeros,
    and the metrics get the values back that they had.

    Args:
      model: a compiled model.
      batch: specs of inputs, labels and weights, as a data set's elements.

    Raises:
      RuntimeError: there is no `_symbolic_build`, and the batch has more than dense tensors. As
        `_symbolic_build` where that cannot build.
    """
    if not IS_KERAS_3:
        return
    try:
        build = model._symbolic_build
    except AttributeError:
        _evaluate(model, batch)
    else:
        build(data_batch=batch)


def _evaluate(model: Any, batch: Any) -> None:
    def zeros(spec: Any) -> Any:
        if not isinstance(spec, tf.TensorSpec):
            consequence = (
                "`export_training` cannot make the variables of metrics for ragged or sparse "
                "batches. Give a signature of dense ones."
            )
            raise error("Trainer._symbolic_build", consequence)
        return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

    given = [
        None if part is None else tf.nest.map_structure(zeros, part) for part in tuple(batch)
    ]
    before = [(v, v.numpy()) for metric in model.metrics for v in metric.variables]
    model.test_on_batch(*given)
    model.reset_metrics()
    for variable, value in before:
        variable.assign(value)


def layers(model: Any) -> Iterator[Any]:
    """Yields a model and all layers in it.

    Needs `Layer._flatten_layers`. Without it layers are looked for in the attributes of layers.
    """
    try:
        flatten = model._flatten_layers
    except AttributeError:
        yield from _layers_within(model, set())
    else:
        yield from flatten()


def _layers_within(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, keras.layers.Layer):
        yield value
        parts = [*vars(value).values(), *getattr(value, "layers", ())]
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    for part in parts:
        yield from _layers_within(part, seen)
