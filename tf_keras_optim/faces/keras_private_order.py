"""The steps of Keras' own optimizers, in its order, for classes that override a part of them.

The engine's step has no place for what such a class does between `apply` and `update_step`. So
it takes the step of the installed Keras, whose methods call one another; a class that overrides
none of them has nothing to do with this.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import distribution, ordering, received, rows
from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.optimizer import Engine
from tf_keras_optim.engine.received import Received
from tf_keras_optim.engine.step import Step
from tf_keras_optim.engine.store import path_of
from tf_keras_optim.engine.user_steps import UserStep
from tf_keras_optim.faces import naming

CALLED = frozenset(
    {
        "add_optimizer_variables",
        "add_variable_from_reference",
        "apply",
        "apply_gradients",
        "assign",
        "assign_add",
        "assign_sub",
        "build",
        "built",
        "compute_gradients",
        "exclude_from_weight_decay",
        "finalize_variable_values",
        "from_config",
        "get_config",
        "get_weights",
        "iterations",
        "load_own_variables",
        "lr",
        "minimize",
        "save_own_variables",
        "scale_loss",
        "set_weights",
        "update_step",
        "variables",
        "_build_learning_rate",
        "_obj_type",
        "_serialize_hyperparameter",
        "_trackable_children",
    }
)
"""Methods of Keras' that are called, here as there, by users, Keras or the class itself."""

REFUSED = {
    "_build_index_dict": "The engine knows the places of the variables: read `_index_dict`.",
    "_check_super_called": "Call `super().__init__` first, which the engine checks by itself.",
    "_compute_current_learning_rate": "Override `learning_rate`, as a property.",
    "_create_iteration_variable": "Assign `iterations` after `super().__init__`.",
    "_create_or_restore_slot_variable": "Slots are restored by their names.",
    "_process_kwargs": "Take the arguments out in `__init__`.",
    "_track_variable": "Assign the variables as attributes; so they are part of the state.",
    "_untrack_variable": "Delete the attribute, and make the optimizer anew.",
    "add_variable": "Override `add_variable_from_reference`, or give your method another name.",
    "stateless_apply": "It is for Keras' JAX backend. Override `apply`.",
}
"""Methods of Keras' that nothing here calls, each with what to do instead."""


def methods_of(keras_class: type) -> Iterator[str]:
    """Yields the names of methods and properties of Keras' optimizer base classes."""
    for cls in keras_class.__mro__:
        if ".optimizer" in cls.__module__ and "keras" in cls.__module__:
            for name, value in vars(cls).items():
                if not name.startswith("__") and (callable(value) or hasattr(value, "__get__")):
                    yield name


def overridden(cls: type, keras_class: type) -> tuple[str, ...]:
    """Returns which of Keras' methods a class has otherwise than this package and Keras."""
    found = []
    for name in dict.fromkeys(methods_of(keras_class)):
        owner = next(c for c in cls.__mro__ if name in vars(c))
        is_own = not (naming.is_ours(owner) or owner in keras_class.__mro__)
        if is_own and not isinstance(vars(owner)[name], Hyperparameter):
            found.append(name)
    return tuple(sorted(found))


