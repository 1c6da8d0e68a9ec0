"""An optimizer as the sum of its parts."""

from collections.abc import Callable, Mapping, Set
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.context import Context, KerasSide
from tf_keras_optim.engine.declarations import Declared, parameters_of
from tf_keras_optim.engine.grouping import Grouping
from tf_keras_optim.engine.hyperparameters import SetByInit
from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.engine.own_names import OwnNames
from tf_keras_optim.engine.parts import Parts
from tf_keras_optim.engine.state.builder import Builder
from tf_keras_optim.engine.state.own_variables import OwnVariables
from tf_keras_optim.engine.state.saved_state import SavedState
from tf_keras_optim.engine.state.sharding import Sharding
from tf_keras_optim.engine.state.store import Store
from tf_keras_optim.engine.state.variables import StateVariables
from tf_keras_optim.engine.step.counter import Counter
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.step.stepper import Stepper
from tf_keras_optim.engine.step.traces import Traces
from tf_keras_optim.engine.step.watch import Watch
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking


class Composed(Algorithm, CommonOptions, Declared, tracking.AutoTrackable):
    """An algorithm with options, made of parts.

    Attributes:
      name: the optimizer's name.
      tko: its parts. They are for this package; what an optimizer offers are its methods.
    """

    name: Any = SetByInit()
    tko: Any = SetByInit()
    _keras_side: Callable[[Any], KerasSide]
    _stepper_class: ClassVar[type[Stepper]] = Stepper
    _own_names: ClassVar[OwnNames] = OwnNames()
    """What a class of a user's calls as this package calls something else."""

    def build(self, variables: Any) -> None:
        """Makes the slots of variables."""
        raise NotImplementedError

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Updates variables by their gradients."""
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Updates one variable."""
        raise NotImplementedError

    def _compose(self, name: str | None, values: Mapping[str, Any], given: Set[str]) -> None:
        """Makes the parts, before any of them has a variable.

        Args:
          name: the optimizer's name; `None` for the one that Keras gives it.
          values: all arguments.
          given: the names of those that were given.

        Raises:
          TypeError: the class has an `update_step` that cannot be called.
        """
        side = self._keras_side(self)
        side.check_update_step()
        self.name = name or side.automatic_name()
        store, strategy = Store(), tf.distribute.get_strategy()
        sharding = Sharding(strategy)
        variables = StateVariables(self, store, strategy, side.wrap, sharding)
        seen = self._own_names.seen(self, values, given) if self._own_names else self
        grouping, counter = Grouping(self, seen, strategy), Counter(store)
        traces = Traces()
        watch = Watch(variables, traces)
        shared = (side, store, variables, counter, traces, grouping, watch, sharding)
        context = Context(seen, seen, seen, *shared)
        declared = parameters_of(type(self))["learning_rate"]
        rate = Rate(context, declared, lambda option: getattr(seen, option))
        scaling, state = Scaling(context), SavedState(self, context)
        stepper = self._stepper_class(self, context, rate, scaling, state)
        own = OwnVariables(self, context, state.load_pending)
        variables.find_own = own.find
        builder = Builder(self, context, own, state)
        parts = Parts(context, rate, scaling, state, stepper, own, builder)
        tracking.keep_untracked(self, "tko", parts)
