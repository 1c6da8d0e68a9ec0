"""Training an exported model: what its signatures offer, as one object."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.checkpoint_functions as checkpoint_functions
import tf_keras_optim.saving.checksums as checksums
import tf_keras_optim.saving.damage as damage
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.saving.export import write_directory
from tf_keras_optim.saving.signature import WEIGHT, argument, components

_NEEDED = ("train", "evaluate", "infer", "save", "restore", "reset_optimizer", "reset_metrics")


def load_training(path: str | os.PathLike) -> "ExportedModel":
    """Reads a model that `export_training` wrote, after checking every file.

    Args:
      path: its directory.

    Returns:
      An object that trains it.

    Raises:
      FileNotFoundError: there is no SavedModel.
      ValueError: it is damaged, or was not written by `export_training`.
    """
    loaded = _loaded(path)
    missing = [name for name in _NEEDED if name not in loaded.signatures]
    if missing:
        raise ValueError(
            f"{str(path)!r} was not written by `export_training`: it has no signature "
            f"{', '.join(missing)}, but {sorted(loaded.signatures)}."
        )
    return ExportedModel(loaded)


def _loaded(path: str | os.PathLike) -> Any:
    """Reads a directory, from its start if another process has replaced it meanwhile."""
    while True:
        before = _identity(path)
        if before is None:
            raise FileNotFoundError(f"There is no SavedModel at {str(path)!r}.")
        try:
            loaded = _checked(path)
        except (OSError, ValueError):
            if before == _identity(path):
                raise
        else:
            if before == _identity(path):
                return loaded


def _identity(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Returns what tells a SavedModel from another one that takes its place."""
    directory = atomic.present(path)
    try:
        (directory / "saved_model.pb").stat()
        found = directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _checked(path: str | os.PathLike) -> Any:
    """Reads a directory after checking its files."""
    with damage.explained(path, "as an exported model"):
        checksums.verify(pathlib.Path(path))
        return tf.saved_model.load(str(path))


