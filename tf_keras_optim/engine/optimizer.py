"""The engine: what every optimizer does, whatever its algorithm and its Keras."""

import inspect
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import (
    accumulation,
    declarations,
    distribution,
    explain,
    hyperparameters,
    kernels,
    late,
    late_rates,
    losses,
    measures,
    plans,
    products,
    purity,
    single,
    variable_hooks,
)
from tf_keras_optim.engine import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.applying import Applying
from tf_keras_optim.engine.configuration import Configuration
from tf_keras_optim.engine.execution import Execution
from tf_keras_optim.engine.explain import VariableReport
from tf_keras_optim.engine.kernels import Scalars
from tf_keras_optim.engine.patterns import DecayExclusions
from tf_keras_optim.engine.plans import Rule, StepPlan, UpdatePlan
from tf_keras_optim.engine.received import Received
from tf_keras_optim.engine.recent import Recent
from tf_keras_optim.engine.store import Store, Tracked

_STEPS = 32  # sets of variables whose steps are kept, and as many older ones; each is traced


class Engine(Algorithm, Applying, Configuration):
    """Slots, kernels and the step. A face adds what one Keras generation expects.

    An algorithm overrides `slots` and `update` (and `prepare`, if it has scalars
    to compute once per step), or, as in Keras 3, `build` and `update_step`.
    """

    name: Any = hyperparameters.SetByInit()
    _store: Any = hyperparameters.SetByInit()
    _is_built: Any = hyperparameters.SetByInit()

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
        if not self._has_algorithm():
            raise TypeError(
                f"{owner} has no algorithm. Override `update(gradient, value, slots, "
                "scalars)`, or `update_step(gradient, variable, learning_rate)`."
            )
        self._check_update_step()
        excluded = kwargs.pop("exclude_from_weight_decay", None)  # as `get_config` gives it
        values = self._bound(args, kwargs)
        name = values.pop("name")
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{owner}: argument `name` must be a string. Received: {name!r}.")
        self.name = name or self._default_name()
        tracking.warn_of_checkpoints()
        self.trace_count = 0
        self._traced_in_graph = False
        self._outside = ()
        tracking.keep_untracked(self, "_rate_supply", late_rates.RateSupply(self))
        self._is_built = False
        self._store = Store()
        self._exclusions = DecayExclusions()
        self._exclusions.load(excluded)
        tracking.keep_untracked(self, "_public", {})
        tracking.keep_untracked(self, "_steps", Recent(_STEPS))
        tracking.keep_untracked(self, "_lookups", Recent(_STEPS))
        tracking.keep_untracked(self, "_restorations", [])
        self._is_settled = True
        self._distribution_strategy = tf.distribute.get_strategy()
        rate = values.pop("learning_rate")
        for key, value in values.items():
            setattr(self, key, value)
        self._check_options()
        self._check_averaging()
        self._store.counted_by = accumulation.wanted(self)
        self._make_executors()
        self._store.iterations = self._make(
            "iteration", lambda: tf.zeros([], tf.int64), aggregated=True
        )
        self._publish("_iterations", self._store.iterations)
        self._set_learning_rate(rate)  # not by its name, which a class may give a property
        if self.skip_nonfinite:
            self._guard_steps()

    def _check_update_step(self) -> None:
        """Refuses an `update_step` that does not take the three arguments it is given."""
        try:
            inspect.signature(type(self).update_step).bind(*range(4))
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}.update_step must take three arguments, (gradient, "
                "variable, learning_rate), as in Keras 3. Where it takes two, as in Keras 2, "
                "add the third and use it in place of `self.learning_rate`."
            ) from None

    @tf.autograph.experimental.do_not_convert
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
        """Updates one variable in place, without clipping, decay or averaging.

        Override it instead of `update` to write an optimizer the Keras 3 way.

        Args:
          gradient: tensor of the variable's shape, or `tf.IndexedSlices`.
          variable: a variable that the optimizer was built with.
          learning_rate: 0-d tensor or number; by default the optimizer's own.

        Raises:
          TypeError: the algorithm uses numbers over all variables.
        """
        single.update(self, gradient, variable, learning_rate)

    # What a face overrides.

    def _default_name(self) -> str:
        """Returns the name this Keras gives to an optimizer without one."""
        raise NotImplementedError

    # Running the algorithm.

    @classmethod
    def _has_algorithm(cls) -> bool:
        """Whether the class says how variables are updated, in one of the two ways."""
        own_step = cls.update_step is not Engine.update_step
        return own_step or cls.update is not Algorithm.update

    def _is_pure(self) -> bool:
        """Whether the algorithm is an `update`, and not a user-written `update_step`."""
        own_step = type(self).update_step is not Engine.update_step
        return type(self).update is not Algorithm.update and not own_step

    def _make_executors(self) -> None:
        has = measures.check_hooks(type(self), Algorithm, is_pure=self._is_pure())
        arguments = (self, self._static_scalars, self.jit_compile)
        self._execution = Execution(*arguments, has_measure=has)

    def _rule(self) -> Rule:
        """Returns how the algorithm updates variables, for their plans."""
        is_pure, decay = self._is_pure(), plans.L2
        if self.decoupled_weight_decay:
            in_update = is_pure and self.decays_in_update
            decay = plans.IN_UPDATE if in_update else plans.DECOUPLED
        return Rule(is_pure, self._can_fuse, self.jit_compile, decay)

    def _step_plan(self, given: Received) -> StepPlan:
        """Returns what a step does with its gradients, which carry the loss scale or not."""
        guard = self._guard
        examines = guard is not None and guard.active and not given.examined
        unscales = examines and given.scaled and guard.scale is not None
        return plans.plan_step(self, examines=examines, unscales=unscales)

    def _update_plan(
        self, entry: Tracked, rule: Rule, step: StepPlan, gradient: str
    ) -> UpdatePlan:
        """Returns what an update of a variable does; arguments as for `plan_update`."""
        decays = bool(self.weight_decay) and entry.decays
        return plans.plan_update(
            entry,
            rule,
            step,
            gradient,
            decays=decays,
            traits=self._traits(entry, decays)[0],
            compiles=kernels.compiles(),
        )

    def _traits(self, entry: Tracked, decay: bool) -> tuple[dict[str, Any], float]:
        """Returns a variable's own options, and the factor on its learning rate."""
        return variable_hooks.options_for(self, self._info(entry, decay))

    def _rate_factor(self, entry: Tracked) -> float:
        return self._traits(entry, bool(self.weight_decay) and entry.decays)[1]

    @property
    def jit_compile_used(self) -> bool | None:
        """Whether all updates so far were compiled by XLA; `None` before the first.

        A training operation of TensorFlow, which "auto" may choose, is not. A step inside a
        function that is itself compiled (`jit_compile=True`) is part of that compilation
        whatever this says.
        """
        used = self._execution.used
        return all(used) if used else None

    def _static_scalars(self) -> dict[str, Any]:
        return {k: v for k, v in self._values().items() if not self._is_schedule(v)}

    def _rounding(self, entry: Tracked, updates: tf.Tensor) -> tf.Tensor:
        """Returns the seed of one update of one variable, int32 of shape [2]."""
        # By place, not by path: Keras gives a loaded model's variables other paths.
        place = zlib.crc32(str(entry.place).encode())
        own = (place ^ self.rounding_seed) & 0x3FFFFFFF
        return tf.stack([tf.constant(own, tf.int32), tf.cast(updates, tf.int32)])

    def _dynamic_scalars(
        self,
        dtype: tf.DType,
        rate: Any,
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None = None,
        begun: Tracked | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns what varies from step to step, as 0-d tensors of a dtype.

        Args:
          dtype: the dtype.
          rate: the learning rate.
          updates: the number of updates so far.
          asked: what was computed outside.
          begun: one of the variables that the scalars are for, where their slots came late.
        """
        asked = asked or {}
        total, carried = tf.cast(updates + 1, dtype), self._store.step_slots
        scalars = {"learning_rate": tf.cast(rate, dtype), "step": total}
        if begun is not None and begun.begun is not None:
            before = distribution.local(begun.begun).read_value()
            scalars["step"], carried = tf.cast(updates + 1 - before, dtype), begun.carried
        for name, value in self._values().items():
            if self._is_schedule(value):
                if name not in asked:
                    # Our schedules have more digits than Keras expects of one.
                    source = getattr(value, "precise", value) if dtype.size > 4 else value
                    value = late_rates.value_of(source, updates, name, self._title())
                scalars[name] = tf.cast(asked.get(name, value), dtype)
        for name, variable in carried.items():
            scalars[name] = tf.cast(distribution.local(variable).read_value(), dtype)
        scalars |= products.advanced(self, scalars)
        with purity.watched(self, "prepare"):
            seen = scalars | {"total_step": total}
            further = self.prepare(Scalars(self._static_scalars(), seen))
        return scalars | {name: tf.cast(value, dtype) for name, value in further.items()}

    def _check_change(self) -> None:
        """Refuses hyperparameters, one of which was just changed, that do not go together."""
        if hasattr(self, "_execution"):
            self._check_options()
            self._check_slots()
            accumulation.check_change(self)

    def _hyperparameter_changed(self, name: str) -> None:
        """Drops the traces that hold the old value and makes slots that it calls for."""
        if not hasattr(self, "_execution"):
            return
        if self._traced_in_graph:
            warnings.warn(
                f"{self._title()}: {name!r} was changed after the step had been traced into "
                "a function, which keeps the old value until it is made anew, e.g. by "
                "`model.compile`. Eager calls use the new value.",
                stacklevel=5,
            )
        if self.skip_nonfinite or self._guard is not None:
            self._guard_steps()
        self._make_executors()
        self._outside = tuple(n for n in self._outside if n != name)
        self._forget_steps()
        if self.built:
            self._make_step_slots()
        for entry in self._store.tracked:
            self._make_slots(entry)
        late.settle(self)
        if not self._traced_in_graph:  # else when a step is traced anew
            accumulation.recount(self)

    # Losses.

    @tf.autograph.experimental.do_not_convert
    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss with `loss_scale_factor`, if there is one.

        Args:
          loss: tensor, or a callable that returns one.

        Returns:
          The scaled loss, or a callable that returns it.
        """
        factor = self.loss_scale_factor
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
            loss, var_list, tape, self.scale_loss, self._unwrap, self._title()
        )

    @tf.autograph.experimental.do_not_convert
    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """Computes the gradients of a loss and applies them; see `compute_gradients`.

        Returns:
          The variable `iterations`.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape))

    # What it does with each variable.

    def explain(self, print_fn: Callable[[str], Any] = print) -> list[VariableReport]:
        """Prints what is kept for each variable, and what updates it, as a table.

        Args:
          print_fn: what the text is given to.

        Returns:
          reports: the same as objects, one for each variable.

        Raises:
          ValueError: the optimizer is not built.
        """
        if not self.built:
            raise ValueError(
                f"{self._title()} has no slots yet. Call `optimizer.build(variables)` before "
                "`explain`."
            )
        found = explain.reports(self)
        print_fn(explain.table(found, self._title()))
        return found

    # Averages.

    @tf.autograph.experimental.do_not_convert
    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Gives variables the value of their average, where `use_ema` is set.

        An average begins with the first update after it was made; before that, and where
        a variable has none, the variable stays as it is.
        """
        if not self.use_ema:
            return
        updates, steps = self._updates(), self._store.counted_by
        for variable in var_list:
            entry = self._store.find(self._unwrap(variable))
            if entry is None or entry.average is None:
                continue
            begun = (updates > 0) & tf.not_equal(updates, entry.averages_from // steps)

            def put(target: tf.Variable, average: tf.Variable, begun: tf.Tensor) -> None:
                now = target.read_value()
                target.assign(tf.where(begun, tf.cast(average, target.dtype), now))

            self._distribution_strategy.extended.update(
                entry.variable, put, args=(entry.average, begun)
            )
