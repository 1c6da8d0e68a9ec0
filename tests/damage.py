"""Flips single bits in files of every format; each reader refuses them, or reads exactly.

    python -m tests.damage --flips 500 --seed 0

A reader that refuses raises a ValueError that begins with the path, and what it would have
changed is as it was. One that reads gives what it gives for the whole file, bit for bit.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
import tf_keras_optim.command_line.arrays as listing
from tf_keras_optim.keras_compat.running import keras


@dataclasses.dataclass
class Case:
    """A reader and a file, or several that belong together.

    Attributes:
      name: the reader and the format.
      files: what is damaged, one at a time.
      path: what the reader gets, and errors must name.
      read: reads; returns all that it has read, as arrays and texts.
      kept: returns what the reader would change.
      reset: puts that to values that no file has.
    """

    name: str
    files: list[pathlib.Path]
    path: pathlib.Path
    read: Callable[[], list[Any]]
    kept: Callable[[], list[Any]] = list
    reset: Callable[[], None] = lambda: None


def small_model(optimizer: Any, seed: int = 0) -> Any:
    """Returns a model that was trained for some steps."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(5, activation="relu", name="hidden"),
            keras.layers.Dense(2, name="head"),
        ],
        name="small",
    )
    model.compile(optimizer, "mse")
    generator = np.random.default_rng(seed)
    x, y = (generator.normal(size=(16, n)).astype("f") for n in (4, 2))
    model.fit(x, y, batch_size=4, verbose=0)
    return model


def arrays_of(model: Any) -> list[np.ndarray]:
    """Returns the weights of a model, and the state of its optimizer."""
    listed = model.optimizer.variables
    listed = listed() if callable(listed) else listed
    return [np.array(v.numpy()) for v in [*model.variables, *listed]]


def inspected(path: pathlib.Path) -> list[str]:
    """Returns what the tool prints about a file."""
    with listing.arrays_of(str(path)) as arrays:
        return [listing.table(arrays)]


def equal(one: list[Any], other: list[Any]) -> bool:
    """Says whether two lists of arrays and texts are the same, bit for bit."""
    if len(one) != len(other):
        return False
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(one, other)]
    return all(
        (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()) for a, b in pairs
    )


def cases(directory: pathlib.Path) -> Iterator[Case]:
    """Yields every reader with every format that it reads, with whole files."""
    ours, theirs = small_model(tko.Adam(0.05)), small_model(keras.optimizers.Adam(0.05))
    paths = {
        name: directory / name
        for name in ("state.npz", "ours.keras", "theirs.keras", "ours.weights.h5",
                     "theirs.weights.h5", "plain.keras", "plain.weights.h5")
    }  # fmt: skip
    tko.save_state(paths["state.npz"], ours.optimizer, ours.variables)
    for name, model in (("ours", ours), ("theirs", theirs)):
        tko.save_model(model, paths[f"{name}.keras"])
        tko.save_weights(model, paths[f"{name}.weights.h5"])
    ours.save(str(paths["plain.keras"]))
    ours.save_weights(str(paths["plain.weights.h5"]))
    chosen = theirs.trainable_variables
    for name, path in paths.items():
        if "theirs" in name:
            yield Case(
                f"convert {name}",
                [path],
                path,
                lambda p=path: tko.convert(p, chosen, optimizer=tko.Adam(0.05)).get_weights(),
            )
        else:
            yield with_state(f"load_state {name}", [path], path, name == "state.npz")
        if "plain" not in name:
            yield Case(f"inspect {name}", [path], path, lambda p=path: inspected(p))
        if name in ("ours.keras", "theirs.keras"):
            loaded = lambda p=path: arrays_of(tko.load_model(p))  # noqa: E731
            yield Case(f"load_model {name}", [path], path, loaded)
        if name in ("ours.weights.h5", "theirs.weights.h5"):
            made = tko.Adam(0.01) if "ours" in name else keras.optimizers.Adam(0.01)
            yield with_weights(f"load_weights {name}", path, small_model(made, seed=1))
    yield from exported(directory, ours)


