r"""Trains a small model with an optimizer of this package and with one of Keras.

    python -m tools.train --config=configs/digits_adamw.yaml \
        --set optimizer.learning_rate=3e-3 --set data.epochs=10

Both start from the same weights and see the same batches. Prints the two side by
side and what `OptimizerMonitor` saw of the first, and writes `curves.png`,
`monitor.png` and `summary.json` into a directory named after the config.
TF_USE_LEGACY_KERAS=1 runs it under Keras 2 (tf_keras).
"""

import inspect
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags

import tf_keras_optim as tko
from tools import report, task
from tools.bench.task_data import Data
from tools.config import Config, keras_classes, load, optimizer_classes

_CONFIG = flags.DEFINE_string("config", "configs/digits_adamw.yaml", "The YAML file to run.")
_SET = flags.DEFINE_multi_string(
    "set", [], "section.key=value: counts more than the file. May be given repeatedly."
)
_OUTPUT = flags.DEFINE_string("output", "runs", "Directory for the results.")

_RECORDS = 60  # of a run, that the monitor makes at most; and ends of epochs
_SCHEDULE_CLASSES = {
    "cosine": "CosineDecay",
    "exponential": "ExponentialDecay",
    "polynomial": "PolynomialDecay",
}


def make_learning_rate(config: Config, rate: Any, steps: int) -> Any:
    """Returns the rate: a number, or a new schedule of the running Keras.

    Args:
      config: the configuration.
      rate: the rate of the optimizer, or the first one of the schedule.
      steps: number of steps of the run, over which a schedule without `decay_steps`
        stretches.
    """
    options = dict(config.schedule)
    name = options.pop("name")
    if name == "none":
        return rate
    options["decay_steps"] = options["decay_steps"] or steps
    return getattr(tf.keras.optimizers.schedules, _SCHEDULE_CLASSES[name])(rate, **options)


def make_optimizers(config: Config, steps: int) -> tuple[Any, Any]:
    """Returns an optimizer of this package, and one of the running Keras or `None`.

    Without a section `peer` both get the same arguments, save for `jit_compile`: it says how
    an update is run and not what it computes, and Keras' keeps its own default. There is no
    other one where Keras does not have that optimizer, or an argument of it. Under the
    precision "mixed_float16" ours is wrapped in a `LossScaleOptimizer`, as `compile` does with
    Keras'.
    """
    ours = _made(optimizer_classes(), config.optimizer, config, steps)
    if config.model["precision"] == "mixed_float16":
        ours = tko.LossScaleOptimizer(ours)
    if why_alone(config):
        return ours, None
    given = config.peer or {k: v for k, v in config.optimizer.items() if k != "jit_compile"}
    return ours, _made(keras_classes(), given, config, steps)


def why_alone(config: Config) -> str:
    """Returns why the running Keras has nothing to compare with; an empty text if it has."""
    if config.peer:
        return ""
    cls = keras_classes().get(config.optimizer["name"].lower())
    if cls is None:
        return f"{report.keras_title()} has no {config.optimizer['name']}"
    known = {"name", "jit_compile", *inspect.signature(cls).parameters}
    unknown = ", ".join(f"`{key}`" for key in config.optimizer if key not in known)
    name = config.optimizer["name"]
    return unknown and f"{name} of {report.keras_title()} has no argument {unknown}"


def _made(
    classes: Mapping[str, type], given: Mapping[str, Any], config: Config, steps: int
) -> Any:
    arguments = dict(given)
    cls = classes[arguments.pop("name").lower()]
    default = inspect.signature(cls).parameters["learning_rate"].default
    rate = arguments.pop("learning_rate", default)
    return cls(learning_rate=make_learning_rate(config, rate, steps), **arguments)


def _compiled_model(config: Config, classes: int, optimizer: Any, weights: Any = None) -> Any:
    model = task.build_model(config, classes)
    if weights is not None:
        model.set_weights(weights)
    metrics = ["accuracy", task.BatchLoss()]
    model.compile(optimizer=optimizer, loss=task.loss(), metrics=metrics)
    return model


def warm_up(config: Config, data: Data) -> None:
    """Trains and tests a throw-away model on one batch.

    What a process pays once, for whichever model is the first, is paid here and so
    falls on neither of the two that are compared.
    """
    model = _compiled_model(config, data.classes, tf.keras.optimizers.SGD())
    batch = slice(0, config.data["batch_size"])
    x, y = data.x[batch], data.y[batch]
    model.fit(x, y, validation_data=(x, y), verbose=0)


def train(
    config: Config, data: Data, optimizer: Any, weights: list, callbacks: Sequence[Any] = ()
) -> report.Result:
    """Trains a new model and returns what happened.

    Args:
      config: the configuration.
      data: the examples.
      optimizer: an optimizer of this package or of the running Keras.
      weights: the weights to start from, as `get_weights` returns them.
      callbacks: further callbacks of `fit`.
    """
    tf.keras.utils.set_random_seed(config.data["seed"])
    model = _compiled_model(config, data.classes, optimizer, weights)
    recorder = task.Recorder()
    model.fit(
        data.x,
        data.y,
        batch_size=config.data["batch_size"],
        epochs=config.data["epochs"],
        validation_data=(data.x_valid, data.y_valid),
        callbacks=[*callbacks, recorder],
        verbose=1,
    )
    train_scores, test_scores = (
        model.evaluate(x, y, batch_size=256, verbose=0, return_dict=True)
        for x, y in ((data.x, data.y), (data.x_valid, data.y_valid))
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


def run(
    config: Config, data: Data, ours: Any, peer: Any, output: pathlib.Path
) -> report.Comparison:
    """Trains with both optimizers, prints and returns the comparison, and writes the files.

    Args:
      config: the configuration.
      data: the examples.
      ours: the optimizer of this package.
      peer: the one of the running Keras, or `None`.
      output: directory to write into; made if it is missing.
    """
    began = time.perf_counter()
    steps = config.data["epochs"] * task.steps_per_epoch(config, data)
    monitor = tko.callbacks.OptimizerMonitor(every=max(10, steps // _RECORDS))
    print(report.headline(config, data), flush=True)
    with task.precision(config):
        weights = task.starting_weights(config, data)
        warm_up(config, data)
        print(f"\n== {config.optimizer['name']} of tf_keras_optim", flush=True)
        results = [train(config, data, ours, weights, [monitor])]
        if peer is not None:
            print(f"\n== {type(peer).__name__} of {report.keras_title()}", flush=True)
            results.append(train(config, data, peer, weights))
    comparison = report.Comparison(config, *results)
    seconds = time.perf_counter() - began
    print("\n" + comparison.table())
    if peer is None:
        print(f"Nothing to compare with: {why_alone(config)}.")
    print("\n" + report.watched(monitor.records))
    for path in comparison.write(output, seconds):
        print(f"Wrote {path}")
    monitor.plot(output / "monitor.png")
    print(f"Wrote {output / 'monitor.png'}")
    return comparison


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs; a mistake in the configuration ends with a message."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}. Use --set.")
    try:
        config = load(_CONFIG.value, _SET.value)
        data = task.load_data(config)
        steps = config.data["epochs"] * task.steps_per_epoch(config, data)
        ours, peer = make_optimizers(config, steps)
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    run(config, data, ours, peer, pathlib.Path(_OUTPUT.value) / config.name)


if __name__ == "__main__":
    app.run(main)
