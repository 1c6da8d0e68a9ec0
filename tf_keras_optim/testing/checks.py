"""The checks: each takes a trial and returns what it found, or raises AssertionError."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.testing.trials as trials
from tf_keras_optim.engine.nature import is_elementwise, is_pure
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.testing.report import NotRunError

BOUND = 2e-5  # of the distance moved
STEPS = 6
_SHAPES = ((7,), (2, 5, 3))  # `regimes` has more


@dataclasses.dataclass(frozen=True)
class Trial:
    """An optimizer on trial.

    Attributes:
      cls: its class.
      arguments: the arguments it is made with.
      strategy: a strategy of two replicas, or `None` where there can be none.
    """

    cls: Any
    arguments: Mapping[str, Any]
    strategy: tf.distribute.Strategy | None

    def make(self, **further: Any) -> Any:
        """Makes an optimizer, with further arguments that count more."""
        return self.cls(**{**self.arguments, **further})

    @functools.cached_property
    def reference(self) -> list[np.ndarray]:
        """The end of six steps in a function, without XLA's kernels."""
        gradients, start = trials.gradient_sequence(STEPS, _SHAPES), trials.starts(_SHAPES)
        return _run(self.make(jit_compile=False), gradients, start, "function")


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _close(values: Any, expected: Any, start: Any, what: str) -> str:
    """Requires equality within the bound; returns the error as a text."""
    moved = min(float(np.max(np.abs(e - s))) for e, s in zip(expected, start))
    _require(moved > 0.0, f"{what}: a variable did not move at all")
    error = trials.distance_error(values, expected, start)
    _require(error <= BOUND, f"{what}: off by {error:.1e} of the distance moved, above {BOUND}")
    return f"{what}: {error:.1e}"


def _run(optimizer: Any, gradients: Any, start: Any, regime: str = "eager") -> list[np.ndarray]:
    return trials.run(optimizer, gradients, start, regime, trials.named(start))


def _in_words(config: Any) -> str:
    return json.dumps(config, sort_keys=True, default=repr)


def configuration(trial: Trial) -> str:
    """A configuration goes through JSON and makes an equal optimizer."""
    optimizer = trial.make(jit_compile=False)
    config = optimizer.get_config()
    text = json.dumps(config)
    again = trial.cls.from_config(json.loads(text))
    _require(
        _in_words(again.get_config()) == _in_words(config),
        f"get_config() is not kept by from_config:\n{_in_words(config)}\n"
        f"{_in_words(again.get_config())}",
    )
    try:
        trial.make(learning_rat=0.1)
    except TypeError:
        pass
    else:
        raise AssertionError("an unknown argument `learning_rat` is accepted")
    gradients, start = trials.gradient_sequence(STEPS, _SHAPES), trials.starts(_SHAPES)
    values = _run(again, gradients, start, "function")
    return f"{len(config)} arguments; " + _close(
        values, trial.reference, start, "six steps of both"
    )


def regimes(trial: Trial) -> str:
    """Eager, `tf.function` and XLA give the same numbers."""
    gradients, start = trials.gradient_sequence(STEPS), trials.starts()
    expected = _run(trial.make(), gradients, start, "function")
    found = []
    for regime in ("eager", "xla"):
        values = _run(trial.make(), gradients, start, regime)
        found.append(_close(values, expected, start, f"{regime} against function"))
    return "; ".join(found)


def traces(trial: Trial) -> str:
    """A step is traced once, whatever the number of calls and the learning rate."""
    optimizer = trial.make()
    gradients, start = trials.gradient_sequence(STEPS, _SHAPES), trials.starts(_SHAPES)
    variables = trials.named(start)
    for number, batch in enumerate(gradients):
        if number == 3:
            optimizer.learning_rate = 2.0 * float(optimizer.current_learning_rate)
        optimizer.apply_gradients(
            [(tf.constant(g, tf.float32), v) for g, v in zip(batch, variables)]
        )
    count = optimizer.trace_count
    if count == 0 and not is_pure(optimizer):
        return "an `update_step`, which runs eagerly in eager calls"
    _require(count == 1, f"{count} traces in {STEPS} eager calls with 2 variables; expected 1")
    return f"1 trace in {STEPS} eager calls, with the learning rate changed between them"


