"""The parts that an optimizer is made of."""

from typing import Any, Protocol

from tf_keras_optim.engine.context import Context, KerasSide
from tf_keras_optim.engine.grouping import Grouping
from tf_keras_optim.engine.state.builder import Builder
from tf_keras_optim.engine.state.own_variables import OwnVariables
from tf_keras_optim.engine.state.saved_state import SavedState
from tf_keras_optim.engine.state.store import Store
from tf_keras_optim.engine.state.variables import StateVariables
from tf_keras_optim.engine.step.counter import Counter
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.step.stepper import Stepper
from tf_keras_optim.engine.step.traces import Traces


class Whole(Protocol):
    """What an optimizer tells the one that it is part of."""

    def tko_check_change(self) -> None:
        """Refuses a hyperparameter that was just changed, and does not fit."""

    def tko_changed(self, name: str) -> None:
        """Takes note of a hyperparameter that was changed."""


class Parts:
    """The parts of one optimizer; its public methods hand on to them.

    Args:
      context: what the parts share.
      rate: the learning rate.
      scaling: the loss scale, and the test for gradients that are not finite.
      state: hands the state out and takes it in.
      stepper: takes gradients in.
      own: takes variables that a class makes by itself into the state.
      builder: takes model variables in.

    Attributes:
      whole: the optimizer of whose variables this one updates a group, if there is one.
      views: lists of slots that were read, and what they were made from.
    """

    def __init__(
        self,
        context: Context,
        rate: Rate,
        scaling: Scaling,
        state: SavedState,
        stepper: Stepper,
        own: OwnVariables,
        builder: Builder,
    ):
        self.context = context
        self.rate = rate
        self.scaling = scaling
        self.state = state
        self.stepper = stepper
        self.own = own
        self.builder = builder
        self.views: dict[str, Any] = {}
        self.keras: KerasSide = context.keras
        self.store: Store = context.store
        self.variables: StateVariables = context.variables
        self.counter: Counter = context.counter
        self.traces: Traces = context.traces
        self.grouping: Grouping = context.grouping
        self.whole: Whole | None = None

    def join(self, whole: Whole, title: str) -> None:
        """Makes this optimizer part of another one, which goes by its hyperparameters.

        Args:
          whole: the other one.
          title: what messages call it.
        """
        self.whole = whole
        self.rate.join(title)

    @property
    def title(self) -> str:
        """What messages call the optimizer: its class and name."""
        return self.context.title