class ExportedModel:
    """A model of `export_training`, to be trained, evaluated and saved.

    Data are arrays or tensors, ragged or sparse ones too, with the batch first. Where the
    model has several inputs or outputs they are dicts with the names of the signature
    (`input_names`, `label_names`), or nested as the names are.

    Args:
      loaded: what `tf.saved_model.load` returned.

    Attributes:
      loaded: the same.
      input_names: the model's inputs.
      label_names: the labels.
      weight_names: the sample weights.
      weighted: whether steps take sample weights.
    """

    def __init__(self, loaded: Any):
        self.loaded = loaded
        self._functions = dict(loaded.signatures)
        self._specs = {
            name: function.structured_input_signature[1]
            for name, function in self._functions.items()
        }
        self.input_names = sorted(self._specs["infer"])
        others = set(self._specs["train"]) - set(self.input_names)
        self.weight_names = sorted(name for name in others if name.startswith(WEIGHT))
        self.label_names = sorted(others - set(self.weight_names))
        self.weighted = bool(self.weight_names)
        self._order = _order(loaded)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict:
        """Trains on one batch; returns its loss, and the metrics since they were reset."""
        return self._call("train", self._batch(x, y, sample_weight))

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict:
        """Returns the loss of one batch, and the metrics since they were reset."""
        return self._call("evaluate", self._batch(x, y, sample_weight))

    def predict(self, x: Any) -> Any:
        """Returns the model's outputs: an array, or a dict of arrays by name."""
        found = self._call("infer", self._named("x", x, self.input_names, "infer"))
        return next(iter(found.values())) if len(found) == 1 else found

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int | None = None,
        validation_data: tuple | None = None,
        verbose: int = 1,
    ) -> dict[str, list[float]]:
        """Trains for some epochs.

        Args:
          x: inputs; or a `tf.data.Dataset` of batches `(x, y)` or `(x, y, sample_weight)`.
          y: labels; `None` with a dataset.
          sample_weight: weights `[samples]`, if the signature has them.
          batch_size: samples in a batch; the last one may be smaller.
          epochs: number of passes over the data.
          shuffle: whether arrays are shuffled anew for each epoch.
          seed: seed of the shuffling.
          validation_data: `(x, y)` or `(x, y, sample_weight)` to evaluate on after each epoch.
          verbose: 1 shows a progress bar, 2 a line for each epoch, 0 nothing.

        Returns:
          By name, a list with a number for each epoch: the mean of `loss` over the samples,
          the metrics at its end, and both for the validation data under "val_...".
        """
        data = self._dataset(x, y, sample_weight, batch_size)
        generator = np.random.default_rng(seed)
        history: dict[str, list[float]] = {}
        for epoch in range(epochs):
            if verbose:
                print(f"Epoch {epoch + 1}/{epochs}")
            batches = data
            if shuffle and not isinstance(x, tf.data.Dataset):
                order = generator.permutation(_length(x))
                batches = self._dataset(
                    _taken(x, order), _taken(y, order), _taken(sample_weight, order), batch_size
                )
            logs = self._pass("train", batches, verbose)
            if validation_data is not None:
                found = self.evaluate(*validation_data, batch_size=batch_size)
                logs |= {f"val_{name}": value for name, value in found.items()}
                if verbose:
                    print(", ".join(f"{name}: {logs[name]:.4f}" for name in logs))
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
        return history

    def evaluate(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int = 32
    ) -> dict[str, float]:
        """Returns the mean of `loss` over the samples, and the metrics; arguments as `fit`."""
        return self._pass("evaluate", self._dataset(x, y, sample_weight, batch_size), 0)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update; may be set where the model allows it."""
        return float(self._functions["get_learning_rate"]()["learning_rate"].numpy())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if "set_learning_rate" not in self._functions:
            raise ValueError(
                "The learning rate of this model is a callable that was traced into it, so it "
                "cannot be set. Export it with a number or a schedule."
            )
        self._functions["set_learning_rate"](learning_rate=tf.constant(value, tf.float32))

    def save(self, path: str | os.PathLike) -> None:
        """Writes weights and state as a checkpoint at a prefix; each save needs a new one."""
        self._functions["save"](path=tf.constant(str(path)))

    def restore(self, path: str | os.PathLike) -> None:
        """Reads a checkpoint that `save` wrote; it is checked before anything is changed.

        Raises:
          FileNotFoundError: there is none.
          ValueError: it is damaged, or of another optimizer or model.
        """
        if not checkpoint_functions.is_checkpoint(path):
            raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
        with damage.explained(path, "as a checkpoint of this model"):
            checkpoint_functions.opened(path)
            self._functions["restore"](path=tf.constant(str(path)))

    def reset_optimizer(self) -> None:
        """Puts the optimizer's state back to its start; the learning rate stays."""
        self._functions["reset_optimizer"]()

    def export(self, path: str | os.PathLike) -> None:
        """Writes the model as it is now to another SavedModel of the same kind."""
        write_directory(self.loaded, self._functions, path)

    # Batches.

    def _call(self, name: str, batch: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        return {key: v.numpy() for key, v in self._functions[name](**batch).items()}

    def _batch(self, x: Any, y: Any, weight: Any) -> dict[str, tf.Tensor]:
        if (weight is not None) is not self.weighted:
            raise ValueError(
                f"The steps of this model take {'a' if self.weighted else 'no'} "
                "`sample_weight`, which was chosen when it was exported."
            )
        batch = self._named("x", x, self.input_names, "train")
        batch |= self._named("y", y, self.label_names, "train")
        if self.weighted:
            batch |= self._named(WEIGHT, weight, self.weight_names, "train")
        return batch

    def _named(
        self, part: str, given: Any, names: list[str], step: str
    ) -> dict[str, tf.Tensor]:
        """Returns tensors by the names of the signature."""
        values = {} if given is None else self._tensors(part, given, names)
        if set(values) != set(names):
            raise ValueError(
                f"`{part}` must have {'the names ' if names else 'nothing in it'}"
                f"{', '.join(names)}. Received: {', '.join(values) or None}."
            )
        specs = self._specs[step]
        return {name: tf.cast(value, specs[name].dtype) for name, value in values.items()}

    def _tensors(self, part: str, given: Any, names: list[str]) -> dict[str, Any]:
        if isinstance(given, (list, tuple)) and len(names) > 1:
            tensors = tf.nest.flatten(given, expand_composites=True)
            tensors = [tensor for tensor in tensors if tensor is not None]
            order = self._order.get(part, [])
            return dict(zip(order, tensors)) if len(order) == len(tensors) else {part: given}
        if isinstance(given, Mapping):
            return _by_name(part, () if part != WEIGHT else (part,), given, names)
        if isinstance(given, (list, tuple)) and len(given) == 1:
            rank = self._specs["train"][names[0]].shape.rank
            given = given[0] if len(getattr(given[0], "shape", ())) == rank else given
        tensors = components(part, given)
        return tensors if len(tensors) > 1 or len(names) > 1 else {names[0]: given}

    def _dataset(self, x: Any, y: Any, weight: Any, batch_size: int) -> tf.data.Dataset:
        if isinstance(x, tf.data.Dataset):
            return x
        parts = tuple(part for part in (x, y, weight) if part is not None)
        return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)

    def _pass(self, name: str, data: tf.data.Dataset, verbose: int) -> dict[str, float]:
        """Runs a step over all batches, and returns the means."""
        self._functions["reset_metrics"]()
        steps = data.cardinality().numpy()
        bar = keras.utils.Progbar(
            steps if steps > 0 else None, verbose=verbose, unit_name="step"
        )
        total, samples, logs, done = 0.0, 0, {}, 0
        for done, element in enumerate(data, start=1):
            parts = element if isinstance(element, tuple) else (element,)
            batch = self._batch(*(*parts, None, None)[:3])
            logs = {key: float(value) for key, value in self._call(name, batch).items()}
            size = int(tf.nest.flatten(parts[0])[0].shape[0])
            total, samples = total + logs["loss"] * size, samples + size
            logs["loss"] = total / samples
            bar.update(done, list(logs.items()), finalize=False)
        if not done:
            raise ValueError("There is no batch in the data.")
        bar.update(done, list(logs.items()), finalize=True)
        return logs


