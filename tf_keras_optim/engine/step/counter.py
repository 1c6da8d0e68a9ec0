"""How many calls and updates an optimizer has made."""

import tensorflow as tf

from tf_keras_optim.engine.state.store import Store
from tf_keras_optim.engine.tensorflow import distribution


class Counter:
    """Reads the counter of calls, of which several may make one update.

    Args:
      store: the variables of the optimizer.
    """

    def __init__(self, store: Store):
        self._store = store

    def updates(self) -> tf.Tensor:
        """Returns the number of updates so far, a 0-d int64 tensor."""
        count = distribution.local(self._store.iterations).read_value()
        steps = self._store.counted_by
        return count if steps == 1 else count // steps

    def calls(self) -> int:
        """Returns the number of calls so far, outside functions; 0 where none can be read."""
        with tf.init_scope():
            counter = distribution.local(self._store.iterations)
            return int(counter.numpy()) if tf.executing_eagerly() else 0

    def updates_by_now(self, calls: int | None = None) -> int:
        """Returns the number of updates so far, or in so many calls, outside functions."""
        calls = self.calls() if calls is None else calls
        return calls // self._store.counted_by
