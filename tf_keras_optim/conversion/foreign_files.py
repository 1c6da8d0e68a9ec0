"""What is known of an optimizer from a file that a Keras wrote. Nothing in it is executed."""

import contextlib
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import h5py

import tf_keras_optim.conversion.configs as configs
import tf_keras_optim.conversion.live as live
import tf_keras_optim.saving.archives as archives
import tf_keras_optim.saving.checkpoint_functions as checkpoint_functions
import tf_keras_optim.saving.damage as damage
import tf_keras_optim.saving.hdf5 as hdf5
import tf_keras_optim.saving.reading as reading
from tf_keras_optim.conversion.source import Source
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.state.meanings import of_class
from tf_keras_optim.engine.variable_hooks import of_shape, slots_for
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.records import keras_form, known_to_keras

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_LEADING = 4  # counter and rate of Keras 3's LossScaleOptimizer, its counter and its scale
_ADDONS = "Addons>"  # begins the names of TensorFlow Addons' classes
_IS_OURS = (
    "it was written with an optimizer of tf_keras_optim already; `tko.load_state`, "
    "`tko.load_weights` or Keras' `load_model` reads it"
)


@contextlib.contextmanager
def opened(path: str | os.PathLike, optimizer: Any, options: Any) -> Iterator[Source]:
    """Opens a file; yields what is known of an optimizer from it.

    The arrays stay in the file until they are used, and every error that a use of them makes
    names it.

    Args:
      path: `.keras`, `.weights.h5`, HDF5 of a whole model, or a checkpoint's prefix.
      optimizer: one of ours that says class and options, or `None`.
      options: arguments that will count more.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or does not hold an optimizer that we know.
    """
    title, text = repr(str(path)), "as the state of an optimizer"
    with contextlib.ExitStack() as stack:
        with damage.explained(path, text, title):
            source = _opened(path, optimizer, title, options, stack)
        try:
            yield source
        except (TypeError, ValueError) as error:  # the file's part in it, or the caller's
            if title in str(error):
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{title}: {error}") from error
        except damage.KINDS:
            with damage.explained(path, text):
                raise


def _opened(
    path: str | os.PathLike,
    optimizer: Any,
    title: str,
    options: Any,
    stack: contextlib.ExitStack,
) -> Source:
    path = pathlib.Path(path)
    if checkpoint_functions.is_checkpoint(path):
        return _from_checkpoint(path, _template(optimizer, title), title)
    try:
        path = damage.check_is_file(path, "file")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file {title}, and no checkpoint with this prefix."
        ) from error
    if zipfile.is_zipfile(path) and not h5py.is_hdf5(path):
        archive = stack.enter_context(archives.opened(path))
        return _from_keras_file(archive, optimizer, title, options, stack)
    file = stack.enter_context(reading.opened_hdf5(path))
    if "training_config" in file.attrs or "optimizer_weights" in file:
        return _from_model_file(file, optimizer, title, options)
    if "model_weights" in file:
        raise ValueError(f"{title}: the model in it has no optimizer.")
    source = _template(optimizer, title)
    _add_numbered(source, file)
    return source


def _template(optimizer: Any, title: str) -> Source:
    """Returns a source without state, like an optimizer of ours."""
    if optimizer is None:
        raise ValueError(
            f"{title} does not say what optimizer it is of. Pass one of this package as "
            "`optimizer=`, of the same class and with the same options."
        )
    inner, scale = optimizer, None
    if isinstance(optimizer, LossScaleOptimizer):
        inner, scale = optimizer.inner_optimizer, dict(optimizer.arguments)
    config = inner.get_config()
    steps = calls_per_update(inner)
    return Source(title, type(inner), config, template=inner, loss_scale=scale, steps=steps)


def _configured(described: Any, title: str, options: Any) -> tuple[Source, bool]:
    """Returns a source without state from a config, and whether it says it is legacy.

    Raises:
      ValueError: there is no such class, or it is ours.
    """
    if not isinstance(described, Mapping) or "class_name" not in described:
        raise ValueError(
            f"{title}: the model in it was not compiled, or does not say its optimizer: "
            f"{described!r}. Pass `optimizer=` with one of this package."
        )
    # tf_keras' own classes are registered as Custom>Name, those of TensorFlow Addons, which are
    # legacy ones and do not say so, as Addons>Name.
    name = str(described["class_name"]).removeprefix("Custom>")
    config = dict(described.get("config") or {})
    registered = str(described.get("registered_name") or "")
    if "tf_keras_optim>" in f"{registered} {name}":
        raise ValueError(f"{title}: {_IS_OURS}.")
    if name.startswith("LossScaleOptimizer") and "inner_optimizer" in config:
        source, legacy = _configured(config["inner_optimizer"], title, options)
        names = ("initial_scale", "dynamic_growth_steps", "dynamic")
        given = {key: config[key] for key in names if config.get(key) is not None}
        source.loss_scale = live.scale_arguments(given)
        return source, legacy
    of_addons = any(text.startswith(_ADDONS) for text in (name, registered))
    if ">" in registered and not of_addons:
        raise ValueError(
            f"{title}: its optimizer is {registered!r}, a class of its own. Only Keras' own "
            "can be converted."
        )
    if config.pop("is_legacy_optimizer", False) or of_addons:
        plain = name.removeprefix(_ADDONS)
        cls, arguments, undecayed = configs.legacy_arguments(plain, config, title, options)
        return Source(title, cls, arguments, undecayed=undecayed), True
    cls, arguments = configs.keras_arguments(name, config, title, options)
    steps = config.get("gradient_accumulation_steps") or 1
    return Source(title, cls, arguments, steps=steps), False