def _by_name(
    part: str, path: tuple[Any, ...], given: Mapping[Any, Any], names: list[str]
) -> dict[str, Any]:
    """Returns the tensors of a nested dict by name, down to where names are the signature's."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        here = (key,) if key in names else (*path, key)
        name = argument(part, here)
        if isinstance(value, (list, tuple)) and name not in names:
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            found |= _by_name(part, here, value, names)
        elif value is not None:
            found |= components(name, value)
    return found


def _order(loaded: Any) -> dict[str, list[str]]:
    """Returns the names of inputs in the order of lists of data, where the model says it."""
    function = getattr(loaded, "names", None)  # earlier exports have none
    parts = {} if function is None else function()
    return {part: [n.decode() for n in names.numpy()] for part, names in parts.items()}


def _length(part: Any) -> int:
    if isinstance(part, (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)):
        return int(part.shape[0])
    return _length(next(iter(part.values()))) if isinstance(part, Mapping) else len(part)


def _taken(part: Any, order: np.ndarray) -> Any:
    if part is None:
        return None
    if isinstance(part, Mapping):
        return {name: _taken(value, order) for name, value in part.items()}
    if isinstance(part, tf.SparseTensor):
        raise ValueError(
            "`fit` cannot shuffle a tf.SparseTensor. Pass `shuffle=False`, or a shuffled "
            "`tf.data.Dataset`."
        )
    if isinstance(part, tf.RaggedTensor):
        return tf.gather(part, order)
    return np.asarray(part)[order]
