"""Converts an exported model for each optimizer, and trains it in TFLite's interpreter.

python -m tests.lite [NAME ...]

Prints what needs the Flex delegate, and after twenty steps the largest difference of a loss
from TensorFlow's. Exits with 1 where either is not as the table of `export_tflite` says. The
interpreter of TensorFlow's package has no Flex delegate, so what needs it is converted only.
"""

import pathlib
import sys
import tempfile
import warnings

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko

NEED_FLEX = (
    "Adafactor",
    "CAME",
    "Lamb",
    "LARS",
    "MARS",
    "Prodigy",
    "RAdam",
)  # numbers of float64
NOWHERE = ("Shampoo", "Soap")  # eigenvectors, which Flex has not either
NAMES = [name for name in tko.list_optimizers() if name not in NOWHERE]
STEPS = 20


def train(name, directory):
    """Returns the operations that need Flex, and the losses in TFLite and in TensorFlow."""
    keras = tf.keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile(getattr(tko, name)(0.05, jit_compile=False), "mse", jit_compile=False)
    path, target = pathlib.Path(directory) / "model", pathlib.Path(directory) / "m.tflite"
    signature = (tf.TensorSpec([8, 4]), tf.TensorSpec([8, 3]))
    tko.export_training(model, path, input_signature=signature, jit_compile=False)
    flex = tko.export_tflite(path, target, ["train", "infer"])
    if flex:
        return flex, [], []
    generator = np.random.default_rng(0)
    batch = {k: generator.normal(size=(8, n)).astype("f") for k, n in (("x", 4), ("y", 3))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that another package has it too
        interpreter = tf.lite.Interpreter(model_path=str(target))
    there = interpreter.get_signature_runner("train")
    here = tf.saved_model.load(str(path)).signatures["train"]
    tensors = {key: tf.constant(value) for key, value in batch.items()}
    losses = [(float(there(**batch)["loss"]), float(here(**tensors)["loss"]))
              for _ in range(STEPS)]  # fmt: skip
    return flex, *zip(*losses)


def main(names):
    wrong = 0
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as directory:
            flex, there, here = train(name, directory)
        error = max((abs(a - b) / b for a, b in zip(there, here)), default=float("nan"))
        ok = bool(flex) is (name in NEED_FLEX) and (bool(flex) or error < 1e-5)
        wrong += not ok
        print(f"{name:10} {error:8.1e} {'' if ok else 'WRONG '}{', '.join(flex)}", flush=True)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