def _check_class(described: Any, source: Source) -> None:
    """Compares the class that a file names with the one that the caller asks for.

    Args:
      described: the config of the file's optimizer; `None` where it has none.
      source: what is known from the caller's optimizer.

    Raises:
      ValueError: their slots of one name are not one quantity.
    """
    while isinstance(described, Mapping) and isinstance(
        (described.get("config") or {}).get("inner_optimizer"), Mapping
    ):
        described = described["config"]["inner_optimizer"]
    if isinstance(described, str):
        described = _by_default(described)
    if not isinstance(described, Mapping) or ">" in str(described.get("registered_name")):
        return
    name = str(described.get("class_name")).removeprefix("Custom>")
    if name not in known_to_keras():
        return
    theirs = configs.class_of(name, source.title)
    names = [slot.name for slot in slots_for(source.template, of_shape((2, 2)))]
    other = [n for n in names if of_class(theirs, n) != of_class(source.cls, n)]
    if other:
        raise ValueError(
            f"{source.title} is of the optimizer {name!r}, whose {', '.join(other)} is not "
            f"that of {source.cls.__name__}. Pass an optimizer of that class as `optimizer=`, "
            "or none, as the file says what it is of."
        )


def _from_keras_file(
    archive: zipfile.ZipFile,
    optimizer: Any,
    title: str,
    options: Any,
    stack: contextlib.ExitStack,
) -> Source:
    if "config.json" not in archive.namelist():
        raise ValueError(
            f"{title} is no `.keras` file: it has no config.json. For a file of "
            "`tko.save_state` use `tko.load_state`."
        )
    config, metadata = (
        damage.json_object(archives.text(archive, name, damage.MOST_JSON), name)
        for name in ("config.json", "metadata.json")
    )
    described = (config.get("compile_config") or {}).get("optimizer")
    if optimizer is not None:
        source = _template(optimizer, title)
        _check_class(described, source)
    else:
        if isinstance(described, str):
            described = _by_default(described)
        source, legacy = _configured(described, title, options)
        if legacy:
            raise ValueError(f"{title}: `.keras` files hold no state of legacy optimizers.")
    source.generation = _generation(metadata.get("keras_version", ""))
    _add_numbered(source, stack.enter_context(reading.unpacked_weights(archive)))
    return source


def _generation(version: Any) -> int | None:
    """Returns 3 or 2 for the version of the Keras that wrote a file, `None` if unknown."""
    return {"2": 2, "3": 3}.get(_text(version)[:1])


def _by_default(name: str) -> dict[str, Any]:
    """Returns the config of an optimizer that `compile` got as a string."""
    classes = {known.lower(): known for known in known_to_keras()}
    return {"class_name": classes.get(name.lower(), name), "config": {}}


def _add_numbered(source: Source, file: h5py.File) -> None:
    """Adds the state from the group of numbered arrays that Keras writes.

    Raises:
      ValueError: there is none, or it is ours.
    """
    places = ("optimizer/vars", "optimizer/inner_optimizer/vars")
    groups = [hdf5.find(file, place) for place in places]
    group = next((g for g in groups if isinstance(g, h5py.Group) and len(g)), None)
    if group is None:
        raise ValueError(
            f"{source.title}: there is no state of an optimizer in it (the group "
            f"{places[0]!r} is missing or empty)."
        )
    values, notes = layout.read(hdf5.Store(group), source.title)
    if notes:
        raise ValueError(f"{source.title}: {_IS_OURS}.")
    names = sorted((name for name in values if name.isdigit()), key=int)
    _take_numbered(source, [values[name] for name in names])


def _take_numbered(source: Source, arrays: list[Any]) -> None:
    """Adds a list of arrays, those of Keras 3's LossScaleOptimizer among them."""
    if _starts_with_scale(arrays):
        # Keras 3 wraps by itself under mixed_float16, and its config does not say so.
        source.loss_scale = source.loss_scale or live.scale_arguments({})
        source.scale_state["step_counter"] = arrays[2]
        source.scale_state["dynamic_scale"] = arrays[3]
        arrays = arrays[_LEADING:]
    source.arrays = arrays


