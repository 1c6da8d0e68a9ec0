"""The part of LossScaleOptimizer that both Keras generations share."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.option_checks import check_reducer
from tf_keras_optim.engine.step.loss_scaler import ScalePolicy
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.update import rows
from tf_keras_optim.keras_compat import naming
from tf_keras_optim.loss_scale.arguments import OWNER, Arguments, check_bounds
from tf_keras_optim.optimizers.base import Optimizer


class LossScaling(naming.Described, Arguments):
    """The part that both generations share; the scale itself is the engine's."""

    inner_optimizer: Any
    _set_up = False

    def _wrap_optimizer(self, inner: Any, arguments: dict[str, Any]) -> None:
        """Gives the inner optimizer its loss scale.

        Raises:
          TypeError: it is not an optimizer of this package.
          ValueError: it has `skip_nonfinite`.
        """
        if not isinstance(inner, Optimizer):
            raise TypeError(
                "LossScaleOptimizer: argument `inner_optimizer` must be an optimizer of "
                f"tf_keras_optim. Received: {inner!r} (of type {type(inner).__name__}). For "
                "Keras' own optimizers use Keras' own LossScaleOptimizer."
            )
        scaling, options = inner.tko.scaling, inner.tko.context.options
        if options.skip_nonfinite and not scaling.has_scale:
            raise ValueError(
                f"LossScaleOptimizer: {inner.tko.title} has `skip_nonfinite`=True, which this "
                "wrapper takes over. Create the inner optimizer without it."
            )
        check_reducer(options, skips=True)
        if options.loss_scale_factor:
            warnings.warn(
                f"LossScaleOptimizer: {inner.tko.title} has `loss_scale_factor`="
                f"{options.loss_scale_factor!r}, which has no effect now, as in Keras: this "
                "wrapper scales the loss. Create the inner optimizer without it.",
                stacklevel=3,
            )
            inner.loss_scale_factor = None
        for name, value in arguments.items():
            setattr(self, name, value)
        tracking.keep_untracked(self, "_scaler", scaling.begin(self._policy()))
        tracking.keep_untracked(self, "_inner", inner)

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
                f"{OWNER}: `initial_scale` cannot be set after creation: the scale has started "
                "there. Set the current scale by `optimizer.dynamic_scale.assign(...)`."
            )
        if self._set_up and self._is_inner(name):
            setattr(self._inner, name, value)
        else:
            tracking.AutoTrackable.__setattr__(self, name, value)

    def _is_inner(self, name: str) -> bool:
        """Whether an attribute that is set is a public one of the inner optimizer alone."""
        if name.startswith("_") or any(name in vars(cls) for cls in type(self).__mro__):
            return False
        try:
            object.__getattribute__(self, name)
        except AttributeError:
            return hasattr(self._inner, name)
        return False

    def tko_check_change(self) -> None:
        """Refuses arguments that exclude one another."""
        check_bounds(self.arguments)

    def tko_changed(self, name: str) -> None:
        """Takes a changed argument over into the steps that are traced from here on."""
        self._scaler.policy = self._policy()
        self._inner.tko_changed(name)

    # The scale.

    def _counter(self) -> Any:
        """Returns the variable that counts calls."""
        return self._public_of(self._inner.tko.store.iterations)

    def _public_of(self, variable: tf.Variable) -> Any:
        return self._inner.tko.variables.form_of(variable)

    @property
    def loss_scale(self) -> tf.Tensor:
        """The current scale, a 0-d float32 tensor."""
        return distribution.local(self._scaler.scale).read_value()

    @property
    def dynamic_scale(self) -> Any:
        """The variable that holds the scale."""
        return self._public_of(self._scaler.scale)

    @property
    def step_counter(self) -> Any:
        """Number of good steps since the scale changed or a step was skipped: a variable."""
        return self._public_of(self._scaler.good)

    @property
    def dynamic_counter(self) -> Any:
        """The name of `step_counter` in Keras 2."""
        return self.step_counter

    @property
    def skipped_steps(self) -> Any:
        """Number of skipped steps: a variable."""
        return self._public_of(self._scaler.skipped)

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by the scale, in float32 or wider.

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
        """Divides gradients by the scale, in float32 or wider.

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
        inner.tko.scaling.use(self._scaler)
        method = self._overridden()
        if method is None:
            inner.tko.stepper.apply(gradients, variables, given)
        else:
            inner.tko.stepper.apply_examined(method, gradients, variables, given)

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
        """The state of the inner optimizer, then the scale and the counters."""
        return self.inner_optimizer.variables

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
        """Sets variables to their averages, where `use_ema` is set."""
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
        # What a class of its own has beside the members that all optimizers share.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._inner, name)


def _is_own(method: Any, ours: Any) -> bool:
    """Whether a method is not the one that all optimizers of this package have."""
    return getattr(method, "__func__", method) is not ours
