"""Which loss scale is in force, and whether steps that are not finite are left out."""

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.step.loss_scaler import LossScaler, ScalePolicy


class Scaling:
    """The loss scaler of an optimizer, if it has one.

    Args:
      context: what the parts of the optimizer share.

    Attributes:
      scaler: what tests gradients, counts skipped steps and moves the scale; `None` where
        steps are not skipped.
    """

    def __init__(self, context: Context):
        self._context = context
        self.scaler: LossScaler | None = None

    @property
    def has_scale(self) -> bool:
        """Whether there is a dynamic loss scale: a LossScaleOptimizer is around."""
        return self.scaler is not None and self.scaler.scale is not None

    @property
    def skipped(self) -> tf.Variable:
        """The number of steps that were left out, as the running Keras sees it.

        Raises:
          AttributeError: steps are not skipped.
        """
        if self.scaler is None:
            raise AttributeError(
                f"{self._context.title} skips no steps. Create it with `skip_nonfinite=True`, "
                "or wrap it in `LossScaleOptimizer`."
            )
        return self._context.variables.public[id(self.scaler.skipped)]

    def skip_nonfinite(self, skips: bool, limit: int | None) -> None:
        """Goes by the options about steps that are not finite.

        Args:
          skips: whether they are left out where there is no loss scale.
          limit: how many in a row raise where the loss scale has no limit of its own.
        """
        if self.scaler is None and not skips:
            return
        if self.scaler is None:
            self._put_in_force(self._made(None))
        assert self.scaler is not None
        policy = self.scaler.policy
        self.scaler.active = skips or policy is not None
        own = None if policy is None else policy.max_consecutive_skips
        self.scaler.limit = limit if own is None else own
        self._context.traces.forget()

    def begin(self, policy: ScalePolicy) -> LossScaler:
        """Makes a loss scale, puts it in force in the place of any other, and returns it."""
        scaler = self._made(policy)
        scaler.limit = policy.max_consecutive_skips
        self._put_in_force(scaler)
        return scaler

    def use(self, scaler: LossScaler) -> None:
        """Puts one of several loss scales in force."""
        if scaler is not self.scaler:
            self._put_in_force(scaler)

    def _made(self, policy: ScalePolicy | None) -> LossScaler:
        def make(name: str, start: tf.Tensor) -> tf.Variable:
            return self._context.variables.make(name, lambda: start, aggregated=True)

        return LossScaler(make, policy)

    def _put_in_force(self, scaler: LossScaler) -> None:
        store, variables = self._context.store, self._context.variables
        for name, variable in store.guard.items():
            variables.hide(variable, f"_{name}")
        self.scaler, store.guard = scaler, scaler.variables
        for name, variable in scaler.variables.items():
            variables.publish(f"_{name}", variable)
        self._context.traces.forget()
