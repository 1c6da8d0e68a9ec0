"""What goes into an exported model's steps, and what each input is called."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

WEIGHT = "sample_weight"


@dataclasses.dataclass(frozen=True)
class Specs:
    """Inputs of the steps.

    Attributes:
      x: the model's inputs by name, in order; the only one is called "x".
      y: labels by name, in order; empty where the data has none.
      weight: whether there are sample weights.
      structures: what `x` and `y` are: `None` for a tensor, else `dict`, `list` or `tuple`.
      all: every input by name.
    """

    x: dict[str, tf.TensorSpec]
    y: dict[str, tf.TensorSpec]
    weight: bool
    structures: tuple[Any, Any]
    all: dict[str, tf.TensorSpec]

    def inputs_of(self, given: Mapping[str, tf.Tensor]) -> Any:
        """Returns the model's inputs in their structure, from tensors by name."""
        return _structured([given[name] for name in self.x], self.x, self.structures[0])

    def data_of(self, given: Mapping[str, tf.Tensor]) -> tuple:
        """Returns a batch as a Keras step takes it, from tensors by name."""
        x = self.inputs_of(given)
        if not self.y:
            return (x,)
        y = _structured([given[name] for name in self.y], self.y, self.structures[1])
        return (x, y, given[WEIGHT]) if self.weight else (x, y)


def _structured(values: list, names: Mapping[str, Any], kind: Any) -> Any:
    if kind is None:
        return values[0]
    return dict(zip(names, values)) if kind is dict else kind(values)


def specs_of(model: Any, given: Any) -> Specs:
    """Returns the inputs of a model's steps.

    Args:
      model: a built Keras model.
      given: as `export_training` documents it.

    Raises:
      ValueError: it is something else, cannot be told from the model, or two inputs have
        one name.
    """
    x, y, weight = _parts(model, given)
    names = _names(model, "input_names"), _names(model, "output_names")
    inputs, kind_x = _named("x", x, names[0])
    labels, kind_y = _named("y", y, names[1]) if y is not None else ({}, None)
    together: dict[str, tf.TensorSpec] = {}
    weights = {} if weight is None else {WEIGHT: weight}
    for name, spec in [*inputs.items(), *labels.items(), *weights.items()]:
        if name in together:
            raise ValueError(
                f"`export_training`: two inputs of a step would be called {name!r}. Give "
                "`x` or `y` of `input_signature` as a dict with names that differ."
            )
        together[name] = tf.TensorSpec(spec.shape, spec.dtype, name)
    return Specs(inputs, labels, weight is not None, (kind_x, kind_y), together)


def _parts(model: Any, given: Any) -> tuple[Any, Any, Any]:
    if given is None:
        return _default_inputs(model), _default_labels(model), None
    if isinstance(given, Mapping) and "x" in given and set(given) <= {"x", "y", WEIGHT}:
        return given["x"], given.get("y"), given.get(WEIGHT)
    if isinstance(given, (tuple, list)) and 1 <= len(given) <= 3:
        x, y, weight = (*given, None, None)[:3]
        return x, y, weight
    raise ValueError(
        "`export_training`: argument `input_signature` must be (x, y) or (x, y, "
        "sample_weight) of tf.TensorSpec, e.g. `dataset.element_spec`, or a dict with these "
        f"keys. Received: {given!r}."
    )


def _names(model: Any, attribute: str) -> list[str]:
    return list(getattr(model, attribute, None) or ())


def _named(
    plain: str, part: Any, names: Sequence[str]
) -> tuple[dict[str, tf.TensorSpec], type | None]:
    """Returns specs by name, and what held them."""
    kind: type | None
    if isinstance(part, Mapping):
        found, kind = dict(part), dict
    elif isinstance(part, (list, tuple)):
        if len(names) != len(part):
            names = [f"{plain}_{i}" for i in range(len(part))]
        found, kind = dict(zip(names, part)), type(part)
    else:
        found, kind = {plain: part}, None
    for name, spec in found.items():
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                f"`export_training`: input {name!r} of `input_signature` must be a "
                f"tf.TensorSpec. Received: {spec!r}."
            )
    return found, kind


def _spec(tensor: Any, shape: Any = None) -> tf.TensorSpec:
    shape = tf.TensorShape(tensor.shape) if shape is None else shape
    return tf.TensorSpec([None, *shape[1:]], getattr(tensor.dtype, "name", tensor.dtype))


def _map(function: Any, part: Any) -> Any:
    """Applies a function to the tensors of a dict, list or tuple, or to a tensor."""
    if isinstance(part, Mapping):
        return {name: function(tensor) for name, tensor in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(map(function, part))
    return function(part)


def _default_inputs(model: Any) -> Any:
    inputs = getattr(model, "_inputs_struct", None) or getattr(model, "_nested_inputs", None)
    if inputs is None:
        inputs = getattr(model, "inputs", None)
        inputs = inputs[0] if inputs and len(inputs) == 1 else inputs
    if not _is_defined(inputs):
        raise ValueError(
            f"`export_training`: model {model.name!r} does not say what its inputs are. Pass "
            "`input_signature=(x, y)` of tf.TensorSpec, e.g. `dataset.element_spec`."
        )
    return _map(_spec, inputs)


def _is_defined(part: Any) -> bool:
    values = part.values() if isinstance(part, Mapping) else part
    return bool(values) if isinstance(part, (Mapping, list, tuple)) else part is not None


def _default_labels(model: Any) -> Any:
    outputs = getattr(model, "_outputs_struct", None) or getattr(model, "_nested_outputs", None)
    if outputs is None:
        outputs = model.outputs
        outputs = outputs[0] if len(outputs) == 1 else outputs
    loss = model.loss
    if isinstance(loss, (Mapping, list, tuple)) or not _is_single(outputs):
        raise ValueError(
            f"`export_training`: the labels of model {model.name!r}, which has several outputs "
            "or losses, cannot be told. Pass `input_signature=(x, y)` of tf.TensorSpec, e.g. "
            "`dataset.element_spec`."
        )
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None) or str(loss)
    if "sparse" in name.lower():
        return tf.TensorSpec([None, *tf.TensorShape(outputs.shape)[1:-1]], tf.int64)
    return _spec(outputs)


def _is_single(outputs: Any) -> bool:
    return not isinstance(outputs, (Mapping, list, tuple))
