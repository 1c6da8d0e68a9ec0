"""Sharpness-aware minimization: steps with the gradient at the worst weights nearby."""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.step import second_pass
from tf_keras_optim.engine.step.second_pass import SecondPass
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import rows
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer

_OWN = "tko_own"  # on methods of ours: those of a model that they take the place of
_losses: contextvars.ContextVar[list[None] | None] = contextvars.ContextVar(
    "tf_keras_optim_losses", default=None
)


_RHO = Hyperparameter(0.05, minimum=0.0)
_ADAPTIVE = Hyperparameter(False)
_EVERY = Hyperparameter(1, kind=int, minimum=1)
_RHO.name, _ADAPTIVE.name, _EVERY.name = "rho", "adaptive", "every"


def _checked(owner: str, rho: Any, adaptive: Any, every: Any) -> tuple[float, bool, int]:
    """Returns the arguments.

    Raises:
      ValueError: one is of another kind or out of range.
    """
    return _RHO.check(rho, owner), _ADAPTIVE.check(adaptive, owner), _EVERY.check(every, owner)


class SharpnessAware:
    """Sharpness-aware minimization: steps with the gradient at the worst weights nearby.

    ```
    e = rho * g / |g|                                  g: the gradient at the weights w
    e = rho * T^2 g / |T g|,  T = |w| + 0.01           adaptive; biases and other vectors: T = 1
    the optimizer's step at w, with the gradient at w + e
    ```

    The norm is over all variables. Each step takes two passes, so it costs about twice as
    much; nothing is kept between steps. Under `tf.distribute` each replica climbs along the
    gradient of its own part of the batch, as in the paper, and the second gradients are summed.
    If the first gradient is not finite, neither is the second; a loss scale then skips the
    step.

    It is not an optimizer of Keras: pass the inner optimizer to `model.compile`, and use
    `sharpness_aware` for `fit`.

    Args:
      optimizer: an optimizer of this package, with or without a LossScaleOptimizer.
      rho: distance that the weights climb, at least 0: 0.05 for `adaptive=False`, 0.5 to 2 for
        True.
      adaptive: whether each weight climbs in proportion to its size. Keyword-only.
      every: number of steps of which one has a second pass, at least 1. Keyword-only.

    Raises:
      TypeError: `optimizer` is not an optimizer of this package.
      ValueError: an argument is out of range, or the optimizer accumulates gradients; or, in a
        step, a variable has 16 bits.

    Example:
      >>> w = tf.Variable([1.0, 2.0])
      >>> sharp = SharpnessAware(SGD(0.1), rho=0.5)
      >>> _ = sharp.minimize(lambda: tf.reduce_sum(w**2) / 2, [w])
      >>> w.numpy().round(3)
      array([0.878, 1.755], dtype=float32)

    Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021 (arXiv 2010.01412); Kwon et al., "ASAM", ICML 2021 (arXiv
    2102.11600).
    """

    def __init__(
        self, optimizer: Any, rho: float = 0.05, *, adaptive: bool = False, every: int = 1
    ):
        self.optimizer = optimizer
        owner = type(self).__name__
        self.rho, self.adaptive, self.every = _checked(owner, rho, adaptive, every)
        inner = _inner(optimizer, type(self).__name__)
        if calls_per_update(inner.tko.context.options) > 1:
            raise ValueError(
                f"{type(self).__name__}: {inner.tko.title} has `gradient_accumulation_steps`="
                f"{inner.gradient_accumulation_steps}, with which no second pass is possible: "
                "each call would climb from weights that have not moved, along the gradient of "
                "a part of the batch. Use a larger batch."
            )

    def minimize(
        self, loss: Callable[[], Any], var_list: Iterable[Any], *, kept: Iterable[Any] = ()
    ) -> Any:
        """Takes one step; also in a `tf.function` and in the replicas of a strategy.

        Args:
          loss: returns the loss, a 0-d tensor; called twice.
          var_list: the variables to train.
          kept: variables whose values from the first call stay, e.g.
            `model.non_trainable_variables`: moving statistics, states of generators.
            Keyword-only.

        Returns:
          The variable `iterations`.

        Raises:
          TypeError: `loss` cannot be called.
        """
        if not callable(loss):
            raise TypeError(
                f"{type(self).__name__}: argument `loss` must be a function without arguments "
                f"that returns the loss, as it is computed twice. Received: {loss!r}."
            )
        variables = list(var_list)
        with _with_second_pass(self, loss, lambda: kept):
            return self.optimizer.minimize(loss, variables)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        loss: Callable[[], Any],
        *,
        kept: Iterable[Any] = (),
    ) -> Any:
        """Takes one step with gradients at the weights that were computed before.

        Args:
          grads_and_vars: pairs of gradient and variable, as the optimizer takes them.
          loss: as for `minimize`; called once.
          kept: as for `minimize`.

        Returns:
          The variable `iterations`.
        """
        with _with_second_pass(self, loss, lambda: kept):
            return self.optimizer.apply_gradients(grads_and_vars)


