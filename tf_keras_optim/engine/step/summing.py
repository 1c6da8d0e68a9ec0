"""Summing gradients over replicas, or by a function of the user's."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step.gradients import not_wider
from tf_keras_optim.engine.step.loss_scaler import not_finite
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.tensorflow import distribution

Method = Callable[[list[Any], list[Any], Received], None]  # of gradients and variables


class Summing:
    """The sums of an optimizer's gradients.

    Args:
      context: what its parts share.
    """

    def __init__(self, context: Context):
        self._context = context
        self._first: tuple[int, list[str]] = (-1, [])  # a replica, and what it had gradients of

    def summed(
        self,
        entries: Sequence[VariableState],
        gradients: list[Any],
        given: Received,
        skips: bool,
    ) -> tuple[list[Any], tf.Tensor | None]:
        """Sums gradients over the replicas where that is still to be done.

        Args:
          entries: the variables.
          gradients: their gradients, tensors or slices.
          given: what is known about them.
          skips: whether a step is left out where they are not finite.

        Returns:
          gradients: the sums.
          bad: 0-d bool tensor: a replica found gradients that somebody else summed not
            finite; `None` where every replica has the same ones.

        Raises:
          ValueError: replicas of this process have gradients of other variables.
        """
        options, replicas = self._context.options, distribution.number_of_replicas()
        if options.gradient_reducer is not None and given.aggregate:
            if calls_per_update(options) == 1:
                gradients = self.reduced(gradients)
        elif given.aggregate and replicas > 1:
            self._check_alike([entry.path for entry in entries])
            gradients = distribution.sum_over_replicas(gradients, options.aggregation_dtype)
            # What takes its gradient as its value gets their mean.
            pairs = zip(entries, gradients)
            gradients = [g / replicas if entry.overwrite else g for entry, g in pairs]
        elif replicas > 1 and skips and not given.examined:
            used = [not_wider(g, entry.dtype) for entry, g in zip(entries, gradients)]
            return gradients, distribution.any_replica(not_finite(used))
        return gradients, None

    def _check_alike(self, paths: list[str]) -> None:
        """Refuses variables that have a gradient on some replicas only: sums would be mixed up.

        The replicas of a process come here one after another, in the order of their numbers.

        Raises:
          ValueError: an earlier replica had gradients of other variables, or in another order.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        number = tf.get_static_value(replica)
        if number is None:
            return
        first, others = self._first
        if first < 0 or number <= first:
            self._first = (int(number), paths)
        elif paths != others:
            names = ", ".join(map(repr, sorted({*paths} ^ {*others}) or paths))
            raise ValueError(
                f"{self._context.title}: replicas {first} and {number} do not have gradients "
                f"of the same variables in the same order. They differ in: {names}. Their sums "
                "over the replicas would be mixed up. Give zeros, `tf.zeros_like(variable)`, "
                "where a replica has no gradient."
            )

    def reduced(self, gradients: list[Any]) -> list[Any]:
        """Returns what the user's reducer makes of gradients.

        Raises:
          ValueError: it returns more of them, or fewer.
        """
        reduced = list(self._context.options.gradient_reducer(gradients))
        if len(reduced) != len(gradients):
            raise ValueError(
                f"{self._context.title}: `gradient_reducer` got {len(gradients)} gradients and "
                f"returned {len(reduced)}. It must return one for each, in the same order."
            )
        return reduced

    def in_each_replica(
        self, method: Method, gradients: list[Any], variables: list[Any], given: Received
    ) -> None:
        """Calls a method in each replica, from outside of them.

        Raises:
          ValueError: some gradients have a value for each replica, and others do not.
        """
        kinds = {distribution.is_per_replica(g) for g in gradients if g is not None}
        if len(kinds) > 1:
            raise ValueError(
                f"{self._context.title}: some gradients have a value for each replica, others "
                "are plain tensors. Across replicas give all of them as `strategy.run` returns "
                "them, or all of them as sums."
            )
        given = dataclasses.replace(given, aggregate=given.aggregate and True in kinds)

        def replica(values: tuple[Any, ...]) -> None:
            method(list(values), variables, given)

        tf.distribute.get_strategy().run(replica, args=(tuple(gradients),))

    def updates_here(self) -> bool:
        """Whether this replica updates variables: its own, or those that all share.

        Raises:
          ValueError: the user's reducer would be called by one of several replicas only.
        """
        if distribution.number_of_replicas() == 1:
            return True
        shared = distribution.is_shared(self._context.store.iterations)
        if shared and self._context.options.gradient_reducer is not None:
            raise ValueError(
                f"{self._context.title}: `gradient_reducer` is not possible where all replicas "
                "share the variables, as under CentralStorageStrategy. Use MirroredStrategy, "
                "or leave the sum over replicas to the optimizer."
            )
        return not shared or distribution.is_first_replica()
