"""The learning rate (number, schedule or callable) and the counter it goes by."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import distribution, guard, hyperparameters, late_rates
from tf_keras_optim.engine import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.contract import Contract


class Rates(Contract):
    """The part of an optimizer that knows the learning rate and counts."""

    _outside: tuple[str, ...]  # hyperparameters that steps of its own are given from outside
    _rate_supply: late_rates.RateSupply

    def _is_schedule(self, value: Any) -> bool:
        """Says whether a value is one of this Keras' learning-rate schedules."""
        raise NotImplementedError

    def _float_type(self) -> str:
        """Returns the dtype in which this Keras keeps numbers, e.g. "float32"."""
        raise NotImplementedError

    def _get_learning_rate(self) -> Any:
        store = self._store
        if store.rate is not None:
            return self._public[id(store.rate)]
        if store.rate_source is None:
            raise AttributeError(f"{type(self).__name__} has no learning rate yet.")
        return self._learning_rate_at(self._updates())

    def _set_learning_rate(self, value: Any) -> None:
        value = self._parameters["learning_rate"].check(value, type(self).__name__)
        store = self._store
        is_symbolic = tf.is_tensor(value)
        if is_symbolic and not self._rate_can_be_set():
            raise ValueError(
                f"{type(self).__name__}: argument `learning_rate` is a tensor of a graph that "
                f"is being traced, {value!r}. It can be assigned where the rate is a number or "
                "follows a schedule. Create the optimizer outside the function, with a number."
            )
        if not callable(value) and store.rate is not None:
            self._assign_learning_rate(value) if is_symbolic else store.rate.assign(value)
            return
        if not callable(value) and store.multiplier is not None:
            self._assign_learning_rate(value) if is_symbolic else self._scale_schedule(value)
            return
        self._replace_learning_rate(value)

    def _replace_learning_rate(self, value: Any) -> None:
        """Puts a number, schedule, callable or 0-d variable in the place of what was there."""
        store, is_variable = self._store, isinstance(value, tf.Variable)
        self._rate_supply.check_replacing()
        if callable(value) and not self._is_schedule(value):
            hyperparameters.check_callable_rate(value, type(self).__name__)
        if store.rate is not None:
            self._retire(store.rate, "_learning_rate")
        if store.multiplier is not None:
            self._retire(store.multiplier, "_learning_rate_multiplier")
        store.rate = store.multiplier = store.rate_source = None
        if is_variable:
            store.rate = value
            self._publish("_learning_rate", value)
        elif callable(value):
            store.rate_source = value
        else:
            store.rate = self._make_rate("learning_rate", value)
        if self._is_schedule(value):
            store.multiplier = self._make_rate("learning_rate_multiplier", 1.0)
        is_called = callable(value) and not self._is_schedule(value)
        self._forget_steps()
        self._outside = ("learning_rate",) if is_called else ()

    def _forget_steps(self) -> None:
        """Drops the steps that were traced; the next call traces anew."""
        self._steps.clear()
        self._lookups.clear()

    def _make_rate(self, name: str, value: float) -> tf.Variable:
        wide = self._float_type() == "float64"
        dtype = tf.float64 if wide else tf.float32
        variable = self._make(name, lambda: tf.constant(value, dtype), aggregated=True)
        self._publish(f"_{name}", variable)
        return variable

    def _scale_schedule(self, rate: float) -> None:
        """Sets the multiplier so that the rate of the next update is a given number."""
        with tf.init_scope():
            updates = self._updates()
            scheduled = self._scheduled_rate(updates)
            current = self._learning_rate_at(updates)
            if tf.cast(rate, current.dtype) == current:
                return  # the factor need not change, whatever the schedule is at this step
            scheduled = float(scheduled)
        if scheduled == 0.0:
            raise ValueError(
                f"{self._title()} follows {self._store.rate_source!r}, which is 0 at this "
                f"step: no factor on it gives the learning rate {rate}. Assign another "
                "schedule, or set `learning_rate_multiplier`."
            )
        self.learning_rate_multiplier = rate / scheduled

    @property
    def learning_rate_multiplier(self) -> Any:
        """Factor on the schedule that the learning rate follows: a variable, 1 at first.

        Setting `learning_rate` to a number while there is a schedule sets this factor,
        so that the number holds now and the schedule's shape holds from there on; so
        callbacks such as `ReduceLROnPlateau` work on top of a schedule. It is saved
        with the state.

        Raises:
          AttributeError: the learning rate follows no schedule.
        """
        if self._store.multiplier is None:
            raise AttributeError(
                f"{self._title()} follows no schedule, so there is no multiplier. Set "
                "`learning_rate`."
            )
        return self._public[id(self._store.multiplier)]

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: Any) -> None:
        if self._store.multiplier is None:
            raise ValueError(
                f"{self._title()} follows no schedule, so there is nothing to multiply. Set "
                "`learning_rate`."
            )
        number = hyperparameters.plain_number(value)
        checked = hyperparameters.Hyperparameter(1.0, minimum=0.0)
        checked.name = "learning_rate_multiplier"
        self._store.multiplier.assign(checked.check(number, type(self).__name__))

    def _rate_can_be_set(self) -> bool:
        """Whether a number can be set: the rate is one, or a factor is on a schedule."""
        return self._store.rate is not None or self._store.multiplier is not None

    def _assign_learning_rate(self, rate: tf.Tensor) -> None:
        """Sets the rate of the next update to a 0-d tensor, in a graph."""
        store = self._store
        valid = tf.math.is_finite(rate) & (rate >= 0.0)
        message = "`learning_rate` must be a finite number of at least 0. Received:"
        checks = [tf.debugging.Assert(valid, [message, rate])]
        target: Any = store.rate
        value = rate
        if target is None:
            target = store.multiplier
            updates = self._updates()
            scheduled = self._scheduled_rate(updates)
            rate = tf.cast(rate, scheduled.dtype)
            keeps = tf.equal(rate, self._learning_rate_at(updates))
            message = "The schedule is 0 at this step: no factor on it gives the learning rate"
            possible = keeps | (scheduled != 0.0)
            checks.append(tf.debugging.Assert(possible, [message, rate]))
            before = tf.cast(distribution.local(target).read_value(), rate.dtype)
            value = tf.where(keeps, before, tf.math.divide_no_nan(rate, scheduled))
        if not tf.distribute.in_cross_replica_context():
            target = distribution.local(target)
        with tf.control_dependencies(checks):
            target.assign(tf.cast(tf.identity(value), target.dtype))

    @property
    def current_learning_rate(self) -> Any:
        """The rate of the next update: a Python float; inside a function a 0-d tensor."""
        return hyperparameters.plain_number(self._learning_rate_at(self._updates()))

    @property
    def _learning_rate(self) -> Any:
        """The variable, the schedule or the callable; Keras' callbacks look for it."""
        store = self._store
        return store.rate_source if store.rate is None else self._public[id(store.rate)]

    @_learning_rate.setter
    def _learning_rate(self, value: Any) -> None:
        # In Keras an attribute: what is written there takes the place of what was.
        native = value if isinstance(value, tf.Variable) else getattr(value, "value", None)
        if not isinstance(native, tf.Variable):
            checked = self._parameters["learning_rate"].check(value, type(self).__name__)
            self._replace_learning_rate(checked)
            return
        native = distribution.container(native)
        if native.shape.rank != 0 or not native.dtype.is_floating:
            raise ValueError(
                f"{self._title()}: `_learning_rate` must be a number, a schedule, a callable "
                f"or a floating variable without dimensions. Received: {value!r}."
            )
        if native is not self._store.rate:
            self._replace_learning_rate(native)

    @property
    def lr(self) -> Any:
        """Alias of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def _scheduled_rate(self, updates: tf.Tensor) -> tf.Tensor:
        """Returns what the schedule gives after a number of updates, a 0-d tensor."""
        title = self._title()
        source = self._store.rate_source
        return late_rates.number(
            late_rates.value_of(source, updates, "learning_rate", title), title
        )

    def _learning_rate_at(self, updates: Any) -> tf.Tensor:
        """Returns the rate, a 0-d float32 or float64 tensor, after a number of updates."""
        store = self._store
        if store.rate is not None:
            return distribution.local(store.rate).read_value()
        if self._is_schedule(store.rate_source):
            rate = self._scheduled_rate(updates)
            factor = distribution.local(store.multiplier).read_value()
            return rate * tf.cast(factor, rate.dtype)
        return late_rates.number(store.rate_source(), self._title())

    def _asked(self) -> dict[str, tf.Tensor]:
        """Returns now, outside of functions, what steps of its own cannot compute.

        That is the value of a callable, and of a schedule that cannot be traced.
        """
        found = {}
        for name in self._outside:
            if name == "learning_rate":
                found[name] = self._learning_rate_at(self._updates())
            else:
                found[name] = tf.convert_to_tensor(getattr(self, name)(self._updates()))
        return found

    def _ask_from_now_on(self, name: str) -> None:
        """Has a hyperparameter computed outside of functions from the next call on."""
        self._outside = (*self._outside, name)

    def _rate_of_step(
        self, updates: tf.Tensor, asked: Mapping[str, tf.Tensor] | None
    ) -> tf.Tensor:
        """Returns the rate of a step, a 0-d tensor.

        Args:
          updates: number of updates so far.
          asked: what `_asked` returned, in a step of its own; `None` in other functions.
        """
        if asked is not None:
            given = asked.get("learning_rate")
            return self._learning_rate_at(updates) if given is None else given
        store, traced, failed = self._store, None, None
        is_called = store.rate is None and not self._is_schedule(store.rate_source)
        if is_called:
            value = store.rate_source()
            if not late_rates.is_of_this_moment(value):
                traced = late_rates.number(value, self._title())
        else:
            try:
                traced = self._learning_rate_at(updates)
            except late_rates.UntraceableError as error:
                failed = error
        late = late_rates.captured(self, self._rate_supply, traced is not None)
        if late is not None:
            return late_rates.chosen(late, updates, traced)
        if failed is not None:
            raise failed
        return self._learning_rate_at(updates) if traced is None else traced

    def _updates(self) -> tf.Tensor:
        """Returns the number of real updates so far, a 0-d int64 tensor."""
        count = distribution.local(self._store.iterations).read_value()
        steps = self._store.counted_by
        return count if steps == 1 else count // steps

    def _updates_by_now(self, calls: int | None = None) -> int:
        """Returns the number of real updates so far, or in so many calls, outside functions."""
        calls = self._calls() if calls is None else calls
        return calls // self._store.counted_by

    @property
    def iterations(self) -> Any:
        """Number of updates so far: a variable; under accumulation a tensor."""
        if self._store.counted_by > 1:
            return self._updates()
        return self._iterations

    @property
    def _iterations(self) -> Any:
        """The variable that counts calls, accumulated ones included."""
        return self._public[id(self._store.iterations)]

    def _guard_steps(self, policy: guard.ScalePolicy | None = None) -> None:
        """Starts to skip steps that are not finite, with or without a loss scale.

        A policy for an optimizer that has a loss scale already gives it another one.
        """

        def make(name: str, start: tf.Tensor) -> tf.Variable:
            variable = self._make(name, lambda: start, aggregated=True)
            self._publish(f"_{name}", variable)
            return variable

        if self._guard is None or policy is not None:
            self._hide_guard()
            made = guard.Guard(make, policy)
            tracking.keep_untracked(self, "_guard", made)
            self._store.guard = made.variables
        policy = self._guard.policy
        self._guard.active = self.skip_nonfinite or policy is not None
        limits = [policy.max_consecutive_skips] if policy is not None else []
        self._guard.limit = next(
            (limit for limit in limits if limit is not None), self.max_consecutive_skips
        )
        self._forget_steps()

    def _hide_guard(self) -> None:
        """Takes the counters and the scale that are in force out of the state."""
        for name, variable in self._store.guard.items():
            self._store.named.pop(f"_{name}")
            self._public.pop(id(variable))
            tracking.stop_tracking(self, f"_{name}")

    def _use_guard(self, chosen: guard.Guard) -> None:
        """Puts the counters and the scale of one of several wrappers in force."""
        if chosen is self._guard:
            return
        self._hide_guard()
        tracking.keep_untracked(self, "_guard", chosen)
        self._store.guard = chosen.variables
        for name, variable in chosen.variables.items():
            self._publish(f"_{name}", variable)
        self._forget_steps()

    def _public_form(self, variable: tf.Variable) -> Any:
        """Returns a state variable as this Keras sees it, also one that is not in force."""
        if id(variable) in self._public:
            return self._public[id(variable)]
        return self._wrap(variable, variable.name.split(":")[0])

    @property
    def skipped_steps(self) -> Any:
        """Number of steps that were left out: a variable.

        Raises:
          AttributeError: steps are not skipped (`skip_nonfinite` is off).
        """
        if self._guard is None:
            raise AttributeError(
                f"{self._title()} skips no steps. Create it with `skip_nonfinite=True`, or "
                "wrap it in `LossScaleOptimizer`."
            )
        return self._public[id(self._guard.skipped)]
