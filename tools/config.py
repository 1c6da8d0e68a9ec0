"""The demo's configuration: YAML files with sections, every key checked.

A file has the sections `optimizer`, `peer`, `schedule`, `model` and `data`. The keys of a
section are the declarations below; those of `optimizer` and `peer` are `name` and the arguments
of that optimizer, those of `schedule` are `name` and the keys of that schedule.
"""

import dataclasses
import difflib
import inspect
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import yaml

from tf_keras_optim.engine.declarations import collected
from tf_keras_optim.engine.hyperparameters import Hyperparameter, nearest
from tf_keras_optim.optimizers.records import records


class _Precision:
    """What a layer computes in; weights stay float32."""

    precision = Hyperparameter(
        "float32", choices=("float32", "mixed_bfloat16", "mixed_float16")
    )


class DigitsModel(_Precision):
    """A stack of dense layers: widths, activation, and dropout after each of them."""

    hidden = Hyperparameter([64], kind=list)
    activation = Hyperparameter(
        "relu", choices=("elu", "gelu", "relu", "selu", "sigmoid", "softplus", "swish", "tanh")
    )
    dropout = Hyperparameter(0.0, minimum=0.0, below=1.0)


class TextModel(_Precision):
    """A transformer that sees the characters before: its blocks, and its width."""

    blocks = Hyperparameter(2, minimum=1)
    width = Hyperparameter(64, minimum=8)


class DigitsData:
    """scikit-learn's images of digits, their split, and how often they are gone through.

    With `pretrain_epochs` the model first learns the ten digits, as many epochs, and the run is
    a fine-tuning with a new last layer: even digits from odd ones.
    """

    batch_size = Hyperparameter(32, minimum=1)
    epochs = Hyperparameter(20, minimum=1)
    examples = Hyperparameter(None, kind=int, minimum=1)  # to train on; None: all
    pretrain_epochs = Hyperparameter(0, minimum=0)
    test_fraction = Hyperparameter(0.2, minimum=0.05, maximum=0.9)
    seed = Hyperparameter(0, minimum=0, maximum=2**32 - 1)
    standardize = Hyperparameter(True)


class TextData:
    """Windows of 64 characters of Python's help texts; the next character is asked for."""

    batch_size = Hyperparameter(16, minimum=1)
    epochs = Hyperparameter(2, minimum=1)
    examples = Hyperparameter(4800, kind=int, minimum=1, optional=True)  # None: all
    seed = Hyperparameter(0, minimum=0, maximum=2**32 - 1)


class NoSchedule:
    """The learning rate stays as it is."""


class CosineSchedule:
    """Down to the fraction `alpha`, along a half cosine."""

    decay_steps = Hyperparameter(None, kind=int, minimum=1)  # None: all steps of the run
    alpha = Hyperparameter(0.0, minimum=0.0, maximum=1.0)


class ExponentialSchedule:
    """Times `decay_rate` every `decay_steps`, smoothly or in stairs."""

    decay_steps = Hyperparameter(None, kind=int, minimum=1)  # None: all steps of the run
    decay_rate = Hyperparameter(0.1, above=0.0)
    staircase = Hyperparameter(False)


class PolynomialSchedule:
    """Down to `end_learning_rate`, along a power of the steps that are left."""

    decay_steps = Hyperparameter(None, kind=int, minimum=1)  # None: all steps of the run
    end_learning_rate = Hyperparameter(0.0001, minimum=0.0)
    power = Hyperparameter(1.0, above=0.0)


SCHEDULES: dict[str, type] = {
    "none": NoSchedule,
    "cosine": CosineSchedule,
    "exponential": ExponentialSchedule,
    "polynomial": PolynomialSchedule,
}
TASKS: dict[str, tuple[type, type]] = {  # by `data.name`: the sections `model` and `data`
    "digits": (DigitsModel, DigitsData),
    "text": (TextModel, TextData),
}
SECTIONS = ("optimizer", "peer", "schedule", "model", "data")


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration. Every section is complete, save for `optimizer`.

    Attributes:
      name: name of the file without its ending.
      optimizer: `name`, as this package spells the class, and the given arguments.
      schedule: `name` and the keys of that schedule.
      peer: `name` of an optimizer of Keras and its arguments, to compare with; `None` for the
        same optimizer with the same arguments.
      model: see `DigitsModel` and `TextModel`.
      data: `name`, and the keys of `DigitsData` or `TextData`.
    """

    name: str
    optimizer: dict[str, Any]
    peer: dict[str, Any] | None
    schedule: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]


def optimizer_classes() -> dict[str, type]:
    """Returns this package's optimizers by lower-case name."""
    return {name: record.cls for name, record in records().items()}


