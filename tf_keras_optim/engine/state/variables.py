"""Making an optimizer's own variables, with the names and forms in which others see them."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.sharding import Sharding
from tf_keras_optim.engine.state.store import Store
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as private
from tf_keras_optim.engine.tensorflow.tensorflow_private import has_variable_creators, rename


class StateVariables:
    """The state variables of one optimizer.

    Args:
      owner: the optimizer, on which checkpoints find what is no slot.
      store: what keeps the variables by name.
      strategy: the distribution strategy that they are made in.
      wrap: returns a variable, under a name, as the running Keras wants to see it.
      sharding: makes them where each is to be on one device only.

    Attributes:
      strategy: the distribution strategy that they are made in.
      public: by the ids of the variables, what `wrap` returned.
      has_new_slots: whether slots were made that no checkpoint has been looked through for.
      find_own: adds variables that a class has made by itself to the state.
    """

    def __init__(
        self,
        owner: Any,
        store: Store,
        strategy: tf.distribute.Strategy,
        wrap: Callable[[tf.Variable, str], Any],
        sharding: Sharding,
    ):
        self._owner = owner
        self._store = store
        self.strategy = strategy
        self._wrap = wrap
        self._sharding = sharding
        self.public: dict[int, Any] = {}
        self.has_new_slots = False
        self.find_own: Callable[[], None] = lambda: None

    def make(
        self,
        name: str,
        start: Callable[[], tf.Tensor],
        beside: tf.Variable | None = None,
        aggregated: bool = False,
        kind: str | None = None,
    ) -> tf.Variable:
        """Makes a variable in the optimizer's strategy, beside another one.

        Args:
          name: its name.
          start: gives its first value.
          beside: the variable whose devices it is to have.
          aggregated: whether replicas write the same value, of which one counts.
          kind: a name that many variables share.
        """
        if self._sharding.is_on:
            variable = self._sharding.made(name, start, beside, kind)
            self._store.starts[id(variable)] = start
            return variable
        modes = tf.VariableAggregation
        with contextlib.ExitStack() as scopes:
            scopes.enter_context(distribution.entered(self.strategy))
            if beside is not None:
                scopes.enter_context(self.strategy.extended.colocate_vars_with(beside))
            # TensorFlow makes and keeps a kernel for each name it is given, which takes
            # longer than the rest; so variables of one kind are given one name there.
            is_plain = tf.executing_eagerly() and not has_variable_creators()

            def made(name: str) -> tf.Variable:
                return tf.Variable(
                    start,
                    trainable=False,
                    name=name,
                    aggregation=modes.ONLY_FIRST_REPLICA if aggregated else modes.NONE,
                    # Made in `init_scope`, it needs no lifting out of a function;
                    # TensorFlow would trace that function twice on its account.
                    experimental_enable_variable_lifting=False,
                )

            variable = made(kind if kind and is_plain else name)
            if kind and is_plain:
                own = f"{variable.name.removesuffix(f'{kind}:0')}{name}:0"
                if not rename(variable, own):
                    variable = made(name)
        self._store.starts[id(variable)] = start
        return variable

    def publish(
        self, name: str, variable: tf.Variable, flat: str | None = None, is_slot: bool = False
    ) -> Any:
        """Gives a variable its name and its public form, which is returned.

        What is no slot has this name in checkpoints; it must not be that of a property, as a
        SavedModel of Keras 2 sets it as an attribute when it is loaded.

        Args:
          name: the name, numbered if another variable has it.
          variable: the variable.
          flat: what its public form is called; the variable's own name by default.
          is_slot: whether it belongs to a model variable.
        """
        name = self._store.unique_name(name)
        with tf.init_scope():
            public = self._wrap(variable, flat or variable.name.split(":")[0])
        self.public[id(variable)] = public
        if is_slot:
            self.has_new_slots = True
            # As it was named in checkpoints before slots were named by place.
            if private.waiting(self._owner).get(name):
                self._store.awaited.drop(variable)
            private.hand_over(self._owner, name, public)
        else:
            private.track(self._owner, name, public)
        self._store.named[name] = variable
        return public

    def made(self, name: str, start: Callable[[], tf.Tensor], as_name: str) -> tf.Variable:
        """Makes and publishes a number that all replicas write alike.

        Args:
          name: the name of the variable.
          start: gives its first value.
          as_name: the name under which it is published.
        """
        variable = self.make(name, start, aggregated=True)
        self.publish(as_name, variable)
        return variable

    def retire(self, variable: tf.Variable, name: str) -> None:
        """Takes a variable out of the state."""
        self._store.starts.pop(id(variable), None)
        self.hide(variable, name)

    def hide(self, variable: tf.Variable, name: str) -> None:
        """Takes a variable out of what others see; it may be published again."""
        self._store.named.pop(name)
        self.public.pop(id(variable))
        private.stop_tracking(self._owner, name)

    def form_of(self, variable: tf.Variable) -> Any:
        """Returns a variable as the running Keras sees it, also one that is hidden."""
        if id(variable) in self.public:
            return self.public[id(variable)]
        return self._wrap(variable, variable.name.split(":")[0])
