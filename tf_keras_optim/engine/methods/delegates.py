"""The learning rate and the counters under the names that Keras and its users know."""

from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import hyperparameters
from tf_keras_optim.engine.methods.contract import Contract
from tf_keras_optim.engine.tensorflow import distribution


class Delegates(Contract):
    """Properties of an optimizer that delegate to its parts."""

    @property
    def learning_rate_multiplier(self) -> Any:
        """Factor on the schedule that the learning rate follows: a variable, 1 at first.

        Setting `learning_rate` to a number while there is a schedule sets this factor: the
        current rate becomes that number, and later rates follow the shape of the schedule.
        Callbacks such as `ReduceLROnPlateau` therefore work on top of a schedule. The factor is
        saved with the state.

        Raises:
          AttributeError: the learning rate follows no schedule.
        """
        return self.tko.rate.factor

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: Any) -> None:
        self.tko.rate.factor = value

    @property
    def current_learning_rate(self) -> Any:
        """The rate of the next update: a Python float; inside a function a 0-d tensor."""
        parts = self.tko
        return hyperparameters.plain_number(parts.rate.at(parts.counter.updates()))

    @property
    def lr(self) -> Any:
        """Alias of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    @property
    def _learning_rate(self) -> Any:
        """The variable, the schedule or the callable; Keras' callbacks look for it."""
        return self.tko.rate.source

    @_learning_rate.setter
    def _learning_rate(self, value: Any) -> None:
        # In Keras an attribute: what is written there takes the place of what was.
        self.tko.rate.source = value

    @property
    def iterations(self) -> Any:
        """Number of updates so far: a variable; under accumulation a tensor."""
        context = self.tko.context
        if context.store.counted_by > 1:
            return context.counter.updates()
        return self._iterations

    @property
    def _iterations(self) -> Any:
        """The variable that counts calls, accumulated ones included."""
        context = self.tko.context
        return context.variables.public[id(context.store.iterations)]

    @_iterations.setter
    def _iterations(self, variable: Any) -> None:
        parts = self.tko
        native = distribution.container(parts.keras.unwrap(variable))
        if native.dtype != tf.int64 or native.shape.rank != 0:
            raise ValueError(
                f"{parts.title}: `iterations` must be an int64 variable without dimensions. "
                f"Received: {variable!r}."
            )
        if native is not parts.store.iterations:
            parts.variables.retire(parts.store.iterations, "_iterations")
            parts.store.iterations = native
            parts.store.starts[id(native)] = lambda: tf.zeros([], tf.int64)
            parts.variables.publish("_iterations", native)
            parts.traces.forget()

    @property
    def skipped_steps(self) -> Any:
        """Number of skipped steps: a variable.

        Raises:
          AttributeError: steps are not skipped (`skip_nonfinite` is off).
        """
        return self.tko.scaling.skipped