class InKerasOrder(Engine):
    """The part of an optimizer that takes steps in Keras' order where a class needs it."""

    _in_keras: ClassVar[Any] = object  # Keras' own base class
    _ordered: ClassVar[tuple[str, ...]] = ()
    """What a class overrides of Keras' step."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if naming.is_ours(cls):
            return
        found = overridden(cls, cls._in_keras)
        for name in found:
            if name in REFUSED:
                raise TypeError(
                    f"{cls.__name__} overrides `{name}`, which Keras' optimizers call and "
                    f"those of tf_keras_optim do not. {REFUSED[name]}"
                )
        cls._ordered = tuple(name for name in found if name not in CALLED)
        steps = cls.update_step is not Engine.update_step
        cls._step_class = UserStep if steps else Step
        if cls._ordered:
            cls._apply = InKerasOrder._apply_in_order  # type: ignore[method-assign]
        if "_get_current_learning_rate" in cls._ordered:
            cls._get_learning_rate = _current_rate  # type: ignore
        averages = "_overwrite_model_variables_with_average_value"
        if averages in cls._ordered and "finalize_variable_values" not in found:
            cls.finalize_variable_values = cls._in_keras.finalize_variable_values  # type: ignore

    @classmethod
    def _has_algorithm(cls) -> bool:
        # A class may hand gradients to another optimizer, or update all variables at once.
        found = overridden(cls, cls._in_keras)
        applies = any(name in ("apply", "apply_gradients") for name in found)
        return applies or bool(cls._ordered) or super()._has_algorithm()

    def _check_options(self) -> None:
        super()._check_options()
        if not self._ordered:
            return
        title, reason = f"{type(self).__name__} overrides `{self._ordered[0]}`", None
        if self.weight_decay and not self.decoupled_weight_decay:
            reason = "`decoupled_weight_decay=False` is not possible"
        elif self.weight_decay and self.decays_in_update:
            reason = "weight decay within the update is not possible"
        elif type(self).measure is not Algorithm.measure:
            reason = "an algorithm with `measure` cannot be run"
        elif not self._accumulates_in_keras and (self.gradient_accumulation_steps or 1) > 1:
            reason = "`gradient_accumulation_steps` is not possible, as Keras 2 has none"
        if reason:
            raise ValueError(
                f"{title}, so its steps are taken in Keras' order, in which {reason}. Leave "
                "that option out, or do without the method."
            )

    _accumulates_in_keras = True

    def _use_weight_decay(self, variable: Any) -> bool:
        """Says whether weight decay applies to a variable: it is not excluded from it."""
        native = distribution.container(self._unwrap(variable))
        entry = self._store.find(native)
        if entry is not None:
            return entry.decays
        return not self._exclusions.excludes(native, path_of(variable))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Takes their decay from variables: `weight_decay * learning_rate` of each."""
        decay = self.weight_decay
        if not decay:
            return
        if self._is_schedule(decay):
            decay = decay(self._updates())
        rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                target = distribution.local(self._unwrap(variable))
                share = tf.cast(decay, target.dtype) * tf.cast(rate, target.dtype)
                target.assign_sub(target.read_value() * share)

    def _summed_in_order(self, gradients: list[Any]) -> list[Any]:
        """Returns gradients summed over replicas, if that is still to be done."""
        if tf.distribute.in_cross_replica_context() or not received.now(self).aggregate:
            return gradients
        if self.gradient_reducer is not None:
            return self._reduced(gradients)
        return distribution.sum_over_replicas(gradients, self.aggregation_dtype)

    def _apply_in_order(
        self, gradients: list[Any], variables: list[Any], given: Received
    ) -> None:
        """Applies gradients; see `Applying._apply`."""
        if not variables:
            return
        known = any(gradient is not None for gradient in gradients)
        # What a class does where there is no gradient at all, is its own affair.
        self._admit(gradients if known else [True] * len(variables), variables)
        self._load_waiting(force=True)
        if distribution.across_replicas():
            self._in_each_replica(self._apply, gradients, variables, given)
            return
        if distribution.is_shared(self._store.iterations):
            raise ValueError(
                f"{self._title()} overrides `{self._ordered[0]}`, so its steps are taken in "
                "Keras' order, which is not possible where all replicas share the variables, "
                "as under CentralStorageStrategy. Use MirroredStrategy."
            )
        guard = self._guard
        if guard is not None and guard.active and not given.examined:
            self._apply_examined(self._step_in_order, gradients, variables, given)
            return
        with received.known(self, given):
            self._step_in_order(gradients, variables)

    def _step_in_order(self, gradients: list[Any], variables: list[Any]) -> None:
        if not tf.executing_eagerly():
            self._traced_in_graph = True
        if type(self).traits_of is not Algorithm.traits_of:
            for entry in self._store.tracked:
                if self._rate_factor(entry) != 1.0:
                    raise ValueError(
                        f"{type(self).__name__} overrides `{self._ordered[0]}`, so its steps "
                        "are taken in Keras' order, in which variables have no learning rates "
                        f"of their own; `traits_of` gives one to {entry.path!r}."
                    )
        tensors = [None if g is None else rows.tensors(g) for g in gradients]
        carried = self._to_be_carried()
        with ordering.update([tensor for tensor in tensors if tensor is not None]):
            self._call_keras(tensors, variables)
            for variable, value in carried:
                variable.assign(value)

    def _call_keras(self, gradients: list[Any], variables: list[Any]) -> None:
        """Takes one step in Keras' order."""
        raise NotImplementedError

    def _to_be_carried(self) -> list[tuple[tf.Variable, tf.Tensor]]:
        """Returns numbers that go from step to step, with their values after this one."""
        store, steps = self._store, self._store.counted_by
        if not store.step_slots:
            return []
        updates = self._updates()
        widest = max((entry.dtype for entry in store.tracked), key=lambda dtype: dtype.size)
        kinds: dict[int, tuple[Any, dict[str, tf.Variable]]] = {0: (None, store.step_slots)}
        kinds |= {id(e): (e, e.carried) for e in store.tracked if e.begun is not None}
        found = []
        for first, carried in kinds.values():
            scalars = self._dynamic_scalars(widest, self.learning_rate, updates, None, first)
            for name, variable in carried.items():
                own = distribution.local(variable)
                value = tf.cast(scalars[name], own.dtype)
                if steps > 1:
                    calls = distribution.local(store.iterations).read_value() + 1
                    value = tf.where(tf.equal(calls % steps, 0), value, own.read_value())
                found.append((own, value))
        return found


