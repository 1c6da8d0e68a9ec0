"""What LossScaleOptimizer is under both Keras generations."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import distribution, rows
from tf_keras_optim.engine import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.declarations import Declared
from tf_keras_optim.engine.guard import ScalePolicy
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.received import Received
from tf_keras_optim.faces import naming
from tf_keras_optim.optimizers.base import Optimizer

DOCUMENTATION = """Scales the loss, so that small float16 gradients do not become zero.

The scale grows after many good steps and backs off when a gradient overflows; that
step is left out. The gradients are summed over the replicas first, so all of them
agree; they are tested after unscaling. A skipped step changes nothing but the scale
and the counters: not the weights, slots, averages or accumulators, and `iterations`
does not count it.

It is an instance of the running Keras' own LossScaleOptimizer, so `compile` under the
policy "mixed_float16" takes it as it is; after `tko.install()` that is also what it
wraps our optimizers in by itself.

{contract}

What is set here and is not listed below (`weight_decay`, `learning_rate_multiplier`, ...)
is set on the inner optimizer.

Args:
  inner_optimizer: an optimizer of this package.
  initial_scale: the scale at the start, above 0.
  dynamic_growth_steps: good steps in a row after which the scale grows.
  growth_factor: what it is multiplied by then, at least 1. By name only, as all below.
  backoff_factor: what it is multiplied by after a skipped step, above 0 and below 1.
  min_scale: it never falls below this.
  max_scale: it never rises above this.
  hysteresis: skipped steps in a row that make it back off.
  max_consecutive_skips: raise after so many skipped steps in a row, naming the
    variables, or `None`. XLA drops such checks: a step inside a function with
    `jit_compile=True` only counts.
  dynamic: False keeps the scale as it is; steps are still skipped.
  name: name of the optimizer.

State: the scale and three counters, with the state of the inner optimizer.

Raises:
  TypeError: `inner_optimizer` is none of this package, or is wrapped already.
  ValueError: an argument is out of range, or the inner optimizer has
    `skip_nonfinite`.

Example:
  >>> weight = tf.Variable(1.0)
  >>> optimizer = LossScaleOptimizer(SGD(0.5), initial_scale=8.0)
  >>> for slope in (1.0, float("inf"), 1.0):
  ...     _ = optimizer.minimize(lambda: slope * weight, [weight])
  >>> float(weight.numpy()), float(optimizer.loss_scale), int(optimizer.skipped_steps)
  (0.0, 4.0, 1)

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""


class Arguments(Declared):
    """The declarations, in the order of the arguments after `inner_optimizer`."""

    initial_scale = Hyperparameter(2.0**15, above=0.0)
    dynamic_growth_steps = Hyperparameter(2000, minimum=1)
    growth_factor = Hyperparameter(2.0, minimum=1.0, keyword_only=True)
    backoff_factor = Hyperparameter(0.5, above=0.0, below=1.0, keyword_only=True)
    min_scale = Hyperparameter(1.0, above=0.0, keyword_only=True)
    max_scale = Hyperparameter(2.0**24, above=0.0, keyword_only=True)
    hysteresis = Hyperparameter(1, minimum=1, keyword_only=True)
    max_consecutive_skips = Hyperparameter(None, kind=int, minimum=1, keyword_only=True)
    dynamic = Hyperparameter(True, keyword_only=True)


# What older Kerases wrote into the wrapper's config, where it never had an effect.
_WITHOUT_EFFECT = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
_NONE_IS_DEFAULT = ("initial_scale", "dynamic_growth_steps")
_OWNER = "LossScaleOptimizer"