@contextlib.contextmanager
def _with_second_pass(
    sharp: SharpnessAware,
    loss: Callable[[], Any],
    kept: Callable[[], Iterable[Any]],
    rewound: Iterable[tuple[Any, tf.Tensor]] = (),
) -> Iterator[SecondPass]:
    """Gives the steps that are taken meanwhile a second pass; arguments as for that."""
    outer = sharp.optimizer
    inner = _inner(outer, "SharpnessAware")

    def compute(variables: list[Any], scaled: bool) -> list[Any]:
        if inner is outer:
            return [gradient for gradient, _ in inner.compute_gradients(loss, variables)]
        pairs = inner.compute_gradients(lambda: _scaled(outer, loss()), variables)
        found = [gradient for gradient, _ in pairs]
        if scaled and inner.tko.scaling.has_scale:
            return found
        # Keras' own wrapper divides by the scale before the optimizer gets the gradients.
        inverse = 1.0 / tf.cast(_scaled(outer, tf.ones([])), tf.float64)
        return [None if g is None else rows.times(g, inverse) for g in found]

    settings = (sharp.rho, sharp.adaptive, sharp.every)
    second = SecondPass(*settings, compute, kept, list(rewound))
    with second_pass.taken(inner, second):
        yield second


def sharpness_aware(
    model: Any, rho: float = 0.05, *, adaptive: bool = False, every: int = 1
) -> Any:
    """Makes `fit` and `train_on_batch` of a model sharpness-aware; see `SharpnessAware`.

    The metrics, the moving statistics of batch normalization and the loss that is shown are
    those of the first pass. Under Keras 3 the second one draws the same dropout masks; under
    Keras 2 it draws new ones. The model's files do not record it: call this again for a model
    that was loaded, copied or unpickled. Calling it again changes the arguments.

    Args:
      model: a Keras model, compiled now or later, with an optimizer of this package. If it has
        a `train_step` of its own, this must use `compute_loss` and apply gradients once.
      rho: as for `SharpnessAware`.
      adaptive: as there.
      every: as there.

    Returns:
      The model.

    Raises:
      TypeError: `model` is no Keras model; or, in training, the optimizer is none of this
        package.
      ValueError: an argument is out of range; or, in training, the optimizer accumulates
        gradients, or the model's `train_step` is not as described.

    Example:
      >>> model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
      >>> model.compile(AdamW(0.01), "mse")
      >>> _ = sharpness_aware(model, rho=0.05).fit(tf.ones([8, 2]), tf.ones([8, 1]), verbose=0)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`sharpness_aware`: argument `model` must be a model of {keras.__name__}. "
            f"Received: {model!r}."
        )
    _checked("sharpness_aware", rho, adaptive, every)
    given = model.train_step
    own = getattr(given, _OWN, given)

    def train_step(data: Any) -> Any:
        sharp = SharpnessAware(model.optimizer, rho, adaptive=adaptive, every=every)
        return _step(model, sharp, own, data)

    setattr(train_step, _OWN, own)
    # Beside Keras' own `__setattr__`, which would track the function.
    model.__dict__.update(train_step=train_step, compute_loss=_counting(model))
    model.train_function = None  # it may have been traced without
    return model


def _step(model: Any, sharp: SharpnessAware, own: Callable[[Any], Any], data: Any) -> Any:
    """Takes the model's own step, whose gradients are replaced by those of a second pass."""
    inner = _inner(sharp.optimizer, "sharpness_aware")
    compute_loss = getattr(model.compute_loss, _OWN, model.compute_loss)

    def value(variable: Any) -> tf.Tensor:
        return distribution.local(inner.tko.keras.unwrap(variable)).read_value()

    def loss() -> tf.Tensor:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        outputs = model(x, **_training(model.call))
        given = {"x": x, "y": y, "y_pred": outputs, "sample_weight": weight}
        return compute_loss(**given, **_training(compute_loss))

    def kept() -> list[Any]:
        metrics = [v for metric in model.metrics for v in metric.variables]
        return [*model.non_trainable_variables, *metrics]

    calls: list[None] = []
    before = [(v, value(v)) for v in model.non_trainable_variables] if model.built else []
    token = _losses.set(calls)
    try:
        with _with_second_pass(sharp, loss, kept, before) as second:
            logs = own(data)
    finally:
        _losses.reset(token)
    if second.calls != 1 or not calls:
        raise ValueError(
            f"`sharpness_aware`: the `train_step` of model {model.name!r} must compute its "
            "loss by `compute_loss` and apply gradients once. It called `compute_loss` "
            f"{len(calls)} times, and applied gradients {second.calls} times. In a step of "
            "your own use `SharpnessAware(optimizer).minimize(loss, variables)`."
        )
    return logs


def _training(function: Callable[..., Any]) -> dict[str, bool]:
    """Returns the argument that says that a model trains, where a function takes it."""
    parameters = inspect.signature(function).parameters
    return {"training": True} if "training" in parameters else {}


def _counting(model: Any) -> Callable[..., Any]:
    """Returns the model's `compute_loss`, which says each time that it was called."""
    given = model.compute_loss
    own = getattr(given, _OWN, given)

    @functools.wraps(own)
    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        calls = _losses.get()  # of this thread: replicas have threads of their own
        if calls is not None:
            calls.append(None)
        return own(*args, **kwargs)

    setattr(compute_loss, _OWN, own)
    return compute_loss


def _scaled(wrapper: Any, loss: Any) -> Any:
    """Returns a loss times the scale of a LossScaleOptimizer of this package or of a Keras."""
    in_keras_2 = getattr(wrapper, "get_scaled_loss", None)
    return wrapper.scale_loss(loss) if in_keras_2 is None else in_keras_2(loss)


def _inner(optimizer: Any, owner: str) -> Optimizer:
    """Returns an optimizer of this package, without a wrapper.

    Raises:
      TypeError: it is none.
    """
    found = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"`{owner}` needs an optimizer of tf_keras_optim. Received: {optimizer!r}."
        )
    return found
