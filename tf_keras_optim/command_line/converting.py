"""Making a state file of a file that another library's optimizer wrote."""

import argparse
import ast
import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

import tf_keras_optim.conversion.foreign_files as files
import tf_keras_optim.saving.resume as resume
from tf_keras_optim import registry
from tf_keras_optim.conversion import convert as converted
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.saving import checksums, damage, keras_files, state_files


def _template(name: str | None, settings: Sequence[str]) -> Any:
    """Returns the optimizer that the arguments describe, or `None`."""
    if name is None:
        if settings:
            raise ValueError("--set needs --optimizer")
        return None
    config = {}
    for setting in settings:
        key, found, text = setting.partition("=")
        if not found:
            raise ValueError(f"--set takes key=value, received {setting!r}")
        config[key] = _value(text)
    return registry.deserialize({"class_name": name, "config": config})


def _value(text: str) -> Any:
    """Returns what a text says: JSON or a Python literal, in any case a number; else a text."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def _declared(texts: Sequence[str]) -> list[tf.Variable]:
    """Returns variables of the given names and shapes: "dense/kernel:3,2"."""
    made = []
    for text in texts:
        name, found, shape = text.partition(":")
        sizes = shape.split(",") if shape else []
        if not (name and found and all(size.isdigit() for size in sizes)):
            raise ValueError(f"--variables takes name:size,size; received {text!r}")
        made.append(tf.Variable(tf.zeros([int(size) for size in sizes]), name=name))
    return made


def _from_names(path: str, template: Any) -> list[tf.Variable]:
    """Returns variables like those whose names and slots a file holds.

    Raises:
      ValueError: it does not hold any.
    """
    with files.opened(path, template, {}) as source:
        if not source.names or not source.slots or not all(source.slots):
            raise ValueError(
                f"{path!r} does not name the model's variables: pass --model with a `.keras` "
                "file of the model, or --variables with names and shapes"
            )
        shapes = [next(iter(slots.values())).shape for slots in source.slots]
        return [tf.Variable(tf.zeros(s), name=n) for s, n in zip(shapes, source.names)]


def _model(path: str) -> Any:
    """Returns the model in a `.keras` file, not compiled; nothing is imported for it.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, another kind of file, or names what is not known.
    """
    if not path.endswith(".keras"):
        raise ValueError(f"--model takes a `.keras` file, received {path!r}")
    with damage.explained(damage.check_is_file(path, "model"), "as a model"):
        checksums.verify_line(path)
        keras_files.check_archive(pathlib.Path(path), {})
        return keras.models.load_model(path, compile=False)


def convert(arguments: argparse.Namespace) -> str:
    """Converts a file of another library into a state file; returns what was done.

    Raises:
      ValueError: the variables are not known, or do not fit.
    """
    template = _template(arguments.optimizer, arguments.set)
    path, output = arguments.path, arguments.output
    values: Any = None
    if arguments.variables:
        variables = _declared(arguments.variables)
    elif arguments.model or path.endswith(".keras"):
        model = _model(arguments.model or path)
        variables = list(model.trainable_variables)
        values = None if arguments.model else model.variables
    else:
        variables = _from_names(path, template)
    optimizer = converted(path, variables, optimizer=template)
    if values is not None:
        resume.save_state(output, optimizer, values)
    else:
        # The weights are not known, so they cannot tell who is who later.
        state_files.write_state(output, optimizer.state_dict() | {"weights": {}})
    title = type(optimizer).__name__
    steps = int(optimizer.iterations.numpy())
    return f"Wrote {output}: {title} after {steps} steps, {len(variables)} variables"
