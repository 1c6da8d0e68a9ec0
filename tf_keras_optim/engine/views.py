"""The state under the names that Keras and its callbacks read."""

from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import accumulation
from tf_keras_optim.engine.store import Store


class Views:
    """The part of an optimizer that lists its state variables."""

    use_ema: bool
    gradient_accumulation_steps: int | None
    built: bool
    _store: Store
    _public: dict[int, Any]
    _rate_is_state = True  # whether `variables` lists the learning rate

    def _state_variables(self) -> list[tf.Variable]:
        rate = [] if self._store.rate is None or not self._rate_is_state else [self._store.rate]
        return [self._store.iterations, *rate, *self._store.state()]

    def _named_state(self) -> dict[str, tf.Variable]:
        return self._store.by_name()

    @property
    def _variables(self) -> list[Any]:
        return [self._public[id(variable)] for variable in self._state_variables()]

    @property
    def variables(self) -> list[Any]:
        """The state: the counter, the learning rate (Keras 3), then the slots."""
        return self._variables

    @property
    def _trainable_variables(self) -> list[Any]:
        return [entry.public for entry in self._store.tracked]

    def _views(self, kind: str) -> list[Any]:
        kept = [getattr(entry, kind) for entry in self._store.tracked]
        return [None if v is None else self._public[id(v)] for v in kept]

    @property
    def _model_variables_moving_average(self) -> list[Any]:
        if not (self.use_ema and self.built):
            raise AttributeError(
                "There are no averages: `use_ema` is off, or `build` not done."
            )
        return self._views("average")

    @property
    def _accumulated_gradients(self) -> list[Any]:
        if accumulation.wanted(self) == 1 or not self.built:
            raise AttributeError("There are no accumulators.")
        return self._views("accumulator")