def dtypes(trial: Trial) -> str:
    """Every floating dtype is kept; slots of narrow variables are float32."""
    kinds = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
    for kind in kinds:
        optimizer, variable = trial.make(), tf.Variable(tf.zeros([4, 3], kind), name="w")
        for _ in range(3):
            optimizer.apply_gradients([(tf.ones([4, 3], kind), variable)])
        value = variable.numpy().astype("d")
        _require(variable.dtype == kind, f"a {kind.name} variable became {variable.dtype.name}")
        _require(np.isfinite(value).all(), f"a {kind.name} variable is not finite: {value}")
        _require(value.any(), f"a {kind.name} variable did not move")
        if is_pure(optimizer):
            wide = tf.float64 if kind == tf.float64 else tf.float32
            slots = optimizer.tko.store.tracked[0].slots
            for name, slot in slots.items():
                _require(
                    slot.dtype == wide,
                    f"slot {name!r} of a {kind.name} variable is {slot.dtype.name}",
                )
    return ", ".join(kind.name for kind in kinds)


def _apply_sparse(
    optimizer: Any, starts: list[np.ndarray], gradients: list[list[Any]]
) -> list[np.ndarray]:
    """Applies gradients, by step and table, in a function; returns the tables."""
    tables = trials.named(starts)
    optimizer.build(tables)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch: list[Any]) -> None:
        optimizer.apply_gradients(zip(batch, tables))

    for batch in gradients:
        step(batch)
    return [table.numpy().astype("d") for table in tables]


def _slices(ids: list[int], rows: int, seed: int) -> tf.IndexedSlices:
    values = np.random.default_rng(seed).normal(1.0, 0.5, (len(ids), 3))
    return tf.IndexedSlices(
        tf.constant(values, tf.float32), tf.constant(ids), tf.constant([rows, 3])
    )


def sparse(trial: Trial) -> str:
    """A sparse gradient with repeated rows does what the dense one does."""
    (start,) = trials.starts([(6, 3)])
    slices = [_slices([4, 1, 4, 2], 6, seed) for seed in range(STEPS)]
    dense = [tf.math.unsorted_segment_sum(s.values, s.indices, 6) for s in slices]
    ours = _apply_sparse(trial.make(), [start], [[s] for s in slices])
    expected = _apply_sparse(trial.make(), [start], [[d] for d in dense])
    return _close(ours, expected, [start], "repeated rows against the dense gradient")


def lazy(trial: Trial) -> str:
    """Lazy rows move like a table of their own; the others keep every bit."""
    if not is_elementwise(trial.make()):
        try:
            trial.make(sparse="lazy")
        except ValueError:
            raise NotRunError(
                "not elementwise, so sparse='lazy' is refused, as it should"
            ) from None
        raise AssertionError("sparse='lazy' is accepted, but the class is not elementwise")
    (start,) = trials.starts([(6, 3)])
    slices = [_slices([4, 1, 4, 2], 6, seed) for seed in range(STEPS)]
    (ours,) = _apply_sparse(trial.make(sparse="lazy"), [start], [[s] for s in slices])
    touched, others = [1, 2, 4], [0, 3, 5]
    _require(np.array_equal(ours[others], start[others]), "rows without a gradient changed")
    # Each in a table of its own, so that nothing can come from its neighbours.
    dense = [tf.convert_to_tensor(s) for s in slices]
    expected = _apply_sparse(
        trial.make(),
        [start[row : row + 1] for row in touched],
        [[d[row : row + 1] for row in touched] for d in dense],
    )
    for row, (alone,) in zip(touched, expected):
        _close([ours[row]], [alone], [start[row]], f"row {row} against a table of its own")
    return "touched rows move as if each were alone; the others stay"


def replicas(trial: Trial) -> str:
    """Two replicas give what one gives on the sum of the gradients."""
    if trial.strategy is None:
        raise NotRunError(
            "needs two logical devices; set them up before TensorFlow is used with "
            "tf.config.set_logical_device_configuration"
        )
    gradients, start = trials.gradient_sequence(STEPS, _SHAPES), trials.starts(_SHAPES)
    shares = [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]
    _, values = trials.run_in_replicas(trial.strategy, trial.make, shares, start)
    return _close(values, trial.reference, start, "two replicas against one")


