r"""Trains a small model with an optimizer of this package and with Keras' own.

    python -m tools.train --config=configs/digits_adamw.yaml \
        --set optimizer.learning_rate=3e-3 --set data.epochs=10

Both start from the same weights and see the same batches. Prints the two side by
side and writes `curves.png` and `summary.json` into a directory named after the
config. TF_USE_LEGACY_KERAS=1 runs it under Keras 2 (tf_keras).
"""

import inspect
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags

from tools import report
from tools.config import Config, load, optimizer_classes
from tools.task import BatchLoss, Data, Recorder, build_model, load_data

_CONFIG = flags.DEFINE_string("config", "configs/digits_adamw.yaml", "The YAML file to run.")
_SET = flags.DEFINE_multi_string(
    "set", [], "section.key=value: counts more than the file. May be given repeatedly."
)
_OUTPUT = flags.DEFINE_string("output", "runs", "Directory for the results.")

_SCHEDULE_CLASSES = {
    "cosine": "CosineDecay",
    "exponential": "ExponentialDecay",
    "polynomial": "PolynomialDecay",
}


def make_learning_rate(config: Config, steps: int) -> Any:
    """Returns the rate: a number, or a new schedule of the running Keras.

    Args:
      config: the configuration; the optimizer's rate is the schedule's first.
      steps: number of steps of the run, over which a schedule without `decay_steps`
        stretches.
    """
    cls = optimizer_classes()[config.optimizer["name"].lower()]
    default = inspect.signature(cls).parameters["learning_rate"].default
    rate = config.optimizer.get("learning_rate", default)
    options = dict(config.schedule)
    name = options.pop("name")
    if name == "none":
        return rate
    options["decay_steps"] = options["decay_steps"] or steps
    return getattr(tf.keras.optimizers.schedules, _SCHEDULE_CLASSES[name])(rate, **options)


def make_optimizers(config: Config, steps: int) -> tuple[Any, Any]:
    """Returns an optimizer of this package and its peer of the running Keras.

    Both get the same arguments, save for `jit_compile`: it says how an update is run
    and not what it computes, and the peer keeps its own default.

    Raises:
      ValueError: the running Keras has no optimizer of that name, or that one lacks
        an argument that the configuration sets.
    """
    arguments = {key: value for key, value in config.optimizer.items() if key != "name"}
    ours = optimizer_classes()[config.optimizer["name"].lower()]
    peer = getattr(tf.keras.optimizers, ours.__name__, None)
    if peer is None:
        raise ValueError(
            f"{report.keras_title()} has no optimizer {ours.__name__!r} to compare with. "
            "Choose another `optimizer.name`."
        )
    for name in set(arguments) - set(inspect.signature(peer).parameters) - {"jit_compile"}:
        raise ValueError(
            f"{ours.__name__} of {report.keras_title()} has no argument {name!r}, so there "
            f"is nothing to compare with. Take `optimizer.{name}` out of the configuration."
        )
    shared = {key: value for key, value in arguments.items() if key != "jit_compile"}
    return (
        ours(**arguments | {"learning_rate": make_learning_rate(config, steps)}),
        peer(**shared | {"learning_rate": make_learning_rate(config, steps)}),
    )


def _compiled_model(config: Config, optimizer: Any, weights: Any = None) -> Any:
    model = build_model(config)
    if weights is not None:
        model.set_weights(weights)
    model.compile(
        optimizer=optimizer,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", BatchLoss()],
    )
    return model


def warm_up(config: Config, data: Data) -> None:
    """Trains and tests a throw-away model on one batch.

    What a process pays once, for whichever model is the first, is paid here and so
    falls on neither of the two that are compared.
    """
    model = _compiled_model(config, tf.keras.optimizers.SGD())
    batch = slice(0, config.data["batch_size"])
    images, labels = data.train_images[batch], data.train_labels[batch]
    model.fit(images, labels, validation_data=(images, labels), verbose=0)


def train(config: Config, data: Data, optimizer: Any, weights: list) -> report.Result:
    """Trains a new model and returns what happened.

    Args:
      config: the configuration.
      data: the images and labels.
      optimizer: an optimizer of this package or of the running Keras.
      weights: the weights to start from, as `get_weights` returns them.
    """
    tf.keras.utils.set_random_seed(config.data["seed"])
    model = _compiled_model(config, optimizer, weights)
    recorder = Recorder()
    model.fit(
        data.train_images,
        data.train_labels,
        batch_size=config.data["batch_size"],
        epochs=config.data["epochs"],
        validation_data=(data.test_images, data.test_labels),
        callbacks=[recorder],
        verbose=1,
    )
    train_scores, test_scores = (
        model.evaluate(images, labels, batch_size=256, verbose=0, return_dict=True)
        for images, labels in (
            (data.train_images, data.train_labels),
            (data.test_images, data.test_labels),
        )
    )
    return report.Result(
        step_losses=recorder.losses,
        epoch_test_accuracies=recorder.accuracies,
        train_loss=float(train_scores["loss"]),
        test_loss=float(test_scores["loss"]),
        test_accuracy=float(test_scores["accuracy"]),
        first_step_seconds=recorder.first_step_seconds,
        step_seconds=recorder.step_seconds,
    )


def run(config: Config, data: Data, ours: Any, peer: Any, output: pathlib.Path) -> None:
    """Trains with both optimizers, prints the comparison and writes the files.

    Args:
      config: the configuration.
      data: the images and labels.
      ours: the optimizer of this package.
      peer: the one of the running Keras.
      output: directory to write into; made if it is missing.
    """
    began = time.perf_counter()
    tf.keras.utils.set_random_seed(config.data["seed"])
    weights = build_model(config).get_weights()
    print(report.headline(config, data), flush=True)
    warm_up(config, data)
    results = []
    for title, optimizer in (("tf_keras_optim", ours), (report.keras_title(), peer)):
        print(f"\n== {config.optimizer['name']} of {title}", flush=True)
        results.append(train(config, data, optimizer, weights))
    comparison = report.Comparison(config, *results)
    seconds = time.perf_counter() - began
    print("\n" + comparison.table())
    for path in comparison.write(output, seconds):
        print(f"Wrote {path}")


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs; a mistake in the configuration ends with a message."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}. Use --set.")
    try:
        config = load(_CONFIG.value, _SET.value)
        data = load_data(config)
        steps = config.data["epochs"] * data.steps_per_epoch(config.data["batch_size"])
        ours, peer = make_optimizers(config, steps)
    except ValueError as error:
        sys.exit(f"error: {error}")
    run(config, data, ours, peer, pathlib.Path(_OUTPUT.value) / config.name)


if __name__ == "__main__":
    app.run(main)
