"""What the parts of one optimizer share."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.grouping import Grouping
from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state.sharding import Sharding
from tf_keras_optim.engine.state.store import Store, VariableState
from tf_keras_optim.engine.state.variables import StateVariables
from tf_keras_optim.engine.step.counter import Counter
from tf_keras_optim.engine.step.traces import Traces
from tf_keras_optim.engine.step.watch import Watch


class KerasSide(Protocol):
    """What the engine asks of the running Keras."""

    rate_is_state: bool
    """Whether the learning rate is listed among the state variables."""

    known_arguments: frozenset[str]
    """Arguments that the optimizers of this Keras have, too."""

    gives_rate: bool
    """Whether an `update_step` is given the learning rate."""

    averages_from_zero: bool
    """Whether a class that updates the averages itself finds them at zero."""

    def check_update_step(self) -> None:
        """Refuses an `update_step` that cannot be called as this Keras calls it."""

    def unwrap(self, variable: Any) -> tf.Variable:
        """Returns the TensorFlow variable behind what this Keras hands out."""

    def wrap(self, variable: tf.Variable, name: str) -> Any:
        """Returns a state variable as this Keras wants to see it."""

    def initial_value(self, initializer: Any, shape: Any, dtype: tf.DType) -> tf.Tensor:
        """Returns the tensor that a Keras initializer gives."""

    def is_schedule(self, value: Any) -> bool:
        """Says whether a value is one of this Keras' learning-rate schedules."""

    def float_type(self) -> str:
        """Returns the dtype in which this Keras keeps numbers, e.g. "float32"."""

    def automatic_name(self) -> str:
        """Returns the name this Keras gives to an optimizer without one."""

    def shown_rate(self, rate: tf.Tensor, set_rate: Callable[[Any], None]) -> Any:
        """Returns the rate of a schedule or callable as this Keras' callbacks read it."""

    def own_variables(self) -> Iterable[tuple[str, Any]]:
        """Returns variables that are attributes of the optimizer, and what they are called."""

    def will_extend(self) -> None:
        """Is called before slots are made for variables that came after `build`."""

    def serialize(self, value: Any) -> Any:
        """Returns a schedule or callable as this Keras writes it into a config."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What the parts of one optimizer share.

    Attributes:
      algorithm: what computes updates: the optimizer (see `seen`), or the algorithm of a group.
      values: the same, as what has the hyperparameters of the algorithm and the weight decay.
      options: the optimizer, as what has the options of the whole step; see `seen`.
      keras: what is asked of the running Keras.
      store: its variables, and the model variables that they belong to.
      variables: makes its variables.
      counter: how many calls and updates there have been.
      traces: the steps that it has traced.
      grouping: which algorithm updates which variable.
      watch: whether steps measure what they do, and what the last one found.
      sharding: which replica keeps what belongs to a variable, where that is divided.
    """

    algorithm: Algorithm
    values: CommonOptions
    options: CommonOptions
    keras: KerasSide
    store: Store
    variables: StateVariables
    counter: Counter
    traces: Traces
    grouping: Grouping
    watch: Watch
    sharding: Sharding

    def of(self, entry: VariableState) -> "Context":
        """Returns the context of the group that a variable belongs to."""
        return self.of_group(entry.group)

    def of_group(self, group: str) -> "Context":
        """Returns the context of a group; this one for ""."""
        if not group:
            return self
        part = self.grouping.of(group).algorithm
        return dataclasses.replace(self, algorithm=part, values=part)

    @property
    def class_name(self) -> str:
        """The name of the optimizer's class."""
        return class_of(self.options).__name__

    @property
    def title(self) -> str:
        """What messages call the optimizer: its class and name."""
        return f"{self.class_name} {self.options.name!r}"
