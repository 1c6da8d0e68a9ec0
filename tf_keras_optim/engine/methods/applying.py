"""What Keras and users call to give an optimizer gradients."""

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.methods.delegates import Delegates
from tf_keras_optim.engine.step import received
from tf_keras_optim.engine.step.stepper import OF_PACKAGE


class Applying(Delegates):
    """The part of an optimizer that takes gradients."""

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
    ) -> Any:
        """Updates variables by their gradients; counts one iteration.

        Args:
          grads_and_vars: pairs of a gradient (tensor, `tf.IndexedSlices` or `None`)
            and its variable. In a replica the gradients are summed over replicas. Called
            across replicas, values per replica (as `strategy.run` returns them) are
            summed, plain tensors are taken as sums.
          name: ignored; there for the older Keras signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.

        Returns:
          The variable `iterations`.

        Raises:
          ValueError: no gradient at all, an unknown variable, a variable given
            twice, or a gradient of the wrong shape or dtype. Nothing is changed.
        """
        self.tko.stepper.apply_pairs(grads_and_vars, not skip_gradients_aggregation)
        parts = self.tko
        return parts.variables.public[id(parts.store.iterations)]

    @tf.autograph.experimental.do_not_convert
    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Updates variables by their gradients, given as two lists.

        `apply_gradients` calls it, and through that `minimize` and `fit`, as in Keras 3: an
        override takes effect in all of them.

        Args:
          grads: gradients.
          trainable_variables: their variables; those of `build` by default.
        """
        stepper, gradients = self.tko.stepper, list(grads)
        variables = stepper.admission.variables_for(gradients, trainable_variables)
        stepper.apply(gradients, variables, received.now(self))


setattr(Applying.apply, OF_PACKAGE, True)
