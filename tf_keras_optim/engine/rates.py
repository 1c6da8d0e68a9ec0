"""The learning rate (number, schedule or callable) and the counter it goes by."""

from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import distribution, hyperparameters
from tf_keras_optim.engine.building import Building


class Rates(Building):
    """The part of an optimizer that knows the learning rate and counts."""

    _parameters: ClassVar[dict[str, hyperparameters.Hyperparameter]]

    def _is_schedule(self, value: Any) -> bool:
        """Says whether a value is one of this Keras' learning-rate schedules."""
        raise NotImplementedError

    def _get_learning_rate(self) -> Any:
        store = self._store
        if store.rate is not None:
            return self._public[id(store.rate)]
        if store.rate_source is None:
            raise AttributeError(f"{type(self).__name__} has no learning rate yet.")
        return self._learning_rate_at(self._updates())

    def _set_learning_rate(self, value: Any) -> None:
        value = self._parameters["learning_rate"].check(value, type(self).__name__)
        store = self._store
        if callable(value):
            if not self._is_schedule(value):
                hyperparameters.check_callable_rate(value, type(self).__name__)
            if store.rate is not None:
                self._retire(store.rate, "_learning_rate")
            store.rate, store.rate_source = None, value
        elif store.rate is not None:
            store.rate.assign(value)
            return
        elif self._is_schedule(store.rate_source):
            raise TypeError(
                f"{self._title()} follows the schedule {store.rate_source!r}, so its "
                "learning rate cannot be set to a number. Create it with a number, or "
                "assign another schedule."
            )
        else:
            store.rate_source = None
            store.rate = self._make(
                "learning_rate", lambda: tf.constant(value, tf.float32), aggregated=True
            )
            self._publish("_learning_rate", store.rate)
        self._steps.clear()
        self._lookups.clear()

    @property
    def _learning_rate(self) -> Any:
        """The variable, the schedule or the callable; Keras' callbacks look for it."""
        store = self._store
        return store.rate_source if store.rate is None else self._public[id(store.rate)]

    @property
    def lr(self) -> Any:
        """Alias of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def _rate_from_callable(self) -> tf.Tensor | None:
        """Asks a callable for the rate now; `None` where the step finds it itself."""
        source = self._store.rate_source
        if source is None or self._is_schedule(source):
            return None
        return tf.cast(source(), tf.float32)

    def _learning_rate_at(self, updates: tf.Tensor) -> tf.Tensor:
        """Returns the rate, a 0-d float32 tensor, after a number of updates."""
        store = self._store
        if store.rate is not None:
            return distribution.local(store.rate).read_value()
        if self._is_schedule(store.rate_source):
            return tf.cast(store.rate_source(updates), tf.float32)
        return self._rate_from_callable()

    def _updates(self) -> tf.Tensor:
        """Returns the number of real updates so far, a 0-d int64 tensor."""
        count = distribution.local(self._store.iterations).read_value()
        return count // (self.gradient_accumulation_steps or 1)

    @property
    def iterations(self) -> Any:
        """Number of updates so far: a variable; under accumulation a tensor."""
        if (self.gradient_accumulation_steps or 1) > 1:
            return self._updates()
        return self._iterations

    @property
    def _iterations(self) -> Any:
        """The variable that counts calls, accumulated ones included."""
        return self._public[id(self._store.iterations)]
