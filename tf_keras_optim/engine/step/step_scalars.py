"""The numbers of one step, for each kind of variables."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state.late import Kind
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.rate import Rate


class StepScalars:
    """Computes the scalars of a step, once for each kind of variables.

    Args:
      context: what the optimizer's parts share.
      planning: computes them for one group.
      rate: the learning rate.
      updates: the number of updates so far.
      asked: what was computed outside of the step.
      now: the rate of the optimizer itself in this step.

    Attributes:
      known: the scalars that were asked for, by kind.
    """

    def __init__(
        self,
        context: Context,
        planning: Planning,
        rate: Rate,
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None,
        now: tf.Tensor,
    ):
        self._context = context
        self._planning = planning
        self._rate = rate
        self._updates = updates
        self._asked = asked
        self._rates = {"": now}
        self.known: dict[Kind, Mapping[str, tf.Tensor]] = {}

    def of(self, kind: Kind) -> Mapping[str, tf.Tensor]:
        """Returns the scalars of a kind of variables, by name."""
        if kind not in self.known:
            self.known[kind] = self.computed(kind)
        return self.known[kind]

    def rate_of(self, group: str) -> tf.Tensor:
        """Returns the learning rate of a group, without its multiplier."""
        if group not in self._rates:
            found = self._context.grouping.of(group)
            self._rates[group] = self._rate.of_group(found, self._rates[""], self._updates)
        return self._rates[group]

    def computed(self, kind: Kind) -> Mapping[str, tf.Tensor]:
        """Computes the scalars of a kind that no variable of this step may be of."""
        group = kind.group
        common = self.rate_of(group)
        rate = common if kind.factor == 1.0 else common * tf.cast(kind.factor, common.dtype)
        asked = self._asked if not group else {}
        return self._planning.of_group(group).scalars(
            kind.dtype, rate, self._updates, asked, kind.first, group, common
        )
