"""A second gradient, taken beside the weights: what sharpness-aware minimization steps with."""

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.tensorflow import distribution

_ETA = 0.01  # is added to the size of a weight, so that one of 0 moves too
# The optimizer whose steps have a second pass now, and that pass.
current: contextvars.ContextVar[tuple[Any, Any]] = contextvars.ContextVar(
    "tf_keras_optim_second_pass", default=(None, None)
)


class SecondPass:
    """Takes the gradients of a step at weights that have climbed along the first ones.

    Args:
      rho: how far they climb, as a norm over all of them.
      adaptive: whether each weight climbs in proportion to its size.
      every: in how many steps there is one second pass.
      compute: returns the gradients of variables at the weights as they are; called with the
        variables, and with whether the gradients are to carry the loss scale.
      kept: returns the variables that the second pass leaves as the first one left them.
      rewound: variables, with the values that they had before the first pass: the second one
        finds these.

    Attributes:
      calls: how often it was used.
    """

    def __init__(
        self,
        rho: float,
        adaptive: bool,
        every: int,
        compute: Callable[[list[Any], bool], list[Any]],
        kept: Callable[[], Iterable[Any]],
        rewound: Sequence[tuple[Any, tf.Tensor]] = (),
    ):
        self._rho = rho
        self._adaptive = adaptive
        self._every = every
        self._compute = compute
        self._kept = kept
        self._rewound = rewound
        self.calls = 0

    def gradients(
        self, context: Context, first: list[Any], variables: list[Any], given: Received
    ) -> list[Any]:
        """Returns the gradients to step with.

        Args:
          context: what the optimizer's parts share.
          first: the gradients at the weights: tensors, slices, or `None`.
          variables: their variables.
          given: what is known about the gradients.

        Raises:
          ValueError: the gradients are accumulated, come from outside of the replicas, or the
            replicas share their weights.
        """
        _check(context, variables)
        self.calls += 1
        if self._every == 1:
            return self._second(context, first, variables, given)
        places = [place for place, gradient in enumerate(first) if gradient is not None]
        plain = [tf.convert_to_tensor(first[place]) for place in places]
        moved = [variables[place] for place in places]
        updates = distribution.local(context.store.iterations).read_value()

        def second() -> list[tf.Tensor]:
            found = self._second(context, plain, moved, given)
            return [tf.cast(tf.convert_to_tensor(g), p.dtype) for g, p in zip(found, plain)]

        due = tf.equal(updates % self._every, 0)
        found = dict(zip(places, tf.cond(due, second, lambda: list(map(tf.identity, plain)))))
        return [found.get(place) for place in range(len(first))]

    def _second(
        self, context: Context, first: list[Any], variables: list[Any], given: Received
    ) -> list[Any]:
        def local(variable: Any) -> tf.Variable:
            return distribution.local(context.keras.unwrap(variable))

        weights = [(local(v), local(v).read_value()) for v in variables]
        kept = [(local(v), local(v).read_value()) for v in self._kept()]
        try:
            for (variable, weight), climbed in zip(weights, self._climbed(first, weights)):
                if climbed is not None:
                    variable.assign(tf.cast(climbed, weight.dtype))
            for rewound, value in self._rewound:
                local(rewound).assign(value)
            return self._compute(variables, given.scaled)
        finally:
            for variable, value in (*weights, *kept):
                variable.assign(value)

    def _climbed(
        self, gradients: list[Any], weights: list[tuple[tf.Variable, tf.Tensor]]
    ) -> list[tf.Tensor | None]:
        """Returns the weights at which the second gradients are taken."""
        sizes, units, values = {}, {}, {}
        for place, (gradient, (_, weight)) in enumerate(zip(gradients, weights)):
            if gradient is None:
                continue
            dtype = tf.float64 if weight.dtype == tf.float64 else tf.float32
            values[place] = tf.cast(weight, dtype)
            sizes[place] = tf.ones([], dtype)
            if self._adaptive and weight.shape.rank >= 2:
                sizes[place] = tf.abs(values[place]) + tf.constant(_ETA, dtype)
            units[place] = sizes[place] * tf.cast(tf.convert_to_tensor(gradient), dtype)
        # In units of the largest element: the gradients may carry a loss scale.
        largest = [tf.cast(tf.reduce_max(tf.abs(u)), tf.float64) for u in units.values()]
        top = tf.reduce_max(tf.stack(largest)) if largest else tf.ones([], tf.float64)
        squares = []
        for place, unit in units.items():
            units[place] = tf.math.divide_no_nan(unit, tf.cast(top, unit.dtype))
            squares.append(tf.cast(tf.reduce_sum(tf.square(units[place])), tf.float64))
        norm = tf.sqrt(tf.add_n(squares)) if squares else tf.ones([], tf.float64)
        share = tf.math.divide_no_nan(tf.constant(self._rho, tf.float64), norm)

        def climbed(place: int) -> tf.Tensor | None:
            if place not in units:
                return None
            unit = units[place]
            return values[place] + tf.cast(share, unit.dtype) * sizes[place] * unit

        return [climbed(place) for place in range(len(gradients))]


def _check(context: Context, variables: list[Any]) -> None:
    """Refuses steps in which no second pass is possible.

    Raises:
      ValueError: this is one.
    """
    reason = None
    if calls_per_update(context.options) > 1:
        reason = (
            "with `gradient_accumulation_steps`: each call would climb from weights that have "
            "not moved, along the gradient of a part of the batch. Use a larger batch"
        )
    elif distribution.across_replicas():
        reason = (
            "outside of the replicas: each one climbs along its own gradient. Call it in the "
            "function that `strategy.run` runs"
        )
    elif distribution.number_of_replicas() > 1 and any(
        distribution.is_shared(context.keras.unwrap(v)) for v in variables
    ):
        reason = "where the replicas share their weights. Use `tf.distribute.MirroredStrategy`"
    elif narrow := [v for v in variables if tf.as_dtype(v.dtype).size < 4]:
        dtype = tf.as_dtype(narrow[0].dtype).name
        reason = (
            f"with variables of 16 bits ({len(narrow)} of {len(variables)}, the first has "
            f"{dtype}): their rounding is as large as the distance. "
            "Keep them in float32; the policy 'mixed_bfloat16' computes in 16 bits all the same"
        )
    if reason:
        raise ValueError(f"{context.title}: a second pass is not possible {reason}.")


@contextlib.contextmanager
def taken(owner: object, second: SecondPass) -> Iterator[None]:
    """Gives the steps that an optimizer takes meanwhile a second pass."""
    token = current.set((owner, second))
    try:
        yield
    finally:
        current.reset(token)
