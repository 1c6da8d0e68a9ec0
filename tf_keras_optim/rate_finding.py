"""Finding a learning rate: a range test that restores everything."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tf_keras_optim.compiled import optimizer_of
from tf_keras_optim.engine.hyperparameters import Hyperparameter, nearest
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.rate_range import TITLE as _TITLE
from tf_keras_optim.rate_range import LearningRateRange, RangeTest
from tf_keras_optim.saving import snapshots

_NO_LIMIT = 10**9  # epochs; the test ends by itself
_OF_FIT = ("batch_size", "sample_weight", "class_weight", "shuffle")
_ATTRIBUTES = ("history", "stop_training")  # that `fit` sets
_ABSENT = object()

_ARGUMENTS = {
    "lowest": Hyperparameter(1e-7, above=0.0),
    "highest": Hyperparameter(10.0, above=0.0),
    "steps": Hyperparameter(200, minimum=10),
    "divergence": Hyperparameter(4.0, above=1.0),
}
for _name, _argument in _ARGUMENTS.items():
    _argument.name = _name


def find_learning_rate(
    model: Any,
    data: Any = None,
    y: Any = None,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 200,
    divergence: float = 4.0,
    monitor: str = "loss",
    variables: Iterable[Any] = (),
    verbose: int = 1,
    **fit_arguments: Any,
) -> LearningRateRange:
    """Trains with a growing learning rate, restores everything, and suggests a rate.

    `LearningRateRange` describes the test and what it restores.

    Args:
      model: a compiled Keras model; or, for a custom training loop, a function that takes one
        step with the given rate and returns the loss. A function needs `variables` and takes
        no `data`.
      data: what `fit` takes as `x`. It is read again when it ends, except for a generator.
      y: as for `fit`.
      lowest: the first rate, above 0.
      highest: the last one, above `lowest`.
      steps: the number of rates, at least 10.
      divergence: the test ends when the running mean of the loss exceeds its lowest value by
        this factor, above 1.
      monitor: the name of the loss among the values that `train_step` returns.
      variables: other objects that training changes and the test restores: variables, models,
        optimizers, metrics, generators.
      verbose: 0 for no progress bar.
      **fit_arguments: `batch_size`, `sample_weight`, `class_weight` and `shuffle` of `fit`.

    Returns:
      A `LearningRateRange`: `rates`, `losses`, `suggestion`, `minimum_over_10`, `plot()`.

    Raises:
      TypeError: the optimizer is not of this package, or an argument is of another kind.
      ValueError: the model is not compiled, an argument is missing or out of range, the data
        ended too early, or the first loss is not finite.

    Example:
      >>> model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
      >>> model.compile(AdamW(), "mse")
      >>> x = tf.random.stateless_normal([64, 2], seed=[1, 2])
      >>> found = find_learning_rate(model, x, x[:, :1] * 3.0, steps=30, verbose=0)
      >>> 1e-5 < found.suggestion < 10.0
      True
    """
    numbers = {"lowest": lowest, "highest": highest, "steps": steps, "divergence": divergence}
    rates, factor = _checked(numbers)
    if isinstance(model, keras.Model):
        return _of_model(model, (data, y, monitor, fit_arguments), rates, factor,
                         list(variables), verbose)  # fmt: skip
    changed = list(variables)
    _check_function(model, {"data": data, "y": y, **fit_arguments}, changed)
    return _of_function(model, rates, factor, changed, verbose)


def _checked(numbers: Mapping[str, Any]) -> tuple[list[float], float]:
    """Returns the rates, and the factor that tells divergence.

    Raises:
      ValueError: an argument is of another kind or out of range.
    """
    found = {name: _ARGUMENTS[name].check(v, _TITLE) for name, v in numbers.items()}
    if found["highest"] <= found["lowest"]:
        raise ValueError(
            f"{_TITLE}: argument `highest` must be above `lowest`. Received: "
            f"highest={found['highest']!r}, lowest={found['lowest']!r}."
        )
    rates = np.geomspace(found["lowest"], found["highest"], found["steps"])
    return [float(rate) for rate in rates], found["divergence"]


# With `fit`.


class _Callback(keras.callbacks.Callback):
    """Sets the rate before each step of `fit`, and takes the loss after it.

    Args:
      tested: the model.
      test: the test.
      monitor: the name of the loss.
    """

    def __init__(self, tested: Any, test: RangeTest, monitor: str):
        super().__init__()
        self._tested, self._test, self._monitor = tested, test, monitor

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate; metrics begin anew, so that the loss is that of this batch."""
        self._tested.reset_metrics()
        self._tested.optimizer.learning_rate = self._test.rate

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Takes the loss."""
        if self._monitor not in (logs or {}):
            raise ValueError(
                f"{_TITLE}: argument `monitor` must be the name of what a training step of the "
                f"model returns: {', '.join(map(repr, logs or {}))}. Received: "
                f"{self._monitor!r}."
            )
        self._test.took(float(logs[self._monitor]))
        self._tested.stop_training = self._test.is_over


def _of_model(
    model: Any,
    given: tuple[Any, Any, str, Mapping[str, Any]],
    rates: list[float],
    factor: float,
    others: list[Any],
    verbose: int,
) -> LearningRateRange:
    """Tests a model with `fit`; `given` are data, labels, the loss' name and more of `fit`.

    Raises:
      TypeError, ValueError: as `find_learning_rate`.
    """
    data, y, monitor, fit_arguments = given
    for name in fit_arguments:
        if name not in _OF_FIT:
            raise TypeError(
                f"{_TITLE} got an unknown argument {name!r}.{nearest(name, _OF_FIT)} Of `fit` "
                f"it takes {', '.join(_OF_FIT)}."
            )
    if data is None:
        raise ValueError(f"{_TITLE}: argument `data` is missing. Give what `fit` gets.")
    optimizer = _optimizer(model)
    _build(model, optimizer, data, fit_arguments.get("batch_size"))
    with (
        _attributes(model),
        snapshots.put_back([model, model.optimizer, *others], _TITLE),
        _own_train_function(model, optimizer),
        optimizer.tko.rate.stand_in(traced_anew=True),
    ):
        optimizer.use_training_weights()
        test = RangeTest(rates, factor, [optimizer], verbose)
        callback = _Callback(model, test, monitor)
        # Keras 3 would give the first batches of a generator again.
        epochs = 1 if isinstance(data, Iterator) else _NO_LIMIT
        model.fit(data, y, epochs=epochs, verbose=0, callbacks=[callback], **fit_arguments)
        if not test.is_over:
            raise ValueError(
                f"{_TITLE}: argument `data` ended after {len(test.losses)} of {len(rates)} "
                "updates. Give data that can be read again from the start, more of them, or a "
                "smaller `steps`."
            )
    return test.record()


def _optimizer(model: Any) -> Optimizer:
    """Returns the optimizer that a model is compiled with, without a wrapper.

    Raises:
      TypeError: it is none of this package.
      ValueError: the model is not compiled.
    """
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"{_TITLE}: the model {model.name!r} is not compiled. Call "
            "`model.compile(optimizer, loss)` first."
        )
    return optimizer_of(model, _TITLE.strip("`"))


def _build(model: Any, optimizer: Optimizer, data: Any, batch_size: Any) -> None:
    """Makes the variables of a model and its optimizer, where there are none yet.

    Raises:
      ValueError: that would use up a batch.
    """
    if not model.built:
        if isinstance(data, Iterator):
            raise ValueError(
                f"{_TITLE}: the model {model.name!r} is not built, and `data` can be read once "
                "only. Call the model on a batch first."
            )
        model.predict(data, batch_size=batch_size, steps=1, verbose=0)
    if not optimizer.built:
        model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def _attributes(model: Any) -> Iterator[None]:
    """Puts attributes that `fit` sets back."""
    before = {name: getattr(model, name, _ABSENT) for name in _ATTRIBUTES}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not _ABSENT:
                setattr(model, name, value)
            elif hasattr(model, name):
                delattr(model, name)


@contextlib.contextmanager
def _own_train_function(model: Any, optimizer: Optimizer) -> Iterator[None]:
    """Has `fit` trace a function of its own, where the rate is none that can be assigned."""
    if optimizer.tko.context.store.rate is not None:
        yield
        return
    before, model.train_function = model.train_function, None
    try:
        yield
    finally:
        model.train_function = before


# With a function.


def _check_function(function: Any, given: Mapping[str, Any], variables: list[Any]) -> None:
    """Refuses what is no function of a rate, and arguments that it has no use for.

    Raises:
      TypeError, ValueError: as `find_learning_rate`.
    """
    if not callable(function):
        raise TypeError(
            f"{_TITLE}: argument `model` must be a model of {keras.__name__}, or a function of "
            f"a learning rate. Received: {function!r} (of type {type(function).__name__})."
        )
    useless = [name for name, value in given.items() if value is not None]
    if useless:
        raise ValueError(
            f"{_TITLE}: argument `{useless[0]}` belongs to a model. A function takes its "
            "batches by itself."
        )
    if not variables:
        raise ValueError(
            f"{_TITLE}: argument `variables` is empty. Give all that the function changes, "
            "e.g. `variables=[model, optimizer]`, so that it can be put back."
        )


def _of_function(
    function: Callable[[float], Any],
    rates: list[float],
    factor: float,
    variables: list[Any],
    verbose: int,
) -> LearningRateRange:
    """Tests with a function that takes a step with the rate it is given."""
    inner = [getattr(thing, "inner_optimizer", thing) for thing in variables]
    optimizers = [found for found in inner if isinstance(found, Optimizer)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(snapshots.put_back(variables, _TITLE))
        for optimizer in optimizers:
            stack.enter_context(optimizer.tko.rate.stand_in())
            optimizer.use_training_weights()
        test = RangeTest(rates, factor, optimizers, verbose)
        while not test.is_over:
            test.took(_number(function(test.rate)))
    return test.record()


def _number(loss: Any) -> float:
    """Returns a loss as a number.

    Raises:
      TypeError: it is none.
    """
    found = np.asarray(loss.numpy() if hasattr(loss, "numpy") else loss)
    if found.ndim or (found.dtype.kind not in "biuf" and found.dtype.name != "bfloat16"):
        raise TypeError(
            f"{_TITLE}: the function must return the loss, a number or a 0-d tensor. Received: "
            f"{loss!r}."
        )
    return float(found)