def checked(args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns every argument after `inner_optimizer`, checked, and `name`.

    Raises:
      TypeError: an argument is unknown.
      ValueError: a value is of another kind, out of range, or does not go with others; or
        an argument is one of the inner optimizer's.
    """
    # Keras 2 writes None for its defaults.
    kwargs = {k: v for k, v in kwargs.items() if v is not None or k not in _NONE_IS_DEFAULT}
    for key in kwargs.keys() & _WITHOUT_EFFECT.keys():
        value = kwargs.pop(key)
        if value != _WITHOUT_EFFECT[key]:
            raise ValueError(
                f"{_OWNER}: argument `{key}`={value!r} belongs to the inner optimizer. Give "
                f"it to that one: {_OWNER}(Adam({key}={value!r}))."
            )
    values = Arguments._bound(args, kwargs, _OWNER)
    name = values.pop("name")
    values = Arguments._checked(values, _OWNER)
    _check_bounds(values)
    return values | {"name": name}


def _check_bounds(values: dict[str, Any]) -> None:
    scales = [values[key] for key in ("min_scale", "initial_scale", "max_scale")]
    if scales != sorted(scales):
        raise ValueError(
            f"{_OWNER}: arguments must satisfy min_scale <= initial_scale <= max_scale. "
            f"Received: min_scale={scales[0]}, initial_scale={scales[1]}, "
            f"max_scale={scales[2]}."
        )


class LossScaling(naming.Described, Arguments):
    """The part that both generations share; the state machine is the engine's guard."""

    inner_optimizer: Any
    _set_up = False

    def _wrap_optimizer(self, inner: Any, arguments: dict[str, Any]) -> None:
        """Gives the inner optimizer its loss scale.

        Raises:
          TypeError: it is none of this package.
          ValueError: it has `skip_nonfinite`.
        """
        if not isinstance(inner, Optimizer):
            raise TypeError(
                "LossScaleOptimizer: argument `inner_optimizer` must be an optimizer of "
                f"tf_keras_optim. Received: {inner!r} (of type {type(inner).__name__}). For "
                "Keras' own optimizers use Keras' own LossScaleOptimizer."
            )
        scaled = inner._guard is not None and inner._guard.scale is not None
        if inner.skip_nonfinite and not scaled:
            raise ValueError(
                f"LossScaleOptimizer: {inner._title()} has `skip_nonfinite`=True, which this "
                "wrapper takes over. Create the inner optimizer without it."
            )
        if inner.loss_scale_factor:
            warnings.warn(
                f"LossScaleOptimizer: {inner._title()} has `loss_scale_factor`="
                f"{inner.loss_scale_factor!r}, which is out of use now, as in Keras: this "
                "wrapper scales the loss. Create the inner optimizer without it.",
                stacklevel=3,
            )
            inner.loss_scale_factor = None
        for name, value in arguments.items():
            setattr(self, name, value)
        inner._guard_steps(self._policy())
        inner._check_reducer()
        object.__setattr__(self, "_own_guard", inner._guard)  # tracked by the inner one

    @property
    def arguments(self) -> dict[str, Any]:
        """Every argument after `inner_optimizer`, as it is now."""
        return self._values()

    def _policy(self) -> ScalePolicy:
        values = self.arguments
        return ScalePolicy(growth_steps=values.pop("dynamic_growth_steps"), **values)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._set_up and name == "initial_scale":
            raise AttributeError(
                f"{_OWNER}: `initial_scale` is where the scale started. Set the scale by "
                "`optimizer.dynamic_scale.assign(...)`."
            )
        if self._set_up and self._is_inner(name):
            setattr(self._inner, name, value)
        else:
            tracking.AutoTrackable.__setattr__(self, name, value)

    def _is_inner(self, name: str) -> bool:
        """Whether an attribute that is set belongs to the inner optimizer."""
        if any(name in vars(cls) for cls in type(self).__mro__):
            return False
        try:
            object.__getattribute__(self, name)
        except AttributeError:
            classes = type(self._inner).__mro__
            declared = next((vars(cls)[name] for cls in classes if name in vars(cls)), None)
            public = not name.startswith("_") and hasattr(self._inner, name)
            return public or hasattr(type(declared), "__set__")
        return False

    def _check_change(self) -> None:
        """Refuses arguments that exclude one another."""
        _check_bounds(self.arguments)

    def _hyperparameter_changed(self, name: str) -> None:
        """Takes a changed argument over into the steps that are traced from here on."""
        self._own_guard.policy = self._policy()
        self._inner._hyperparameter_changed(name)

    # The scale.

    @property
    def _guard(self) -> Any:
        return self._own_guard

    def _public_of(self, variable: tf.Variable) -> Any:
        return self._inner._public_form(variable)

    @property
    def loss_scale(self) -> tf.Tensor:
        """The scale now, a 0-d float32 tensor."""
        return distribution.local(self._guard.scale).read_value()

    @property
    def dynamic_scale(self) -> Any:
        """The variable with the scale."""
        return self._public_of(self._guard.scale)

    @property
    def step_counter(self) -> Any:
        """Good steps since the scale last changed, or a step was skipped: a variable."""
        return self._public_of(self._guard.good)

    @property
    def dynamic_counter(self) -> Any:
        """The name of `step_counter` in Keras 2."""
        return self.step_counter

    @property
    def skipped_steps(self) -> Any:
        """Number of steps that were left out: a variable."""
        return self._public_of(self._guard.skipped)

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss with the scale, in float32 at least.

        Args:
          loss: tensor or number, or a callable that returns one.
        """
        if callable(loss):
            return lambda: self.scale_loss(loss())
        return rows.times(tf.convert_to_tensor(loss, dtype_hint=tf.float32), self.loss_scale)

    def get_scaled_loss(self, loss: Any) -> Any:
        """The name of `scale_loss` in Keras 2."""
        return self.scale_loss(loss)

    def get_unscaled_gradients(self, grads: Iterable[Any]) -> list[Any]:
        """Divides gradients by the scale, in float32 at least.

        Args:
          grads: tensors, slices, or `None`.
        """
        inverse = 1.0 / tf.cast(self.loss_scale, tf.float64)
        return [None if g is None else rows.times(g, inverse) for g in grads]

    def _scaled_pairs(self, loss: Any, var_list: Any, tape: Any) -> list[tuple]:
        """Returns pairs of the gradient of the scaled loss and the variable."""
        if callable(loss) or tape is None:
            return self._inner.compute_gradients(self.scale_loss(loss), var_list, tape)
        with tape:
            scaled = self.scale_loss(loss)
        return self._inner.compute_gradients(scaled, var_list, tape)

    def _hand_on(self, gradients: list[Any], variables: list[Any], given: Received) -> None:
        """Gives gradients to the inner optimizer, by the method that a subclass overrides."""
        inner = self._inner
        inner._use_guard(self._own_guard)
        method = self._overridden()
        if method is None:
            inner._apply(gradients, variables, given)
        else:
            inner._apply_examined(method, gradients, variables, given)

    def _overridden(self) -> Callable[[list[Any], list[Any]], Any] | None:
        """Returns the inner optimizer's own way to apply gradients, if it has one."""
        inner = self._inner
        if _is_own(inner.apply_gradients, Optimizer.apply_gradients):
            by_name = inspect.signature(inner.apply_gradients).parameters
            summed = {"skip_gradients_aggregation": True}
            summed = {name: value for name, value in summed.items() if name in by_name}
            return lambda grads, them: inner.apply_gradients(list(zip(grads, them)), **summed)
        return inner.apply if _is_own(inner.apply, Optimizer.apply) else None

    # What is the inner optimizer's.

    @property
    def iterations(self) -> Any:
        """Number of updates so far; skipped ones are not counted."""
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, variable: Any) -> None:
        self.inner_optimizer.iterations = variable

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def lr(self) -> Any:
        """Alias of `learning_rate`."""
        return self.inner_optimizer.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def variables(self) -> Any:
        """The state of the inner optimizer, the scale and the counters last."""
        return self.inner_optimizer.variables

    @property
    def _variables(self) -> Any:
        return self.inner_optimizer._variables

    @property
    def built(self) -> bool:
        """Whether the inner optimizer has its slots."""
        return self.inner_optimizer.built

    @built.setter
    def built(self, value: bool) -> None:
        self.inner_optimizer.built = value

    def build(self, var_list: Iterable[Any]) -> None:
        """Makes the slots of variables that have none yet."""
        self.inner_optimizer.build(var_list)

    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Gives variables the value of their average, where `use_ema` is set."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Excludes variables from weight decay. Must be called before `build`."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def get_weights(self) -> list[Any]:
        """Returns the state as NumPy arrays, in the order of `variables`."""
        return self.inner_optimizer.get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the state from arrays in the order of `variables`."""
        self.inner_optimizer.set_weights(weights)

    def __getattr__(self, name: str) -> Any:
        if name in ("_inner", "_own_guard") or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._inner, name)


def _is_own(method: Any, ours: Any) -> bool:
    """Whether a method is not the one that all optimizers of this package have."""
    return getattr(method, "__func__", method) is not ours


def forwarded(name: str) -> property:
    """Returns a property that is the inner optimizer's, where Keras defines its own."""

    def read(self: Any) -> Any:
        return getattr(self.inner_optimizer, name)

    def write(self: Any, value: Any) -> None:
        setattr(self.inner_optimizer, name, value)

    return property(read, write, doc=f"`{name}` of the inner optimizer.")
