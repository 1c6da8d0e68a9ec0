"""What a model says about its inputs, and about its labels by its outputs and losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.keras_compat import keras_private


def structure(model: Any, part: str) -> Any:
    """Returns a model's symbolic inputs or outputs in their structure.

    Args:
      model: a Keras model.
      part: "inputs" or "outputs".

    Returns:
      The structure, a tensor for a list of one; `None` if the model does not say.
    """
    found = keras_private.structure(model, part)
    if isinstance(found, (list, tuple)) and len(found) == 1 and not tf.nest.is_nested(found[0]):
        found = found[0]
    return found if found is not None and tf.nest.flatten(found) else None


def spec_of(tensor: Any) -> Any:
    """Returns the spec of batches of any size for a symbolic tensor of Keras."""
    spec = getattr(tensor, "type_spec", None)  # Keras 2
    shape = [None, *tf.TensorShape(tensor.shape)[1:]]
    dtype = getattr(tensor.dtype, "name", tensor.dtype)
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec(shape, dtype, spec.ragged_rank, spec.row_splits_dtype)
    if isinstance(spec, tf.SparseTensorSpec) or getattr(tensor, "sparse", False):
        return tf.SparseTensorSpec(shape, dtype)
    if getattr(tensor, "ragged", False):
        return tf.RaggedTensorSpec(shape, dtype, getattr(tensor, "ragged_rank", None) or 1)
    return tf.TensorSpec(shape, dtype)


def specs_of(model: Any) -> Any:
    """Returns specs of the labels that the losses of a model expect, like its outputs.

    Raises:
      ValueError: they cannot be told.
    """
    outputs = structure(model, "outputs")
    names = list(getattr(model, "output_names", None) or ())
    losses = None if outputs is None else _per_output(model.loss, outputs, names)
    if losses is None:
        raise ValueError(
            f"`export_training`: the labels of model {model.name!r} cannot be told from its "
            "outputs and losses. Pass `input_signature=(x, y)` of tf.TensorSpec, e.g. "
            "`dataset.element_spec`."
        )
    flat = tf.nest.flatten(outputs)
    specs = [_label(output, loss) for output, loss in zip(flat, losses)]
    # Metrics of Keras 3 want labels for every output.
    needs_all = model.loss is None or keras_private.metrics_want_all_labels(model)
    kept = [needs_all or loss is not None for loss in losses]
    packed = tf.nest.pack_sequence_as(outputs, list(zip(specs, kept)))
    return _kept(packed, outputs)


def _kept(packed: Any, outputs: Any) -> Any:
    """Leaves out what a dict has for outputs without a loss; a list needs all."""
    if isinstance(outputs, Mapping):
        used = [key for key in outputs if not _is_unused(packed[key], outputs[key])]
        return {key: _kept(packed[key], outputs[key]) for key in used}
    if isinstance(outputs, (list, tuple)):
        return [_kept(*both) for both in zip(packed, outputs)]
    return packed[0]


def _is_unused(packed: Any, output: Any) -> bool:
    if isinstance(output, Mapping):
        return all(_is_unused(packed[key], output[key]) for key in output)
    if isinstance(output, (list, tuple)):
        return all(_is_unused(*both) for both in zip(packed, output))
    return not packed[1]


def _label(output: Any, loss: Any) -> tf.TensorSpec:
    spec = spec_of(output)
    if _is_sparse(loss):
        return tf.TensorSpec([None, *spec.shape[1:-1]], tf.int64)
    return spec


def _is_sparse(loss: Any) -> bool:
    """Says whether a loss takes the numbers of classes."""
    if isinstance(loss, (list, tuple)):
        return any(map(_is_sparse, loss))
    function = getattr(loss, "fn", loss)  # of a loss that Keras makes from a function
    names = [getattr(loss, "name", ""), getattr(function, "__name__", ""), type(loss).__name__]
    names += [loss] if isinstance(loss, str) else []
    return any("sparse" in str(name).lower() for name in names)


def _per_output(loss: Any, outputs: Any, names: Sequence[str]) -> list[Any] | None:
    """Returns the loss of each output in the order of `tf.nest`, or `None` if unclear.

    Args:
      loss: as it was given to `compile`: one for all outputs, or some by name or place.
      outputs: the outputs in their structure.
      names: what the model calls them, in the same order.
    """
    count = len(tf.nest.flatten(outputs))
    if isinstance(loss, Mapping):
        if isinstance(outputs, Mapping):
            return _by_key(loss, outputs, names)
        if len(names) == count and set(loss) <= set(names):
            return [loss.get(name) for name in names]
        return list(loss.values()) if count == len(loss) == 1 else None
    if not isinstance(loss, (list, tuple)):
        return [loss] * count
    if count == 1:  # all of them look at the one output
        return [loss]
    if isinstance(outputs, (list, tuple)) and len(loss) == len(outputs):
        return _joined([_per_output(*both, ()) for both in zip(loss, outputs)])
    return list(loss) if len(loss) == count else None


def _by_key(
    loss: Mapping[str, Any], outputs: Mapping[str, Any], names: Sequence[str]
) -> list[Any] | None:
    parts: list[list[Any] | None] = []
    place = 0
    for key in sorted(outputs):
        count = len(tf.nest.flatten(outputs[key]))
        own = list(names[place : place + count])
        place += count
        if key in loss:
            parts.append(_per_output(loss[key], outputs[key], own))
        else:
            parts.append([loss.get(own[i]) if i < len(own) else None for i in range(count)])
    known = {*outputs, *names}
    return _joined(parts) if set(loss) <= known else None


def _joined(parts: Sequence[list[Any] | None]) -> list[Any] | None:
    if any(part is None for part in parts):
        return None
    return [loss for part in parts if part is not None for loss in part]
