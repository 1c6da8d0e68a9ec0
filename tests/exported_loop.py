"""Trains exported models where neither Keras nor this package can be imported.

python exported_loop.py DIRECTORY

DIRECTORY has data.npz (x, y, and the first step of each model's loop) and a SavedModel for
each name in it. Those that are called "device" are loaded on another device, and called there
and elsewhere. Writes results.npz: losses and every variable at the end, by name.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

FORBIDDEN = ("keras", "tf_keras", "tf_keras_optim")


class Refuse:
    """Makes importing a package fail."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} must not be imported here")


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    configuration = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, configuration)
    directory = pathlib.Path(sys.argv[1])
    found = {}
    with np.load(directory / "data.npz") as data:
        x, y = data["x"], data["y"]
        ranges = {name[6:]: data[name] for name in data.files if name.startswith("range/")}
    for name, (begin, end) in ranges.items():
        other = "CPU:1" if "device" in name else None
        with tf.device(other):
            loaded = tf.saved_model.load(str(directory / name))
        losses = []
        for step in range(begin, end):
            part = slice(8 * step, 8 * step + 8)
            batch = {"x": tf.constant(x[part]), "y": tf.constant(y[part])}
            with tf.device(other if step > 10 else None):
                result = loaded.signatures["train"](**batch)
            losses.append(result["loss"].numpy())
        found[f"{name}/losses"] = np.array(losses)
        for kind in ("weights", "state"):
            for path, variable in getattr(loaded, kind).items():
                found[f"{name}/{kind}/{path}"] = variable.numpy()
    np.savez(directory / "results.npz", **found)
    assert not imported()


def imported():
    return [name for name in sys.modules if name.split(".")[0] in FORBIDDEN]


if __name__ == "__main__":
    for name in imported():  # TensorFlow imports Keras by itself, if it is installed
        del sys.modules[name]
    sys.meta_path.insert(0, Refuse())
    main()
