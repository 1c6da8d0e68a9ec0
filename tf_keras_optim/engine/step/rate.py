"""The learning rate of an optimizer: a number, a schedule or a callable."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import group_checks, hyperparameters
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.grouping import Group
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import late_rates
from tf_keras_optim.engine.tensorflow import distribution

NAME = "learning_rate"
_STAND_IN = "_learning_rate_stand_in"  # what a number is called that takes a schedule's place
FACTOR = "learning_rate_multiplier"


class Rate:
    """The learning rate, and what steps that are traced are given from outside.

    Args:
      context: what the parts of the optimizer share.
      parameter: the declaration of the learning rate, which checks values.
      hyperparameter: returns the value of another one by its name.

    Attributes:
      outside: the hyperparameters that steps cannot compute.
      base: the number that the rate was made with, `None` where it was none. Groups with a
        rate of their own go by what the rate is multiplied by since.
    """

    def __init__(
        self,
        context: Context,
        parameter: hyperparameters.Hyperparameter,
        hyperparameter: Callable[[str], Any],
    ):
        self._context = context
        self._store = context.store
        self._parameter = parameter
        self._hyperparameter = hyperparameter
        self._supply = late_rates.RateSupply(context, self.at)
        self.outside: tuple[str, ...] = ()
        self.base: float | None = None
        self._whole = ""

    # What the rate is.

    def get(self) -> Any:
        """Returns the variable with the rate; a schedule's or callable's as a tensor.

        Raises:
          AttributeError: there is none yet.
        """
        if self._store.rate is not None:
            return self._context.variables.public[id(self._store.rate)]
        if self._store.rate_source is None:
            raise AttributeError(f"{self._context.class_name} has no learning rate yet.")
        now = self.at(self._context.counter.updates())
        return self._context.keras.shown_rate(now, self.set)

    def set(self, value: Any) -> None:
        """Sets the rate.

        A number is assigned where the rate is one, and sets the factor where it follows a
        schedule; what else is given takes the place of what was.

        Args:
          value: a number, schedule, callable without arguments, or 0-d tensor.

        Raises:
          ValueError: it is none of these, or cannot be assigned.
        """
        self._check_free()
        value = self._parameter.check(value, self._context.class_name)
        is_symbolic = tf.is_tensor(value)
        if is_symbolic and not self.can_be_set():
            raise ValueError(
                f"{self._context.class_name}: argument `learning_rate` is a tensor of a graph "
                f"that is being traced, {value!r}. It can be assigned where the rate is a "
                "number or follows a schedule. Create the optimizer outside the function, with "
                "a number."
            )
        if callable(value) or not self.can_be_set():
            self._replace(value)
        elif is_symbolic:
            self.assign(value)
        elif self._store.rate is not None:
            self._store.rate.assign(value)
        else:
            self._scale_schedule(value)

    @property
    def source(self) -> Any:
        """The variable, the schedule or the callable that the rate comes from."""
        store = self._store
        if store.rate is None:
            return store.rate_source
        return self._context.variables.public[id(store.rate)]

    @source.setter
    def source(self, value: Any) -> None:
        self._check_free()
        native = value if isinstance(value, tf.Variable) else getattr(value, "value", None)
        if not isinstance(native, tf.Variable):
            self._replace(self._parameter.check(value, self._context.class_name))
            return
        native = distribution.container(native)
        if native.shape.rank != 0 or not native.dtype.is_floating:
            raise ValueError(
                f"{self._context.title}: `_learning_rate` must be a number, a schedule, a "
                "callable or a floating variable without dimensions. Received: "
                f"{value!r}."
            )
        if native is not self._store.rate:
            self._replace(native)

    def _replace(self, value: Any) -> None:
        """Puts a number, schedule, callable or 0-d variable in the place of what was there."""
        store, variables = self._store, self._context.variables
        is_schedule = self._context.keras.is_schedule(value)
        self._supply.check_replacing()
        if isinstance(value, float):
            self._context.grouping.check_base(value)
        if callable(value) and not is_schedule:
            hyperparameters.check_callable_rate(value, self._context.class_name)
        if store.rate is not None:
            variables.retire(store.rate, f"_{NAME}")
        if store.multiplier is not None:
            variables.retire(store.multiplier, f"_{FACTOR}")
        store.rate = store.multiplier = store.rate_source = None
        self.base = None
        if isinstance(value, tf.Variable):
            store.rate = value
            variables.publish(f"_{NAME}", value)
            self.base = self._number()
        elif callable(value):
            store.rate_source = value
        else:
            store.rate = self._make(NAME, value)
            self.base = float(store.rate.dtype.as_numpy_dtype(value))
        if is_schedule:
            store.multiplier = self._make(FACTOR, 1.0)
        self._context.traces.forget()
        self.outside = (NAME,) if callable(value) and not is_schedule else ()

    @contextlib.contextmanager
    def stand_in(self, traced_anew: bool = False) -> Iterator[None]:
        """Lets any number be set meanwhile; then the rate is what it was.

        A number takes the place of a schedule or callable. Groups with rates of their own keep
        their ratio to the rate at the beginning.

        Args:
          traced_anew: whether the functions that take steps meanwhile are traced then, and
            are not called afterwards.

        Raises:
          ValueError: this is the rate of a group; or groups have rates of their own beside a
            schedule or callable that is 0, or whose steps may have been traced.
        """
        self._check_free()
        store = self._store
        if store.rate is not None:
            number = distribution.local(store.rate).numpy()
            try:
                yield
            finally:
                store.rate.assign(number)
            return
        self._supply.check_replacing()
        kept = (store.multiplier, store.rate_source, self.base, self.outside)
        rate = float(self.at(self._context.counter.updates()))
        factor = 1.0 if store.multiplier is None else float(store.multiplier.numpy())
        base = rate / factor if factor else 0.0
        if self._context.grouping.has_own_rates():
            owner, source = self._context.class_name, store.rate_source
            group_checks.check_number(owner, source, base, traced_anew)
        store.multiplier = store.rate_source = None
        store.rate = self._make(NAME, rate, _STAND_IN)
        self.base, self.outside = base, ()
        self._context.traces.forget()
        try:
            yield
        finally:
            self._context.variables.retire(store.rate, _STAND_IN)
            store.rate = None
            store.multiplier, store.rate_source, self.base, self.outside = kept
            self._context.traces.forget()

    def _make(self, name: str, value: float, as_name: str = "") -> tf.Variable:
        wide = self._context.keras.float_type() == "float64"
        dtype = tf.float64 if wide else tf.float32
        as_name = as_name or f"_{name}"
        return self._context.variables.made(name, lambda: tf.constant(value, dtype), as_name)

    # A factor on a schedule.

    @property
    def factor(self) -> Any:
        """The variable that the schedule is multiplied by.

        Raises:
          AttributeError: the learning rate follows no schedule.
        """
        if self._store.multiplier is None:
            raise AttributeError(
                f"{self._context.title} follows no schedule, so there is no multiplier. Set "
                "`learning_rate`."
            )
        return self._context.variables.public[id(self._store.multiplier)]

    @factor.setter
    def factor(self, value: Any) -> None:
        if self._store.multiplier is None:
            raise ValueError(
                f"{self._context.title} follows no schedule, so there is nothing to multiply. "
                "Set `learning_rate`."
            )
        self._check_free()
        checked = hyperparameters.Hyperparameter(1.0, minimum=0.0)
        checked.name = FACTOR
        number = checked.check(hyperparameters.plain_number(value), self._context.class_name)
        self._store.multiplier.assign(number)

    def _scale_schedule(self, rate: float) -> None:
        """Sets the factor so that the rate of the next update is a given number."""
        with tf.init_scope():
            updates = self._context.counter.updates()
            scheduled = self._scheduled(updates)
            current = self.at(updates)
            if tf.cast(rate, current.dtype) == current:
                return  # the factor need not change, whatever the schedule is at this step
            scheduled = float(scheduled)
        if scheduled == 0.0:
            raise ValueError(
                f"{self._context.title} follows {self._store.rate_source!r}, which is 0 at "
                f"this step: no factor on it gives the learning rate {rate}. Assign another "
                "schedule, or set `learning_rate_multiplier`."
            )
        self.factor = rate / scheduled

    # In a graph.

    def can_be_set(self) -> bool:
        """Whether a number can be set: the rate is one, or a factor is on a schedule."""
        return self._store.rate is not None or self._store.multiplier is not None

    def assign(self, rate: tf.Tensor) -> None:
        """Sets the rate of the next update to a 0-d tensor, in a graph."""
        store = self._store
        valid = tf.math.is_finite(rate) & (rate >= 0.0)
        message = "`learning_rate` must be a finite number of at least 0. Received:"
        checks = [tf.debugging.Assert(valid, [message, rate])]
        target: Any = store.rate
        value = rate
        if target is None:
            target = store.multiplier
            updates = self._context.counter.updates()
            scheduled = self._scheduled(updates)
            rate = tf.cast(rate, scheduled.dtype)
            keeps = tf.equal(rate, self.at(updates))
            message = "The schedule is 0 at this step: no factor on it gives the learning rate"
            possible = keeps | (scheduled != 0.0)
            checks.append(tf.debugging.Assert(possible, [message, rate]))
            before = tf.cast(distribution.local(target).read_value(), rate.dtype)
            value = tf.where(keeps, before, tf.math.divide_no_nan(rate, scheduled))
        if not tf.distribute.in_cross_replica_context():
            target = distribution.local(target)
        with tf.control_dependencies(checks):
            target.assign(tf.cast(tf.identity(value), target.dtype))

    def _scheduled(self, updates: tf.Tensor) -> tf.Tensor:
        """Returns what the schedule gives after a number of updates, a 0-d tensor."""
        title, source = self._context.title, self._store.rate_source
        return late_rates.number(late_rates.value_of(source, updates, NAME, title), title)

    def at(self, updates: Any) -> tf.Tensor:
        """Returns the rate, a 0-d float32 or float64 tensor, after a number of updates."""
        store = self._store
        if store.rate is not None:
            return distribution.local(store.rate).read_value()
        if self._context.keras.is_schedule(store.rate_source):
            rate = self._scheduled(updates)
            factor = distribution.local(store.multiplier).read_value()
            return rate * tf.cast(factor, rate.dtype)
        return late_rates.number(store.rate_source(), self._context.title)

    # Groups.

    def join(self, title: str) -> None:
        """Refuses other rates from now on, as another optimizer goes by this one."""
        self._whole = title

    def _check_free(self) -> None:
        """Refuses another rate where this one is that of a group.

        Raises:
          ValueError: it is.
        """
        if self._whole:
            raise ValueError(
                f"{self._context.title} updates a group of variables of {self._whole}, so its "
                "learning rate cannot be set alone. Set the learning rate of that optimizer, "
                "which multiplies the rates of all groups, or assign its `groups` again."
            )

    def of_group(self, group: Group, rate: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
        """Returns the rate of a group at a step, a 0-d tensor, without its multiplier.

        Args:
          group: the group.
          rate: the rate of the optimizer itself at this step.
          updates: number of updates so far.

        Raises:
          TypeError: it follows a schedule that cannot be traced.
        """
        if not group.has_rate:
            return rate
        try:
            own = group.algorithm.tko.rate.at(updates)
        except late_rates.UntraceableError as error:
            raise TypeError(f"{self._context.title}: group {group.label!r}: {error}") from error
        if self._store.multiplier is not None:
            factor = distribution.local(self._store.multiplier).read_value()
            return own * tf.cast(factor, own.dtype)
        if self.base is None:
            return own
        return own * tf.cast(rate / tf.cast(self.base, rate.dtype), own.dtype)

    def of(self, entry: VariableState, updates: tf.Tensor) -> tf.Tensor:
        """Returns the rate of a variable after a number of updates, with its group's factor."""
        group = self._context.grouping.of(entry.group)
        rate = self.of_group(group, self.at(updates), updates)
        return rate if entry.multiplier == 1.0 else rate * entry.multiplier

    def _number(self) -> float | None:
        """Returns the rate's value outside functions; `None` where it cannot be read."""
        with tf.init_scope():
            rate: Any = self._store.rate
            return float(rate.numpy()) if tf.executing_eagerly() else None

    # What steps are given.

    def asked(self) -> dict[str, tf.Tensor]:
        """Returns now, outside of functions, what steps of its own cannot compute.

        That is the value of a callable, and of a schedule that cannot be traced.
        """
        found = {}
        for name in self.outside:
            updates = self._context.counter.updates()
            if name == NAME:
                found[name] = self.at(updates)
            else:
                found[name] = tf.convert_to_tensor(self._hyperparameter(name)(updates))
        return found

    def ask_from_now_on(self, name: str) -> None:
        """Has a hyperparameter computed outside of functions from the next call on."""
        self.outside = (*self.outside, name)

    def was_changed(self, name: str) -> None:
        """Takes note that another hyperparameter has another value; steps may compute it."""
        self.outside = tuple(known for known in self.outside if known != name)

    def of_step(self, updates: tf.Tensor, asked: Mapping[str, tf.Tensor] | None) -> tf.Tensor:
        """Returns the rate of a step, a 0-d tensor.

        Args:
          updates: number of updates so far.
          asked: what `asked` returned, in a step of its own; `None` in other functions.
        """
        if asked is not None:
            given = asked.get(NAME)
            return self.at(updates) if given is None else given
        store, traced, failed = self._store, None, None
        if store.rate is None and not self._context.keras.is_schedule(store.rate_source):
            value = store.rate_source()
            if not late_rates.is_of_this_moment(value):
                traced = late_rates.number(value, self._context.title)
        else:
            try:
                traced = self.at(updates)
            except late_rates.UntraceableError as error:
                failed = error
        late = self._supply.captured(traced is not None)
        if late is not None:
            return late_rates.chosen(late, updates, traced)
        if failed is not None:
            raise failed
        return self.at(updates) if traced is None else traced
