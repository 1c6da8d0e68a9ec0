"""The engine: what every optimizer does, whatever its algorithm and its Keras."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import (
    declarations,
    explain,
    grouping,
    hyperparameters,
    nature,
    option_checks,
)
from tf_keras_optim.engine.explain import VariableReport
from tf_keras_optim.engine.methods.applying import Applying
from tf_keras_optim.engine.methods.configuration import Configuration
from tf_keras_optim.engine.methods.evaluating import Evaluating
from tf_keras_optim.engine.methods.watching import Watching
from tf_keras_optim.engine.options import EIGHT_BIT, calls_per_update
from tf_keras_optim.engine.patterns import all_of
from tf_keras_optim.engine.seen import owns
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.step import accumulation, losses
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.update import single


class Engine(Applying, Configuration, Evaluating, Watching):
    """The methods of an optimizer. `keras_compat` adds what one generation of Keras expects.

    An algorithm overrides `slots` and `update` (and `prepare`, if it has scalars
    to compute once per step), or, as in Keras 3, `build` and `update_step`.
    """

    _is_set_up = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__init__ is Engine.__init__:
            cls.__signature__ = cls._signature
        else:
            full = inspect.signature(cls.__init__)
            cls.__signature__ = full.replace(parameters=list(full.parameters.values())[1:])

    @classmethod
    def _in_order(cls) -> dict[str, hyperparameters.Hyperparameter]:
        # Not by its name, which it does not have yet where it is made itself.
        return declarations.with_common_last(cls, __class__)  # type: ignore[name-defined]

    def __init__(self, *args: Any, **kwargs: Any):
        owner = type(self).__name__
        if not nature.has_algorithm(type(self)):
            raise TypeError(
                f"{owner} has no algorithm. Override `update(gradient, value, slots, "
                "scalars)`, or `update_step(gradient, variable, learning_rate)`."
            )
        excluded = kwargs.pop("exclude_from_weight_decay", None)  # as `get_config` gives it
        values = self._bound(args, kwargs)
        name = values.pop("name")
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{owner}: argument `name` must be a string. Received: {name!r}.")
        for key in self._own_names.options & kwargs.keys():
            values[key] = self._parameters[key].check(values[key], owner)
        self._compose(name, values, kwargs.keys())
        seen = self.tko.context.options
        self._distribution_strategy = self.tko.variables.strategy
        tracking.warn_of_checkpoints()
        self.tko.builder.exclusions.load(excluded)
        rate = values.pop("learning_rate")
        for key, value in values.items():
            if not owns(seen, key):
                setattr(self, key, value)
        self._check_options()
        option_checks.check_averaging(seen)
        self.tko.context.sharding.begin(seen.shard_slots)
        self.tko.store.counted_by = calls_per_update(seen)
        self.tko.stepper.planning.renew()
        self._is_set_up = True
        self.tko.store.iterations = self.tko.variables.made(
            "iteration", lambda: tf.zeros([], tf.int64), "_iterations"
        )
        self.tko.rate.set(rate)  # not by its name, which a class may give a property
        self.tko.grouping.check()
        self.tko.scaling.skip_nonfinite(seen.skip_nonfinite, seen.max_consecutive_skips)

    @nature.runs_update
    @tf.autograph.experimental.do_not_convert
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
        """Updates one variable in place, without clipping, decay or averaging.

        Override it instead of `update` to write an optimizer the Keras 3 way.

        Args:
          gradient: tensor of the variable's shape, or `tf.IndexedSlices`.
          variable: a variable that the optimizer was built with.
          learning_rate: 0-d tensor or number; by default the optimizer's own.

        Raises:
          TypeError: the algorithm uses numbers over all variables, or refreshes slots.
        """
        single.update(
            self.tko.context,
            self.tko.stepper.admission,
            self.tko.stepper.planning,
            gradient,
            variable,
            self.tko.rate.of if learning_rate is None else lambda entry, updates: learning_rate,
        )

    # Running the algorithm.

    def _check_options(self) -> None:
        """Refuses options that exclude one another, or that the algorithm cannot have."""
        context = self.tko.context
        option_checks.check(context.options, context.algorithm, self.tko.scaling)
        option_checks.check_sharding(
            context.options, context.algorithm, self.tko.stepper.measures
        )
        wanted = context.options.shard_slots
        context.sharding.check(wanted, self.tko.title, is_made=self._is_set_up)
        if EIGHT_BIT in all_of(context.options.slot_dtype):
            self.tko.builder.check_eight_bit()

    @property
    def trace_count(self) -> int:
        """How often a step was traced."""
        return self.tko.traces.count

    @property
    def jit_compile_used(self) -> bool | None:
        """Whether all updates so far were compiled by XLA; `None` before the first.

        TensorFlow's training operations, which "auto" may choose, are not compiled by XLA. A
        step inside a function that is itself compiled (`jit_compile=True`) is part of that
        compilation, whatever this property says.
        """
        used = self.tko.stepper.planning.used
        return all(used) if used else None

    def tko_check_change(self) -> None:
        """Refuses hyperparameters, one of which was just changed, that do not go together."""
        if self._is_set_up:
            self._check_options()
            self.tko.grouping.check()
            self.tko.grouping.check_change(self.tko.store.tracked)
            self.tko.builder.check_slots()
            accumulation.check_change(self.tko.context)
            if self.tko.whole is not None:
                self.tko.whole.tko_check_change()

    def tko_changed(self, name: str) -> None:
        """Drops traces with the old value, and makes the slots that the new one needs."""
        if not self._is_set_up:
            return
        parts, seen = self.tko, self.tko.context.options
        if parts.whole is not None:
            parts.whole.tko_changed("groups")
        if parts.traces.in_graph:
            warnings.warn(
                f"{self.tko.title}: {name!r} was changed after the step had been traced into "
                "a function. That function keeps the old value until it is traced again, "
                "e.g. after `model.compile`. Eager calls use the new value.",
                stacklevel=5,
            )
        parts.scaling.skip_nonfinite(seen.skip_nonfinite, seen.max_consecutive_skips)
        parts.builder.regroup()
        parts.stepper.planning.renew()
        parts.rate.was_changed(name)
        parts.traces.forget()
        parts.builder.rebuild()
        if not parts.traces.in_graph:  # else when a step is traced anew
            accumulation.recount(self.tko.context)

    # Losses.

    @tf.autograph.experimental.do_not_convert
    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by `loss_scale_factor`, if there is one.

        Args:
          loss: tensor, or a callable that returns one.

        Returns:
          The scaled loss, or a callable that returns it.
        """
        factor = self.tko.context.options.loss_scale_factor
        if factor is None:
            return loss
        if callable(loss):
            return lambda: self.scale_loss(loss())
        return loss * (tf.cast(factor, loss.dtype) if hasattr(loss, "dtype") else factor)

    @tf.autograph.experimental.do_not_convert
    def compute_gradients(self, loss: Any, var_list: Any, tape: Any = None) -> list[tuple]:
        """Returns pairs of the (scaled) gradient and the variable.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.

        Raises:
          ValueError: `loss` is a tensor and `tape` is missing.
        """
        return losses.gradients_of(
            loss, var_list, tape, self.scale_loss, self.tko.keras.unwrap, self.tko.title
        )

    @tf.autograph.experimental.do_not_convert
    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """Computes the gradients of a loss and applies them; see `compute_gradients`.

        Returns:
          The variable `iterations`.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape))

    # What it does with each variable.

    def explain(
        self,
        print_fn: Callable[[str], Any] = print,
        *,
        variables: Iterable[Any] | None = None,
        dry_run: bool = False,
    ) -> list[VariableReport]:
        """Prints a table of the state of each variable and of what updates the variable.

        Args:
          print_fn: function that receives the text.
          variables: with `dry_run`, the variables that the optimizer would be built with.
          dry_run: report what would be kept for `variables` without changing the optimizer.
            Slots are made for a copy and released at once.

        Returns:
          reports: the same information as objects, one for each variable.

        Raises:
          ValueError: the optimizer is not built, or only one of `variables` and `dry_run` is
            given.
        """
        if dry_run != (variables is not None):
            raise ValueError(
                f"{self.tko.title}: `explain` takes `dry_run`=True and `variables` together, "
                f"or neither. Received: dry_run={dry_run}, variables={variables!r}."
            )
        if variables is not None:
            copy = grouping.like(self)
            copy.build(variables)
            return copy.explain(print_fn)
        if not self.built:
            raise ValueError(
                f"{self.tko.title} has no slots yet. Call `optimizer.build(variables)` before "
                "`explain`, or `optimizer.explain(dry_run=True, variables=variables)`."
            )
        parts = self.tko
        found = explain.reports(parts.context, parts.stepper.planning, parts.rate)
        print_fn(
            explain.table(found, parts.title, with_rules=bool(parts.context.options.groups))
        )
        return found

    # Averages.

    @tf.autograph.experimental.do_not_convert
    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Sets variables to their evaluation weights, as `fit` does at its end.

        If the algorithm has evaluation weights of its own, all variables are set to them, as by
        `use_evaluation_weights`, and later training continues from the trained weights. With
        `use_ema` the averages replace the weights, and later training continues from the
        averages. Slow weights (`lookahead_steps`) are set by `use_evaluation_weights` only. An
        average begins with the first update after it was made; a variable whose average has
        not begun, or that has none, does not change.
        """
        if evaluation.is_on(self.tko.context):
            return
        if not self.use_ema:
            if evaluation.has_rules(self.tko.context):
                self.use_evaluation_weights()
            return
        updates = self.tko.counter.updates()
        steps = self.tko.store.counted_by
        for variable in var_list:
            entry = self.tko.store.find(self.tko.keras.unwrap(variable))
            if entry is None or entry.average is None:
                continue
            begun = (updates > 0) & tf.not_equal(updates, entry.averages_from // steps)

            def put(target: tf.Variable, average: tf.Variable, begun: tf.Tensor) -> None:
                now = target.read_value()
                target.assign(tf.where(begun, tf.cast(average, target.dtype), now))

            self._distribution_strategy.extended.update(
                entry.variable, put, args=(entry.average, begun)
            )