def _starts_with_scale(arrays: list[Any]) -> bool:
    scalars = [array.shape == () for array in arrays[: _LEADING + 1]]
    whole = [array.dtype.kind == "i" for array in arrays[: _LEADING + 1]]
    return all(scalars) and whole == [True, False, True, False, True]


def _from_model_file(file: h5py.File, optimizer: Any, title: str, options: Any) -> Source:
    """Reads a whole model in HDF5, by tf_keras, by Keras 3, or older."""
    group = hdf5.find(file, "optimizer_weights")
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{title}: there is no state of an optimizer in it.")
    names = [_text(name) for name in _attribute(group, "weight_names")]
    arrays = [hdf5.array(group, name) for name in names]
    described: Any = None
    if "training_config" in file.attrs or optimizer is None:
        training = damage.json_object(_text(file.attrs["training_config"]), "training_config")
        described = training.get("optimizer_config") or training.get("optimizer")
    if optimizer is not None:
        source, legacy = _template(optimizer, title), False
        _check_class(described, source)
    else:
        counter = names[0].split(":")[0].split("/")[-1] if names else ""
        if isinstance(described, dict) and counter == "iter":
            described.setdefault("config", {})["is_legacy_optimizer"] = True
        source, legacy = _configured(described, title, options)
    if legacy:
        _add_slots(source, names, arrays)
    else:
        source.generation = _generation(file.attrs.get("keras_version", ""))
        _take_numbered(source, arrays)
    return source


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _attribute(group: h5py.Group, name: str) -> list[Any]:
    """Returns a list that Keras may have cut into several attributes."""
    if name in group.attrs:
        return list(group.attrs[name])
    parts: list[Any] = []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [item for part in parts for item in part]


def _add_slots(source: Source, names: list[str], arrays: list[Any]) -> None:
    """Adds the state of a legacy optimizer, whose arrays are named variable/slot."""
    known = configs.LEGACY_SLOTS[source.cls.__name__]
    slots: dict[str, dict[str, Any]] = {}
    prefix = next((n.split("iter:")[0] for n in names if "iter:" in n), "")  # "Adam/"
    for name, value in zip(names, arrays):
        plain = name.split(":")[0].removeprefix(prefix)
        variable, _, slot = plain.rpartition("/")
        slot = re.sub(r"_\d+$", "", slot)
        if slot == "iter":
            source.scalars["iterations"] = value
        elif slot == "momentum_cache":
            source.scalars["u_product"] = value
        elif slot in known:
            slots.setdefault(variable, {})[known[slot]] = value
        else:
            raise ValueError(
                f"{source.title}: array {name!r} is none of the slots of "
                f"{source.cls.__name__}: {list(known)}."
            )
    source.names, source.slots = list(slots), list(slots.values())


def _from_checkpoint(path: pathlib.Path, source: Source, title: str) -> Source:
    """Reads the optimizer of a `tf.train.Checkpoint` with one optimizer of Keras in it."""
    reader = checkpoint_functions.opened(path)
    keys = list(reader.get_variable_to_shape_map())
    if any("/.OPTIMIZER_SLOT/" in key for key in keys):
        raise ValueError(
            f"{title}: a checkpoint of a legacy optimizer does not say the order of its slots. "
            "Restore it into that optimizer and convert this."
        )
    roots = [key.removesuffix(f"_iterations{_VALUE}") for key in keys if "_iterations/." in key]
    if len(roots) != 1:
        raise ValueError(
            f"{title}: expected one optimizer of Keras in it, found {len(roots)}: {roots}."
        )
    (root,) = roots
    pattern = re.compile(rf"{re.escape(root)}_variables/(\d+){re.escape(_VALUE)}")
    matches = [match for match in map(pattern.fullmatch, keys) if match]
    numbered = {int(match.group(1)): match.group(0) for match in matches}
    form = keras_form(source.cls)
    if not numbered and not form.may_be_empty:
        raise ValueError(
            f"{title}: there is no state of an optimizer of Keras under {root!r}. One of "
            "tf_keras_optim is restored by `tf.train.Checkpoint` itself."
        )
    if max(numbered, default=0) > 100 + 10 * len(numbered):
        raise ValueError(f"its variables have numbers up to {max(numbered)}")
    start = min(numbered, default=1)  # 2 where Keras 3 lists its learning rate at 1
    arrays: list[Any] = [checkpoint_functions.array(reader, f"{root}_iterations{_VALUE}")]
    for i in range(start, max(numbered, default=0) + 1):
        name = numbered.get(i)
        arrays.append(None if name is None else checkpoint_functions.array(reader, name))
    source.arrays = arrays
    by_name = {"learning_rate": "_learning_rate"} | dict(form.scalars)
    for ours, theirs in by_name.items():
        if f"{root}{theirs}{_VALUE}" in keys:
            source.scalars[ours] = checkpoint_functions.array(reader, f"{root}{theirs}{_VALUE}")
    return source