def keras_classes() -> dict[str, type]:
    """Returns the running Keras' optimizers that this package has too, by lower-case name."""
    found = {
        name: getattr(tf.keras.optimizers, cls.__name__, None)
        for name, cls in optimizer_classes().items()
    }
    return {name: cls for name, cls in found.items() if cls is not None}


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Reads and checks a configuration.

    Args:
      path: a YAML file.
      overrides: texts of the form "section.key=value", the value in YAML. They count
        more than the file, and later ones more than earlier ones.

    Returns:
      The configuration, with defaults for the keys that were not given.

    Raises:
      ValueError: the file is missing or no YAML; a section or key is unknown (the
        nearest valid one is named); a value is of another kind or out of range.
    """
    sections = _read(path)
    origins: dict[tuple[str, str], str] = {}
    for text in overrides:
        section, key, value = _override(text)
        _require_known(section, SECTIONS, f"--set {text}", "section")
        sections.setdefault(section, {})[key] = value
        origins[section, key] = f"--set {text}"
    reader = _Reader(path, sections, origins)
    return Config(
        name=pathlib.Path(path).stem,
        optimizer=reader.optimizer(),
        peer=reader.peer(),
        schedule=reader.schedule(),
        model=reader.model(),
        data=reader.data(),
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Checks sections; an error names where the value came from."""

    path: str
    sections: Mapping[str, Mapping[str, Any]]
    origins: Mapping[tuple[str, str], str]

    def origin(self, section: str, key: str) -> str:
        return self.origins.get((section, key), self.path)

    def chosen(self, section: str, valid: Iterable[str], default: str | None) -> str:
        """Returns the section's `name` in lower case, which must be one of `valid`."""
        given = self.sections.get(section, {}).get("name", default)
        where, valid = self.origin(section, "name"), list(valid)
        if given is None and section in ("optimizer", "peer"):
            raise ValueError(
                f"{self.path}: section `{section}` needs the key `name`: one of "
                f"{', '.join(valid)}."
            )
        name = "none" if given is None else str(given).lower()
        _require_known(name, valid, where, f"{section}.name")
        return name

    def values(
        self, section: str, known: Iterable[str], kinds: Mapping[str, Hyperparameter]
    ) -> dict[str, Any]:
        """Returns what was given in a section except `name`, each value checked."""
        known, checked = ["name", *known], {}
        for key, value in self.sections.get(section, {}).items():
            where = self.origin(section, key)
            _require_known(key, known, where, f"key of section `{section}`")
            if key in kinds:
                try:
                    value = kinds[key].check(value, section)
                except ValueError as error:
                    raise ValueError(f"{where}: {error}") from None
            if key != "name" or "name" in kinds:
                checked[key] = value
        return checked

    def complete(self, section: str, declaration: type) -> dict[str, Any]:
        """Returns a section with the defaults of its declaration filled in."""
        kinds = collected(declaration)
        known = [key for key in kinds if key != "name"]
        return {k: v.default for k, v in kinds.items()} | self.values(section, known, kinds)

    def optimizer(self) -> dict[str, Any]:
        return self._arguments("optimizer", optimizer_classes())

    def peer(self) -> dict[str, Any] | None:
        if not self.sections.get("peer"):
            return None
        return self._arguments("peer", keras_classes())

    def _arguments(self, section: str, classes: Mapping[str, type]) -> dict[str, Any]:
        """Returns the name of a class and the arguments that were given, each checked."""
        cls = classes[self.chosen(section, classes, None)]
        known = [name for name in inspect.signature(cls).parameters if name != "name"]
        kinds = collected(optimizer_classes()[cls.__name__.lower()])
        return {"name": cls.__name__} | self.values(section, known, kinds)

    def schedule(self) -> dict[str, Any]:
        name = self.chosen("schedule", SCHEDULES, "none")
        return {"name": name} | self.complete("schedule", SCHEDULES[name])

    def task(self) -> str:
        return self.chosen("data", TASKS, "digits")

    def data(self) -> dict[str, Any]:
        return {"name": self.task()} | self.complete("data", TASKS[self.task()][1])

    def model(self) -> dict[str, Any]:
        model = self.complete("model", TASKS[self.task()][0])
        for width in model.get("hidden", ()):
            if type(width) is not int or width < 1:
                raise ValueError(
                    f"{self.origin('model', 'hidden')}: model: argument `hidden` must be a "
                    f"list of layer widths, integers of at least 1. Received: {width!r} (of "
                    f"type {type(width).__name__}) in {model['hidden']!r}."
                )
        return model


def _read(path: str) -> dict[str, dict[str, Any]]:
    """Reads the sections of a file; checks their names but not what is in them."""
    file = pathlib.Path(path)
    if not file.is_file():
        present = [str(other) for other in sorted(file.parent.glob("*.yaml"))]
        # A preset shares most letters with every other one: suggest only what is close.
        close = difflib.get_close_matches(path, present, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no configuration {path!r}.{hint}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold the sections {', '.join(SECTIONS)}. "
            f"Received: {content!r} (of type {type(content).__name__})."
        )
    for section, values in content.items():
        _require_known(section, SECTIONS, path, "section")
        if values is not None and not isinstance(values, dict):
            raise ValueError(
                f"{path}: section `{section}` must hold `key: value` lines. "
                f"Received: {values!r} (of type {type(values).__name__})."
            )
    return {name: _with_numbers(values or {}) for name, values in content.items()}


def _override(text: str) -> tuple[str, str, Any]:
    """Splits "section.key=value"; returns the section, the key and the value."""
    target, equals, value = text.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and section and key):
        raise ValueError(
            f"--set {text}: expected section.key=value, for example "
            "--set optimizer.learning_rate=3e-3."
        )
    try:
        return section, key, _with_numbers(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text}: the value is not valid YAML: {error}") from None


def _with_numbers(value: Any) -> Any:
    """Turns texts that are numbers into floats, since YAML reads 3e-3 as a text."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _require_known(name: Any, known: Iterable[str], where: str, what: str) -> None:
    known = list(known)
    if name not in known:
        raise ValueError(
            f"{where}: unknown {what} {name!r}.{nearest(str(name), known)} "
            f"Known: {', '.join(known)}."
        )
