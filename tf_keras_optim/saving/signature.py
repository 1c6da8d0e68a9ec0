"""What goes into an exported model's steps, and what each input is called."""

import dataclasses
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

import tf_keras_optim.saving.default_labels as default_labels

WEIGHT = "sample_weight"
_KINDS = (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)


@dataclasses.dataclass(frozen=True)
class Specs:
    """Inputs of the steps.

    Attributes:
      x: the model's inputs, specs in their structure.
      y: the labels likewise, or `None` where the data has none.
      weight: the sample weights likewise, or `None`.
      names: names of the tensors in `x`, `y` and `weight`, in the order of `tf.nest`.
      all: every tensor by name.
    """

    x: Any
    y: Any
    weight: Any
    names: tuple[list[str], list[str], list[str]]
    all: dict[str, tf.TensorSpec]

    def inputs_of(self, given: Mapping[str, tf.Tensor]) -> Any:
        """Returns the model's inputs in their structure, from tensors by name."""
        return _packed(self.x, self.names[0], given)

    def data_of(self, given: Mapping[str, tf.Tensor]) -> tuple:
        """Returns a batch as a Keras step takes it, from tensors by name."""
        parts = zip((self.x, self.y, self.weight), self.names)
        return _without_end([_packed(part, names, given) for part, names in parts])

    @property
    def batch(self) -> tuple:
        """A batch of specs in place of tensors."""
        return _without_end([self.x, self.y, self.weight])


def _packed(part: Any, names: Sequence[str], given: Mapping[str, tf.Tensor]) -> Any:
    if part is None:
        return None
    tensors = iter([given[name] for name in names])
    places = tf.nest.flatten(part, expand_composites=True)
    flat = [None if place is None else next(tensors) for place in places]
    return tf.nest.pack_sequence_as(part, flat, expand_composites=True)


def _without_end(parts: list[Any]) -> tuple:
    while parts[-1] is None:
        parts.pop()
    return tuple(parts)


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
    together: dict[str, tf.TensorSpec] = {}
    names: list[list[str]] = []
    known = _input_names(model), list(getattr(model, "output_names", None) or ()), ()
    for plain, part, of_model in zip(("x", "y", WEIGHT), (x, y, weight), known):
        names.append([])
        leaves = {} if part is None else named(plain, part, of_model)
        if part is not None and not leaves:
            raise ValueError(
                f"`export_training`: `{plain}` of `input_signature` has no tensor in it. "
                f"Received: {part!r}. Leave it out, or give a tf.TensorSpec for each tensor."
            )
        for path, leaf in leaves.items():
            _check(path, leaf)
            for name, spec in components(path, leaf).items():
                if name in together:
                    raise ValueError(
                        f"`export_training`: two inputs of a step would be called {name!r}. "
                        "Give `x` or `y` of `input_signature` as a dict with names that differ."
                    )
                together[name] = tf.TensorSpec(spec.shape, spec.dtype, name)
                names[-1].append(name)
    return Specs(x, y, weight, (names[0], names[1], names[2]), together)


def named(plain: str, part: Any, of_model: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what is in a nest of dicts, lists and tuples, by name.

    The only one is called `plain`. In a dict, keys are names, joined by "_" where dicts or
    lists are nested; in a list, the model's names are, or the places after `plain`. Names of
    sample weights begin with `plain`. What is no name of an argument is made one by
    `argument`. A `None` in the nest has no name.

    Args:
      plain: the part's name.
      part: specs, tensors or arrays in their structure.
      of_model: names that the model gives to all that is in the part.
    """
    leaves = list(_leaves(part, ()))
    if isinstance(part, (list, tuple)) and len(of_model) == len(leaves):
        pairs = [(argument(plain, (name,)), leaf) for name, (_, leaf) in zip(of_model, leaves)]
    else:
        begin = () if isinstance(part, Mapping) and plain != WEIGHT else (plain,)
        pairs = [(argument(plain, (*begin, *path)), leaf) for path, leaf in leaves]
    found: dict[str, Any] = {}
    for name, leaf in pairs:
        if name in found:
            raise ValueError(
                f"`export_training`: two parts of `{plain}` would be called {name!r}. Give "
                "keys that differ when they are joined by '_', with '_' for what is no ASCII "
                "letter or digit."
            )
        found[name] = leaf
    return found


def argument(plain: str, path: Sequence[Any]) -> str:
    """Returns the name of an argument that stands for a path of keys and places.

    A name has ASCII letters, digits and "_" only, and begins with a letter, if need be with
    `plain`.
    """
    name = re.sub(r"\W", "_", "_".join(map(str, path)), flags=re.ASCII)
    taken = keyword.iskeyword(name) or name == "self"
    return f"{plain}_{name}" if taken or not name[:1].isalpha() else name


def _leaves(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields what is in a nest with its path, in the order of `tf.nest`."""
    if isinstance(part, Mapping):
        if len({isinstance(key, str) for key in part}) > 1:
            raise ValueError(
                f"`export_training`: the keys {list(part)} of `input_signature` have no order. "
                "Let all keys of a dict be strings, or all numbers."
            )
        for key in sorted(part):
            yield from _leaves(part[key], (*path, key))
    elif isinstance(part, (list, tuple)):
        for place, value in enumerate(part):
            yield from _leaves(value, (*path, place))
    elif part is not None or not path:
        yield path, part


def components(name: str, value: Any) -> dict[str, Any]:
    """Returns the tensors, or their specs, that a tensor consists of, by name.

    A ragged one has NAME_values and NAME_row_splits (NAME_row_splits_0, ... where there are
    several), a sparse one NAME_indices, NAME_values and NAME_dense_shape.
    """
    if isinstance(value, (tf.RaggedTensor, tf.RaggedTensorSpec)):
        count = value.ragged_rank
        splits = ["row_splits"] if count == 1 else [f"row_splits_{i}" for i in range(count)]
        ends = ["values", *splits]
    elif isinstance(value, (tf.SparseTensor, tf.SparseTensorSpec)):
        ends = ["indices", "values", "dense_shape"]
    else:
        return {name: value}
    parts = tf.nest.flatten(value, expand_composites=True)
    return {f"{name}_{end}": part for end, part in zip(ends, parts)}


def _check(name: str, spec: Any) -> None:
    if not isinstance(spec, _KINDS):
        raise ValueError(
            f"`export_training`: input {name!r} of `input_signature` must be a tf.TensorSpec, "
            f"tf.RaggedTensorSpec or tf.SparseTensorSpec. Received: {spec!r}. For a shape give "
            "tf.TensorSpec(shape, dtype), for a tensor or array "
            "tf.type_spec_from_value(value), for anything else the tensors in it."
        )


def _parts(model: Any, given: Any) -> tuple[Any, Any, Any]:
    if given is None:
        return _default_inputs(model), default_labels.specs_of(model), None
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


def _input_names(model: Any) -> list[str]:
    names = getattr(model, "input_names", None)  # Keras 2
    if names is None:
        names = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    return list(names)


def _default_inputs(model: Any) -> Any:
    inputs = default_labels.structure(model, "inputs")
    if inputs is None:
        raise ValueError(
            f"`export_training`: model {model.name!r} does not say what its inputs are. Pass "
            "`input_signature=(x, y)` of tf.TensorSpec, e.g. `dataset.element_spec`."
        )
    return tf.nest.map_structure(default_labels.spec_of, inputs)
