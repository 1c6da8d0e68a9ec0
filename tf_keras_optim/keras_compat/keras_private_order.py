"""The steps of Keras' own optimizers, in its order, for classes that override a part of them.

The engine's step has no place for what such a class does between `apply` and `update_step`. So
it takes the step of the installed Keras, whose methods call one another; a class that overrides
none of them has nothing to do with this.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import declarations, nature, option_checks, own_names
from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.optimizer import Engine
from tf_keras_optim.engine.options import CommonOptions, calls_per_update
from tf_keras_optim.engine.seen import class_for
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.step import received
from tf_keras_optim.engine.step.ordered import OrderedStepper
from tf_keras_optim.engine.step.summing import Summing
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import rows
from tf_keras_optim.keras_compat import naming

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


def _of_package_alone(cls: Any) -> dict[str, Hyperparameter]:
    """Returns the options of every optimizer here that those of the running Keras lack."""
    theirs = naming.arguments_of(cls._in_keras)
    return {
        name: option
        for name, option in declarations.parameters_of(cls).items()
        if name in declarations.collected(CommonOptions)
        and not (name in theirs or hasattr(cls._in_keras, name))
    }


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


class StepperOfKeras3(OrderedStepper):
    """Takes a step by `apply` of Keras 3."""

    def take(self, gradients: list[Any], variables: list[Any]) -> None:
        """Takes one step."""
        optimizer: Any = self._owner
        optimizer._in_keras.apply(optimizer, gradients, variables)


class StepperOfKeras2(OrderedStepper):
    """Takes a step as `apply_gradients` of Keras 2 does, without another `build`."""

    def take(self, gradients: list[Any], variables: list[Any]) -> None:
        """Takes one step."""
        optimizer: Any = self._owner
        pairs: Any = list(zip(gradients, variables))
        if received.now(optimizer).aggregate:
            pairs = optimizer.aggregate_gradients(pairs)
        pairs = [(g, v) for g, v in pairs if g is not None]
        if not pairs:
            return
        given: Any = tuple(gradient for gradient, _ in pairs)
        learned = tuple(variable for _, variable in pairs)
        factor = self._context.options.loss_scale_factor
        if factor is not None:
            given = tuple(rows.times(g, 1.0 / factor) for g in given)
        given = optimizer._deduplicate_sparse_grad(optimizer._clip_gradients(given))
        optimizer._apply_weight_decay(learned)
        optimizer._internal_apply_gradients(list(zip(given, learned)))
        for variable in learned:
            if getattr(variable, "constraint", None) is not None:
                variable.assign(variable.constraint(variable))


class InKerasOrder(Engine):
    """The part of an optimizer that takes steps in Keras' order where a class needs it."""

    _in_keras: ClassVar[Any] = object  # Keras' own base class
    _keras_stepper: ClassVar[type[OrderedStepper]]
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
        if cls._ordered:
            cls._stepper_class = cls._keras_stepper
        if cls._ordered or {"apply", "apply_gradients"} & set(found):
            setattr(cls, nature.APPLIES, True)
        cls._own_names = own_names.find(
            cls,
            [c for c in cls.__mro__ if not (naming.is_ours(c) or c in cls._in_keras.__mro__)],
            _of_package_alone(cls),
            getattr(cls, nature.APPLIES, False),
        )
        if "_get_current_learning_rate" in found and "learning_rate" not in found:
            cls.learning_rate = property(_rate_by_method, _set_rate)  # type: ignore
        averages = "_overwrite_model_variables_with_average_value"
        if averages in found and "finalize_variable_values" not in found:
            cls.finalize_variable_values = cls._in_keras.finalize_variable_values  # type: ignore

    def _check_options(self) -> None:
        super()._check_options()
        if not self._ordered:
            return
        title, reason = f"{type(self).__name__} overrides `{self._ordered[0]}`", None
        context = self.tko.context
        if self.weight_decay and not context.options.decoupled_weight_decay:
            reason = "`decoupled_weight_decay=False` is not possible"
        elif self.weight_decay and context.options.decays_in_update:
            reason = "weight decay within the update is not possible"
        elif around := [n for n in option_checks.AROUND_UPDATE if getattr(context.options, n)]:
            reason = f"`{around[0]}=True` is not possible"
        elif class_for(context.algorithm, "measure").measure is not Algorithm.measure:
            reason = "an algorithm with `measure` cannot be run"
        elif nature.refreshes(context.algorithm):
            reason = "an algorithm with `refresh` cannot be run"
        elif calls_per_update(context.options) > 1 and not hasattr(
            self._in_keras, "_backend_increment_gradient_accumulators"
        ):
            reason = "`gradient_accumulation_steps` is not possible, as this Keras has none"
        if reason:
            raise ValueError(
                f"{title}, so its steps are taken in Keras' order, in which {reason}. Leave "
                "that option out, or do without the method."
            )

    def _use_weight_decay(self, variable: Any) -> bool:
        """Says whether weight decay applies to a variable: it is not excluded from it."""
        native = distribution.container(self.tko.keras.unwrap(variable))
        entry = self.tko.store.find(native)
        if entry is not None:
            return entry.decays
        return not self.tko.builder.exclusions.excludes(native, path_of(variable))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Takes their decay from variables: `weight_decay * learning_rate` of each."""
        decay = self.weight_decay
        if not decay:
            return
        if self.tko.keras.is_schedule(decay):
            decay = decay(self.tko.counter.updates())
        rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                target = distribution.local(self.tko.keras.unwrap(variable))
                share = tf.cast(decay, target.dtype) * tf.cast(rate, target.dtype)
                target.assign_sub(target.read_value() * share)


def summed(optimizer: Engine, gradients: list[Any]) -> list[Any]:
    """Returns gradients summed over replicas, if that is still to be done."""
    if tf.distribute.in_cross_replica_context() or not received.now(optimizer).aggregate:
        return gradients
    context = optimizer.tko.context
    if context.options.gradient_reducer is not None:
        return Summing(context).reduced(gradients)
    return distribution.sum_over_replicas(gradients, context.options.aggregation_dtype)


def _rate_by_method(optimizer: Any) -> Any:
    return optimizer._get_current_learning_rate()


def _set_rate(optimizer: Any, value: Any) -> None:
    optimizer.tko.rate.set(value)


class InOrderOfKeras3(InKerasOrder):
    """The same in Keras 3, whose `apply` is the step."""

    _keras_stepper = StepperOfKeras3

    def _get_current_learning_rate(self) -> Any:
        """Returns the learning rate of the next update."""
        return self.tko.rate.get()

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[tuple[Any, Any]]:
        """Returns pairs of a gradient, summed over replicas, and its variable."""
        pairs = list(grads_and_vars)
        sums = iter(summed(self, [g for g, _ in pairs if g is not None]))
        return [(None if g is None else next(sums), v) for g, v in pairs]


class InOrderOfKeras2(InKerasOrder):
    """The same in Keras 2, whose `apply_gradients` is the step."""

    _keras_stepper = StepperOfKeras2

    @tf.autograph.experimental.do_not_convert
    def aggregate_gradients(self, grads_and_vars: Any) -> list[tuple]:
        """Returns the pairs with each gradient summed over the replicas."""
        pairs = [(gradient, v) for gradient, v in grads_and_vars if gradient is not None]
        sums = summed(self, [rows.tensors(g) for g, _ in pairs])
        return [(gradient, v) for gradient, (_, v) in zip(sums, pairs)]

    def _compute_current_learning_rate(self) -> None:
        """Does nothing: the rate is computed where it is read."""

    def _update_step(self, gradient: Any, variable: Any) -> None:
        """Updates one variable, by a method of two arguments or of three."""
        rate = (self.learning_rate,) if self.tko.keras.gives_rate else ()
        self.update_step(gradient, variable, *rate)

    def _update_step_xla(self, gradient: Any, variable: Any, key: Any) -> Any:
        """Updates one variable, compiled where `jit_compile` is True."""
        if self.tko.context.options.jit_compile is True:
            compiled = super()._update_step_xla  # type: ignore[misc]
            return compiled(gradient, variable, key)
        return self._update_step(gradient, variable)
