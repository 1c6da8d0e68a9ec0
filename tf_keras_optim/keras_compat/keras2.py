"""What Keras 2 (the package tf_keras) expects of an optimizer."""

import functools
import inspect
import itertools
from typing import Any

import tensorflow as tf
import tf_keras

from tf_keras_optim.engine import declarations, nature
from tf_keras_optim.engine.optimizer import Engine
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import copying, described, naming
from tf_keras_optim.keras_compat.keras2_requests import RequestsInKeras2
from tf_keras_optim.keras_compat.keras2_side import Keras2Side
from tf_keras_optim.keras_compat.keras_private_members import MembersInKeras2
from tf_keras_optim.keras_compat.keras_private_order import InOrderOfKeras2

_POSITIONS = [
    name
    for name, parameter in inspect.signature(
        tf_keras.optimizers.Optimizer.__init__
    ).parameters.items()
    if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
]
_WITHOUT_EFFECT = ("is_legacy_optimizer",)  # there for serialization only


class VariableList(list):
    """A list that may also be called, as both were the interface at some time."""

    def __call__(self) -> "VariableList":
        """Returns the list itself."""
        return self


class Keras2Optimizer(  # type: ignore[misc]  # requests by the signatures of both Kerases
    naming.Described,
    MembersInKeras2,
    RequestsInKeras2,
    InOrderOfKeras2,
    tf_keras.optimizers.Optimizer,
):
    """The engine, as an instance of `tf_keras.optimizers.Optimizer`.

    The learning rate and the counter are `tf.Variable`s, and the learning rate is
    not among `variables`. Keras' own `__init__` is not run.
    """

    _other_keras = "keras"
    _how_to_change = naming.HOW_TO_BIND_TO_KERAS_3
    _keras_side = Keras2Side
    _in_keras = tf_keras.optimizers.Optimizer
    _built_by_class = False  # whether a class has said so in its own `build`

    # What tf_keras' own LossScaleOptimizer asks of the optimizer inside.
    _mesh = None
    _run_with_dtensor = False

    _listed: Any = None  # the state as a tracked list, for SavedModel directories

    def __setattr__(self, name: str, value: Any) -> None:
        if not declarations.set_plainly(self, name, value):
            super().__setattr__(name, value)

    @classmethod
    def _deserialize(
        cls, config: Any, custom_objects: Any, *, is_optimizer: bool = False
    ) -> Any:
        if is_optimizer:
            expected = "an optimizer of tf_keras_optim"
            return described.instance(tf_keras, config, Engine, expected, custom_objects)
        return described.schedule(tf_keras, config, custom_objects)

    @property
    def variables(self) -> VariableList:
        """The state: the counter, then the slots. Readable as a list or by calling it."""
        return VariableList(self._variables)

    @property
    def _built(self) -> bool:
        """Whether the slots are made; a class' own `build` says so of its own slots."""
        return self._built_by_class if self._marks_built() else self.built

    @_built.setter
    def _built(self, value: bool) -> None:
        if self._marks_built():
            tracking.keep_untracked(self, "_built_by_class", bool(value))
        else:
            self.built = value

    def _marks_built(self) -> bool:
        """Whether the class makes its slots after `super().build`, unless `_built` is set.

        In Keras 2 the base class leaves that to it; an optimizer with an `update` has made
        its slots by then.
        """
        return type(self).update is Engine.update and type(self).build is not Engine.build

    @classmethod
    def _bound(cls, args: Any, kwargs: Any, owner: str | None = None) -> dict[str, Any]:
        """Returns every argument of a call; a name at first stands for Keras 2's order."""
        kwargs = {k: v for k, v in kwargs.items() if k not in _WITHOUT_EFFECT}
        if args and isinstance(args[0], str) and cls._names_first():
            named = dict(zip(_POSITIONS, args))
            args, kwargs = args[len(named) :], named | kwargs
        return super()._bound(args, kwargs, owner)

    @classmethod
    def _names_first(cls) -> bool:
        """Whether a class' own `__init__` calls the base class', which begins with a name."""
        own = list(itertools.takewhile(lambda base: not naming.is_ours(base), cls.__mro__))
        has_init = any("__init__" in vars(base) for base in own)
        return has_init and not nature.has_algorithm(cls.__mro__[len(own)])

    def _build_learning_rate(self, learning_rate: Any) -> Any:
        """Returns what is to be kept as `_learning_rate`: a schedule, or a variable."""
        if self.tko.keras.is_schedule(learning_rate):
            return learning_rate
        with tf.init_scope():
            return tf.Variable(
                learning_rate,
                name="learning_rate",
                dtype=self.tko.keras.float_type(),
                trainable=False,
            )

    @property
    def iterations(self) -> Any:
        """Number of updates so far: a `tf.Variable`; under accumulation a tensor."""
        count = super().iterations
        if not isinstance(count, tf.Variable):
            # The TensorBoard callback reads it as it would read a variable, and tf_keras' own
            # LossScaleOptimizer counts a step that it leaves out.
            count.read_value = functools.partial(tf.identity, count)
            count.assign_add = self._count_updates
        return count

    @iterations.setter
    def iterations(self, variable: tf.Variable) -> None:
        if self.built:
            raise RuntimeError(
                f"{self.tko.title}: `iterations` can only be replaced before the slots are "
                "made. Set it right after creating the optimizer."
            )
        self._iterations = variable

    def _count_updates(self, number: Any, read_value: bool = True) -> Any:
        """Counts updates under accumulation; what has been gathered for the next one stays."""
        counter = self.tko.store.iterations
        if not tf.distribute.in_cross_replica_context():
            counter = distribution.local(counter)
        calls = tf.cast(number, counter.dtype) * self.tko.store.counted_by
        counter.assign_add(calls, read_value=False)
        return self.iterations if read_value else None

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Any,
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        experimental_aggregate_gradients: bool = True,
    ) -> tf.Variable:
        """Updates variables by their gradients; counts one iteration.

        Args:
          grads_and_vars: pairs of a gradient and its variable.
          name: ignored; there for the older signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.
          experimental_aggregate_gradients: the reverse of it, as older code says it.

        Returns:
          The variable `iterations`.
        """
        aggregate = experimental_aggregate_gradients and not skip_gradients_aggregation
        self.tko.stepper.apply_pairs(grads_and_vars, aggregate)
        return self._iterations

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict:
        # Not tf_keras' own: it remembers the children of the first save; ours may grow.
        children = Engine._trackable_children(self, save_type, **kwargs)
        if save_type == "savedmodel":
            # What loads the directory makes a bare optimizer, whose list must be matched.
            key = tuple(map(id, self._variables))
            if self._listed is None or self._listed[0] != key:
                listed = (key, tracking.wrapped(list(self._variables)))
                tracking.keep_untracked(self, "_listed", listed)
            children["_variables"] = self._listed[1]
        return children

    def __reduce__(self) -> tuple:
        return copying.reduced(self)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument by name; `from_config` makes an equal optimizer."""
        return super().get_config() | {"is_legacy_optimizer": False}
