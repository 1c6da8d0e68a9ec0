"""Checkpoints of Keras 3 that were written with a LossScaleOptimizer, or without one.

In TensorFlow's object graph the wrapper is a node of its own, with a counter and a rate that
are not those of the optimizer inside. Read into an optimizer without a wrapper, or the other
way round, the wrong ones would be taken, and no slots.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tf_keras_optim.engine.state.restoration import MARK

# The names of the edges to the same variables: Keras' and this package's.
TO_OURS: Mapping[str, str] = {
    "dynamic_scale": "_dynamic_scale",
    "step_counter": "_step_counter",
}
TO_KERAS: Mapping[str, str] = {ours: theirs for theirs, ours in TO_OURS.items()}
_OF_THE_ONE_INSIDE = ("_iterations", "_learning_rate")


def looking_up(own: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    """Returns a wrapper's method that TensorFlow asks for what hangs on an edge.

    Args:
      own: the wrapper's method as it was.
      names: names of edges in checkpoints, and what they are called here.

    Returns:
      look_up: gives `None` where there is no such edge. It raises ValueError where a
        checkpoint has slots there: it was written without a wrapper.
    """

    def look_up(self: Any, name: str, cached_dependencies: Any = None) -> Any:
        if cached_dependencies is None:  # nothing is being restored
            return own(self, name)
        if name.startswith(MARK):
            raise ValueError(
                f"{type(self).__name__} around {self.inner_optimizer.tko.title}: the "
                "checkpoint was written by an optimizer without a LossScaleOptimizer around "
                "it. Read it into `optimizer.inner_optimizer` in place of `optimizer`."
            )
        if name in _OF_THE_ONE_INSIDE:
            return None  # its own edges lead there
        return own(self, names.get(name, name), cached_dependencies)

    return look_up