def with_state(
    name: str, files: list[pathlib.Path], path: pathlib.Path, weights: bool = False
) -> Case:
    """Returns the case of `load_state`, with the weights in the file or without."""
    target = small_model(tko.Adam(0.01), seed=1)
    chosen = target.variables if weights else None
    before = arrays_of(target)

    def read() -> list[Any]:
        # The weights tell who is who where layers have other names; here they have not.
        tko.load_state(path, target.optimizer, chosen)
        return arrays_of(target)

    return Case(name, files, path, read, lambda: arrays_of(target), put(target, before))


def with_weights(name: str, path: pathlib.Path, target: Any) -> Case:
    """Returns the case of `load_weights`."""
    before = arrays_of(target)

    def read() -> list[Any]:
        tko.load_weights(target, path)
        return arrays_of(target)

    return Case(name, [path], path, read, lambda: arrays_of(target), put(target, before))


def put(model: Any, values: list[np.ndarray]) -> Callable[[], None]:
    """Returns a function that gives a model and its optimizer values."""

    def reset() -> None:
        listed = model.optimizer.variables
        listed = listed() if callable(listed) else listed
        for variable, value in zip([*model.variables, *listed], values, strict=True):
            variable.assign(value)

    return reset


def exported(directory: pathlib.Path, model: Any) -> Iterator[Case]:
    """Yields the cases of an exported model: its directory, and a checkpoint of it."""
    tko.export_training(model, directory / "exported")
    whole = tko.load_training(directory / "exported")
    x = np.ones((3, 4), "f")
    prefix = directory / "step"
    whole.save(prefix)
    files = sorted(directory.glob("step.*"))
    variables = [*whole.loaded.weights.values(), *whole.loaded.state.values()]
    kept = lambda: [v.numpy() for v in variables]  # noqa: E731

    def restored() -> list[Any]:
        whole.restore(prefix)
        return kept()

    def reset() -> None:
        for variable in variables:
            variable.assign(tf.zeros_like(variable))

    yield Case("restore checkpoint", files, prefix, restored, kept, reset)
    yield with_state("load_state checkpoint", files, prefix)
    yield Case("inspect checkpoint", files, prefix, lambda: inspected(prefix))

    def loaded() -> list[Any]:
        found = tko.load_training(directory / "exported")
        return [found.predict(x), found.learning_rate]

    inside = sorted(p for p in (directory / "exported").rglob("*") if p.is_file())
    yield Case("load_training directory", inside, directory / "exported", loaded)


def run(case: Case, flips: int, seed: int) -> tuple[int, int, list[str]]:
    """Flips bits; returns how many files were refused and read, and what went wrong."""
    generator = random.Random(f"{seed} {case.name}")
    contents = {file: file.read_bytes() for file in case.files}
    expected, faults, refused, read = case.read(), [], 0, 0
    for _ in range(flips):
        file = generator.choices(case.files, [len(contents[f]) for f in case.files])[0]
        place, bit = generator.randrange(len(contents[file])), generator.randrange(8)
        changed = bytearray(contents[file])
        changed[place] ^= 1 << bit
        file.write_bytes(bytes(changed))
        case.reset()
        before, where = case.kept(), f"{case.name}: {file.name} byte {place} bit {bit}"
        try:
            found = case.read()
        except Exception as error:
            refused += 1
            if not isinstance(error, ValueError) or str(case.path) not in str(error):
                faults.append(f"{where}: {type(error).__name__}: {str(error)[:300]}")
            if not equal(case.kept(), before):
                faults.append(f"{where}: refused, and something was changed")
        else:
            read += 1
            if not equal(found, expected):
                faults.append(f"{where}: read, and not what was written")
        file.write_bytes(contents[file])
    return refused, read, faults


def main(argv: list[str] | None = None) -> int:
    """Runs every case; returns 1 if something went wrong."""
    parser = argparse.ArgumentParser("tests.damage", None, __doc__)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    options = parser.parse_args(argv)
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        for case in cases(pathlib.Path(directory)):
            if options.only not in case.name:
                continue
            refused, read, faults = run(case, options.flips, options.seed)
            print(
                f"{case.name}: {refused} refused, {read} read, {len(faults)} wrong", flush=True
            )
            for fault in faults[:20]:
                print(f"  {fault}")
            wrong += len(faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