def resume(trial: Trial) -> str:
    """State that is saved and loaded, before or after `build`, goes on bit for bit."""
    gradients, start = trials.gradient_sequence(2 * STEPS, _SHAPES), trials.starts(_SHAPES)
    variables = trials.named(start)
    first = trial.make()
    trials.run(first, gradients[:STEPS], start, variables=variables)
    store: dict[str, Any] = {}
    first.save_own_variables(store)
    middle = [v.numpy() for v in variables]
    for batch in gradients[STEPS:]:  # it goes on; nothing is built again
        first.apply_gradients(
            [(tf.constant(g, tf.float32), v) for g, v in zip(batch, variables)]
        )
    whole = [v.numpy() for v in variables]
    for built in (True, False):
        again = trial.make()
        for variable, value in zip(variables, middle):
            variable.assign(value)
        if built:
            again.build(variables)
        again.load_own_variables(store)
        values = trials.run(again, gradients[STEPS:], start, variables=variables)
        for value, expected in zip(values, whole):
            _require(
                np.array_equal(value, expected),
                f"loaded {'after' if built else 'before'} build, it ends elsewhere than the "
                f"uninterrupted run, by up to {np.max(np.abs(value - expected)):.1e}",
            )
    return f"{len(store)} arrays; {STEPS} + {STEPS} steps equal {2 * STEPS} bit for bit"


def accumulation(trial: Trial) -> str:
    """Two micro-batches make the step of their mean."""
    gradients, start = trials.gradient_sequence(STEPS, _SHAPES), trials.starts(_SHAPES)
    apart = trials.gradient_sequence(STEPS, _SHAPES, seed=2)
    halves = []
    for batch, others in zip(gradients, apart):
        halves += [
            [g + o for g, o in zip(batch, others)],
            [g - o for g, o in zip(batch, others)],
        ]
    optimizer = trial.make(gradient_accumulation_steps=2)
    values = _run(optimizer, halves, start, "function")
    return _close(values, trial.reference, start, "two micro-batches against one batch")


def _quadratic() -> tuple[list[tf.Variable], Callable[[], tf.Tensor]]:
    w = tf.Variable(tf.zeros([10]))
    curvature, target = tf.linspace(1.0, 10.0, 10), tf.ones([10])
    return [w], lambda: tf.reduce_mean(curvature * tf.square(w - target))


def _logistic() -> tuple[list[tf.Variable], Callable[[], tf.Tensor]]:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(64, 5)).astype("f")
    labels = tf.constant((x @ generator.normal(size=5) > 0).astype("f"))
    w, b = tf.Variable(tf.fill([5, 1], 0.1)), tf.Variable(tf.zeros([]))

    def loss() -> tf.Tensor:
        logits = tf.matmul(x, w)[:, 0] + b
        return tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        )

    return [w, b], loss


def _network() -> tuple[list[tf.Variable], Callable[[], tf.Tensor]]:
    generator = np.random.default_rng(4)
    x = tf.linspace(-2.0, 2.0, 32)[:, None]
    first = tf.Variable(generator.normal(size=(1, 16)).astype("f"))
    second = tf.Variable(0.25 * generator.normal(size=(16, 1)).astype("f"))
    bias = tf.Variable(tf.zeros([16]))

    def loss() -> tf.Tensor:
        y = tf.matmul(tf.tanh(tf.matmul(x, first) + bias), second)
        return tf.reduce_mean(tf.square(y - tf.sin(2.0 * x)))

    return [first, bias, second], loss


def objectives(trial: Trial) -> str:
    """The loss of a quadratic, of a logistic regression and of a network goes down."""
    found = []
    for name, make in {
        "quadratic": _quadratic,
        "logistic regression": _logistic,
        "network": _network,
    }.items():
        variables, loss = make()
        optimizer = trial.make(jit_compile=False)  # `regimes`: compiled, it does the same
        optimizer.build(variables)

        @tf.function(autograph=False)
        def step(loss=loss, variables=variables, optimizer=optimizer) -> tf.Tensor:
            with tf.GradientTape() as tape:
                value = loss()
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
            return value

        losses = [float(step()) for _ in range(100)]
        first, last = losses[0], float(np.mean(losses[-5:]))
        _require(
            np.isfinite(losses).all() and last < 0.9 * first,
            f"the loss of the {name} went from {first:.3g} to {last:.3g} in 100 steps; "
            "expected at most 0.9 of the first (try another learning rate)",
        )
        found.append(f"{name} {first:.3g} to {last:.2g}")
    return "; ".join(found)


def serialization(trial: Trial) -> str:
    """Keras' own serialization finds the class again."""
    optimizer = trial.make()
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(config)), custom_objects={trial.cls.__name__: trial.cls}
    )
    _require(type(again) is trial.cls, f"Keras makes a {type(again).__name__} of its config")
    return f"as {config['class_name']!r}"


CHECKS: dict[str, Callable[[Trial], str]] = {
    check.__name__: check
    for check in (
        configuration,
        serialization,
        regimes,
        traces,
        dtypes,
        sparse,
        lazy,
        replicas,
        resume,
        accumulation,
        objectives,
    )
}
