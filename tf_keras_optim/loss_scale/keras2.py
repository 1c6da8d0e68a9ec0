"""LossScaleOptimizer as Keras 2 (the package tf_keras) expects it."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras

import tf_keras_optim.loss_scale.common as common
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import copying, described, keras_private, naming
from tf_keras_optim.loss_scale.arguments import checked, documented
from tf_keras_optim.loss_scale.handed_on import hand_on
from tf_keras_optim.optimizers.base import Optimizer

_CONTRACT = """As in Keras 2, `apply_gradients` takes gradients that `get_unscaled_gradients`
returned; `minimize` scales the loss, unscales the gradients and applies them."""


_Base: Any = keras_private.loss_scale_class()


class LossScaleOptimizer(common.LossScaling, _Base):
    """Filled below."""

    _other_keras = "keras"
    _how_to_change = naming.HOW_TO_BIND_TO_KERAS_3

    @tracking.without_tracking
    def __init__(self, inner_optimizer: Any, *args: Any, **kwargs: Any):
        arguments = checked(args, kwargs)
        name = arguments.pop("name")
        if isinstance(inner_optimizer, Optimizer) and inner_optimizer.tko.scaling.has_scale:
            raise ValueError(
                f"LossScaleOptimizer: {inner_optimizer.tko.title} is wrapped in a "
                "LossScaleOptimizer already. Use that one, or make a new optimizer."
            )
        self._wrap_optimizer(inner_optimizer, arguments)
        # In a checkpoint this is the inner optimizer, whose state has the scale.
        tracking.stand_for(self, inner_optimizer)
        self._name = name or "LossScaleOptimizer"
        self._set_up = True

    @property
    def name(self) -> str:
        """Name of the optimizer."""
        return self._name

    @property
    def inner_optimizer(self) -> Any:
        """The optimizer that is wrapped."""
        return self._inner

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        """Applies unscaled gradients, or skips the step.

        Args:
          grads_and_vars: pairs of an unscaled gradient and its variable.
          name: ignored; there for the older signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.
          experimental_aggregate_gradients: the opposite, under its older name.

        Returns:
          The variable `iterations`.
        """
        aggregate = experimental_aggregate_gradients and not skip_gradients_aggregation
        pairs = list(grads_and_vars)
        return self._apply_pairs(pairs, Received(aggregate=aggregate, scaled=False))

    def _apply_pairs(self, pairs: list[tuple], given: Received) -> Any:
        gradients, variables = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self._hand_on(gradients, variables, given)
        return self._counter()

    @tf.autograph.experimental.do_not_convert
    def compute_gradients(self, loss: Any, var_list: Any, tape: Any = None) -> list[tuple]:
        """Returns pairs of the unscaled gradient of a loss and the variable.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.
        """
        pairs = self._scaled_pairs(loss, var_list, tape)
        unscaled = self.get_unscaled_gradients([gradient for gradient, _ in pairs])
        return [(gradient, variable) for gradient, (_, variable) in zip(unscaled, pairs)]

    @tf.autograph.experimental.do_not_convert
    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """Scales a loss, computes its gradients and applies them.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.
        """
        own = ("compute_gradients", "get_unscaled_gradients", "apply_gradients")
        if all(getattr(type(self), n) is getattr(LossScaleOptimizer, n) for n in own):
            # The step itself unscales, without a pass over the gradients.
            return self._apply_pairs(self._scaled_pairs(loss, var_list, tape), Received())
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape))

    def aggregate_gradients(self, grads_and_vars: Any) -> list[tuple]:
        """Returns the pairs with each gradient summed over the replicas."""
        return self._inner.aggregate_gradients(grads_and_vars)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state of the inner optimizer, the scale included."""
        self._inner.save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        """Reads the state of the inner optimizer, the scale included."""
        self._inner.load_own_variables(store)

    def __reduce__(self) -> tuple:
        return copying.reduced(self)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument by name; `from_config` makes an equal optimizer."""
        inner = tf_keras.saving.serialize_keras_object(self._inner)
        return {"name": self.name, "inner_optimizer": inner, **self.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes an optimizer from what `get_config` returned."""
        config = {key: v for key, v in config.items() if key != "is_legacy_optimizer"}
        inner = config.pop("inner_optimizer")
        if isinstance(inner, dict):
            inner = described.instance(
                tf_keras, inner, Optimizer, "an optimizer of tf_keras_optim", custom_objects
            )
        return cls(inner, **config)


hand_on(LossScaleOptimizer, common.LossScaling)
LossScaleOptimizer.__doc__ = documented(_CONTRACT)
