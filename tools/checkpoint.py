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
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import yaml

import tf_keras_optim as tko
import tf_keras_optim.conversion.foreign_files as files
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.state.saved_arrays import SavedArray
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.saving import (
    archives,
    checkpoint_functions,
    checksums,
    damage,
    hdf5,
    keras_files,
    reading,
    state_files,
)

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_HEADER = ("name", "shape", "dtype", "bytes", "norm", "NaN", "inf")

_PIECE = 1 << 18  # elements

Arrays = dict[str, SavedArray]


@contextlib.contextmanager
def arrays_of(path: str) -> Iterator[Arrays]:
    """Opens a file; yields the arrays in it by name, which stay there until they are used.

    Args:
      path: a file, or a checkpoint's prefix.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it cannot be read, or an array is not what its checksum says.
    """
    with contextlib.ExitStack() as stack:
        with damage.explained(path, "as weights or state"):
            found = _opened(path, stack)
        yield {name: _naming(path, value) for name, value in found.items()}


def _naming(path: str, value: SavedArray) -> SavedArray:
    """Returns an array whose errors, when it is read, name its file."""

    def pieces() -> Iterator[np.ndarray]:
        with damage.explained(path, "as weights or state"):
            yield from value.pieces()

    return dataclasses.replace(value, pieces=pieces)


def _opened(path: str, stack: contextlib.ExitStack) -> Arrays:
    if checkpoint_functions.is_checkpoint(path):
        return _of_checkpoint(path)
    try:
        file = damage.check_is_file(path, "file")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file {path!r}, and no checkpoint with this prefix"
        ) from error
    if h5py.is_hdf5(path):
        return _of_hdf5(stack.enter_context(reading.opened_hdf5(file)))
    archive = stack.enter_context(archives.opened(path))
    if reading.WEIGHTS in archive.namelist():
        return _of_hdf5(stack.enter_context(reading.unpacked_weights(archive)))
    return _of_state(*stack.enter_context(reading.opened_state(path)))


def _of_checkpoint(path: str) -> Arrays:
    reader = checkpoint_functions.opened(path)
    types = reader.get_variable_to_dtype_map()
    names = sorted(name for name, dtype in types.items() if dtype != tf.string)
    return {
        name.removesuffix(_VALUE): checkpoint_functions.array(reader, name) for name in names
    }


def _of_hdf5(file: h5py.File) -> Arrays:
    found: Arrays = {}
    for name, item in hdf5.arrays(file):
        value = hdf5.array(file, name)
        if layout.ATTRIBUTE in item.attrs:  # files of ours say what each array is
            value, note = layout.noted(value, item.attrs[layout.ATTRIBUTE], name)
            name += f" ({' '.join(note['key'])})"
        found[name] = value
    return found


def _of_state(state: Any, weights: Any) -> Arrays:
    found = {f"{section}/{name}": v for section in ("scalars", "extra")
             for name, v in state[section].items()}  # fmt: skip
    for variable, slots in state["variables"].items():
        found |= {f"{variable}/{slot}": value for slot, value in slots.items()}
    return found | {f"weights/{name}": value for name, value in weights.items()}


def _floats(value: SavedArray) -> Iterator[np.ndarray]:
    """Yields the elements of an array in float64, in pieces of one size."""
    rest = np.zeros(0)
    for piece in value.pieces():
        for start in range(0, piece.size, _PIECE):
            rest = np.concatenate([rest, piece[start : start + _PIECE].astype(np.float64)])
            if rest.size >= _PIECE:
                yield rest[:_PIECE]
                rest = rest[_PIECE:]
    if rest.size:
        yield rest


def _row(name: str, value: SavedArray) -> tuple[str, ...]:
    """Returns what the table says of an array."""
    squares, nan, inf = 0.0, 0, 0
    for numbers in _floats(value):
        squares += float(np.sum(numbers[np.isfinite(numbers)] ** 2))
        nan += int(np.isnan(numbers).sum())
        inf += int(np.isinf(numbers).sum())
    kind, size = value.dtype.name, str(value.nbytes)
    return (name, str(value.shape), kind, size, f"{np.sqrt(squares):.6g}", str(nan), str(inf))


def table(arrays: Arrays) -> str:
    """Returns a table of arrays: shapes, dtypes, sizes, norms, and what is not finite."""
    rows = [_HEADER, *(_row(name, value) for name, value in arrays.items())]
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
        if name in second:
            lines += _compared(name, first[name], second[name])
    return lines


def _compared(name: str, ours: SavedArray, other: SavedArray) -> Iterator[str]:
    if ours.shape != other.shape:
        yield f"{name}: shape {ours.shape} and {other.shape}"
        return
    if ours.dtype != other.dtype:
        yield f"{name}: dtype {ours.dtype.name} and {other.dtype.name}"
    equal, odd, largest = True, 0, 0.0
    for a, b in zip(_floats(ours), _floats(other)):
        with np.errstate(invalid="ignore"):
            distance = np.abs(a - b)
        equal = equal and np.array_equal(a, b, equal_nan=True)
        odd += int(np.sum(~np.isfinite(distance) & ~(np.isnan(a) & np.isnan(b)) & (a != b)))
        largest = np.max(distance[np.isfinite(distance)], initial=largest)
    if not equal:
        more = f", and {odd} not finite" if odd else ""
        yield f"{name}: largest difference {largest:.6g}{more}"


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
            with arrays_of(arguments.path) as arrays:
                print(table(arrays))
            return 0
        if arguments.command == "convert":
            print(convert(arguments))
            return 0
        with arrays_of(arguments.path) as first, arrays_of(arguments.other) as second:
            lines = differences(first, second)
        print("\n".join(lines) or "The same names, shapes and values.")
        return 1 if lines else 0
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