def _current_rate(optimizer: Any) -> Any:
    return optimizer._get_current_learning_rate()


class InOrderOfKeras3(InKerasOrder):
    """The same in Keras 3, whose `apply` is the step."""

    def _get_current_learning_rate(self) -> Any:
        """Returns the learning rate of the next update."""
        return Engine._get_learning_rate(self)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[tuple[Any, Any]]:
        """Returns pairs of a gradient, summed over replicas, and its variable."""
        pairs = list(grads_and_vars)
        summed = iter(self._summed_in_order([g for g, _ in pairs if g is not None]))
        return [(None if g is None else next(summed), v) for g, v in pairs]

    def _make_for(  # type: ignore[override]
        self, entry: Any, name: str, start: Callable, **how: Any
    ) -> tf.Variable:
        own = "_update_model_variables_moving_average" in self._ordered
        if name == "average" and own:
            # What such a class does with them, it does from where Keras' averages start.
            how |= {"reads": False}
            return super()._make_for(
                entry, name, lambda: tf.zeros(entry.variable.shape, entry.dtype), **how
            )
        return super()._make_for(entry, name, start, **how)

    def _call_keras(self, gradients: list[Any], variables: list[Any]) -> None:
        self._in_keras.apply(self, gradients, variables)  # type: ignore[attr-defined]


class InOrderOfKeras2(InKerasOrder):
    """The same in Keras 2, whose `apply_gradients` is the step."""

    _accumulates_in_keras = False
    _clip_gradients: Callable[[Any], Any]
    _deduplicate_sparse_grad: Callable[[Any], Any]
    _internal_apply_gradients: Callable[[Any], Any]

    def _compute_current_learning_rate(self) -> None:
        """Does nothing: the rate is computed where it is read."""

    def _call_keras(self, gradients: list[Any], variables: list[Any]) -> None:
        pairs: Any = list(zip(gradients, variables))
        if received.now(self).aggregate:
            pairs = self.aggregate_gradients(pairs)  # type: ignore[attr-defined]
        pairs = [(g, v) for g, v in pairs if g is not None]
        if not pairs:
            return
        given: Any = tuple(gradient for gradient, _ in pairs)
        learned = tuple(variable for _, variable in pairs)
        if self.loss_scale_factor is not None:
            given = tuple(rows.times(g, 1.0 / self.loss_scale_factor) for g in given)
        given = self._deduplicate_sparse_grad(self._clip_gradients(given))
        self._apply_weight_decay(learned)
        self._internal_apply_gradients(list(zip(given, learned)))
        for variable in learned:
            if getattr(variable, "constraint", None) is not None:
                variable.assign(variable.constraint(variable))

    def _update_step(self, gradient: Any, variable: Any) -> None:
        """Updates one variable, by a method of two arguments or of three."""
        rate = (self.learning_rate,) if self._takes_rate else ()
        self.update_step(gradient, variable, *rate)

    def _update_step_xla(self, gradient: Any, variable: Any, key: Any) -> Any:
        """Updates one variable, compiled where `jit_compile` is True."""
        if self.jit_compile is True:
            compiled = super()._update_step_xla  # type: ignore[misc]
            return compiled(gradient, variable, key)
        return self._update_step(gradient, variable)
