r"""Looks into files that hold weights and optimizer state, and converts them.

    python -m tools.checkpoint inspect run/state.npz
    python -m tools.checkpoint diff run/state.npz other/state.npz
    python -m tools.checkpoint convert model.keras state.npz
    python -m tools.checkpoint convert x.weights.h5 state.npz --optimizer adam \
        --set learning_rate=0.01 --variables dense/kernel:3,2 dense/bias:2

Reads state files of `tko.save_state`, `.keras`, `.weights.h5`, HDF5 files of whole models,
and prefixes of `tf.train.Checkpoint`. `convert` makes a state file of what Keras' own
optimizers wrote. `diff` ends with 1 where the files differ, an error with 2.
"""

import argparse
import contextlib
import io
import json
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import yaml

import tf_keras_optim as tko
import tf_keras_optim.conversion.foreign_files as files
from tf_keras_optim.faces.running import keras
from tf_keras_optim.saving import state_files

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_NOTE = "tf_keras_optim"
_HEADER = ("name", "shape", "dtype", "bytes", "norm", "NaN", "inf")

Arrays = dict[str, np.ndarray]


def arrays_of(path: str) -> Arrays:
    """Returns the arrays in a file by name.

    Args:
      path: a file, or a checkpoint's prefix.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it cannot be read.
    """
    is_checkpoint = pathlib.Path(f"{path}.index").is_file()
    if not (is_checkpoint or pathlib.Path(path).is_file()):
        raise FileNotFoundError(
            f"there is no file {path!r}, and no checkpoint with this prefix"
        )
    try:
        if is_checkpoint:
            return _of_checkpoint(path)
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return _of_hdf5(file)
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" in archive.namelist():
                content = io.BytesIO(archive.read("model.weights.h5"))
                with h5py.File(content, "r") as file:
                    return _of_hdf5(file)
        return _of_state_file(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, tf.errors.OpError) as error:
        text = f"{path!r} cannot be read ({type(error).__name__}: {error})"
        raise ValueError(text) from error


def _of_checkpoint(path: str) -> Arrays:
    reader = tf.train.load_checkpoint(path)
    types = reader.get_variable_to_dtype_map()
    names = sorted(name for name, dtype in types.items() if dtype != tf.string)
    return {name.removesuffix(_VALUE): reader.get_tensor(name) for name in names}


def _of_hdf5(file: h5py.File) -> Arrays:
    found: Arrays = {}

    def take(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        value = np.asarray(item)
        if _NOTE in item.attrs:  # files of ours say what each array is
            note = json.loads(item.attrs[_NOTE])
            name += f" ({' '.join(note['key'])})"
            if value.dtype.kind == "V":
                value = value.view(np.dtype(note["array"]["dtype"]))
        found[name] = value

    file.visititems(take)
    return found


def _of_state_file(path: str) -> Arrays:
    state, weights = state_files.read_state(path)
    found = {f"{section}/{name}": v for section in ("scalars", "extra")
             for name, v in state[section].items()}  # fmt: skip
    for variable, slots in state["variables"].items():
        found |= {f"{variable}/{slot}": value for slot, value in slots.items()}
    return found | {f"weights/{name}": value for name, value in weights.items()}


def _as_float(value: np.ndarray) -> np.ndarray:
    kinds = value.dtype.kind in "biuf" or value.dtype.name == "bfloat16"
    return value.astype(np.float64) if kinds else np.zeros(0)


def table(arrays: Arrays) -> str:
    """Returns a table of arrays: shapes, dtypes, sizes, norms, and what is not finite."""
    rows = [_HEADER]
    for name, value in arrays.items():
        numbers = _as_float(value)
        finite = numbers[np.isfinite(numbers)]
        rows.append(
            (
                name,
                str(tuple(value.shape)),
                value.dtype.name,
                str(value.nbytes),
                f"{np.sqrt(np.sum(finite**2)):.6g}",
                str(int(np.isnan(numbers).sum())),
                str(int(np.isinf(numbers).sum())),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    total = sum(value.nbytes for value in arrays.values())
    return "\n".join([*lines, f"{len(arrays)} arrays, {total} bytes"])


def differences(first: Arrays, second: Arrays) -> list[str]:
    """Returns a line for each array in which two files differ."""
    lines = [f"only in the first: {name}" for name in first if name not in second]
    lines += [f"only in the second: {name}" for name in second if name not in first]
    for name in first:
        if name not in second:
            continue
        ours, other = first[name], second[name]
        if ours.shape != other.shape:
            lines.append(f"{name}: shape {tuple(ours.shape)} and {tuple(other.shape)}")
            continue
        if ours.dtype != other.dtype:
            lines.append(f"{name}: dtype {ours.dtype.name} and {other.dtype.name}")
        a, b = _as_float(ours), _as_float(other)
        if not np.array_equal(a, b, equal_nan=True):
            with np.errstate(invalid="ignore"):
                distance = np.abs(a - b)
            odd = int(np.sum(~np.isfinite(distance) & ~(np.isnan(a) & np.isnan(b)) & (a != b)))
            largest = np.max(distance[np.isfinite(distance)], initial=0.0)
            more = f", and {odd} not finite" if odd else ""
            lines.append(f"{name}: largest difference {largest:.6g}{more}")
    return lines


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
        value = yaml.safe_load(text)
        if isinstance(value, str):  # YAML reads 1e-3 as text
            with contextlib.suppress(ValueError):
                value = float(value)
        config[key] = value
    return tko.deserialize({"class_name": name, "config": config})


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
    source = files.from_file(path, template, {})
    if not source.names or not source.slots or not all(source.slots):
        raise ValueError(
            f"{path!r} does not name the model's variables: pass --model with a `.keras` "
            "file of the model, or --variables with names and shapes"
        )
    shapes = [next(iter(slots.values())).shape for slots in source.slots]
    return [tf.Variable(tf.zeros(s), name=n) for s, n in zip(shapes, source.names)]


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
        model = keras.models.load_model(arguments.model or path, compile=False)
        variables = list(model.trainable_variables)
        values = None if arguments.model else model.variables
    else:
        variables = _from_names(path, template)
    optimizer = tko.convert(path, variables, optimizer=template)
    if values is not None:
        tko.save_state(output, optimizer, values)
    else:
        # The weights are not known, so they cannot tell who is who later.
        state_files.write_state(output, optimizer.state_dict() | {"weights": {}})
    title = type(optimizer).__name__
    steps = int(optimizer.iterations.numpy())
    return f"Wrote {output}: {title} after {steps} steps, {len(variables)} variables"


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tools.checkpoint", None, __doc__, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="list what is in a file")
    inspect.add_argument("path")
    diff = commands.add_parser("diff", help="compare two files")
    diff.add_argument("path")
    diff.add_argument("other")
    make = commands.add_parser("convert", help="make a state file of another library's file")
    make.add_argument("path")
    make.add_argument("output")
    make.add_argument("--optimizer", help="class, where the file does not say it")
    make.add_argument("--set", action="append", default=[], help="key=value of its arguments")
    make.add_argument("--model", help="a `.keras` file of the model")
    make.add_argument("--variables", nargs="+", help="names and shapes: dense/kernel:3,2")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "inspect":
            print(table(arrays_of(arguments.path)))
            return 0
        if arguments.command == "convert":
            print(convert(arguments))
            return 0
        lines = differences(arrays_of(arguments.path), arrays_of(arguments.other))
        print("\n".join(lines) or "The same names, shapes and values.")
        return 1 if lines else 0
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
