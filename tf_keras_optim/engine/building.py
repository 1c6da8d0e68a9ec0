"""Making an optimizer's variables: the engine's slots and those a subclass asks for."""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import (
    accumulation,
    distribution,
    late,
    masters,
    patterns,
    products,
    quantization,
    starts,
    tensorflow_private_tracking,
    unused,
)
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.engine.recent import Recent
from tf_keras_optim.engine.slot_dtypes import check_eight_bit, slot_dtypes
from tf_keras_optim.engine.slots import (
    STARTED,
    VALUE,
    Slot,
    check_starts,
    first_value,
    scalar_declarations,
)
from tf_keras_optim.engine.state import State
from tf_keras_optim.engine.store import (
    Store,
    Tracked,
    can_learn,
    compute_dtype,
    listed,
    path_of,
)
from tf_keras_optim.engine.tensorflow_private import has_variable_creators, rename
from tf_keras_optim.engine.tracking import Tracking
from tf_keras_optim.engine.variable_hooks import VariableInfo, of_shape, slots_for
from tf_keras_optim.engine.views import Views


class Building(CommonOptions, Views, State, Tracking):
    """The part of an optimizer that makes variables."""

    name: str
    _parameters: ClassVar[dict[str, Hyperparameter]]
    _store: Store
    _exclusions: patterns.DecayExclusions
    _public: dict[int, Any]
    _steps: Recent
    _lookups: Recent
    _is_built: bool
    _distribution_strategy: tf.distribute.Strategy

    # What a face overrides.

    def _unwrap(self, variable: Any) -> tf.Variable:
        """Returns the TensorFlow variable behind what this Keras hands out."""
        raise NotImplementedError

    def _wrap(self, variable: tf.Variable, name: str) -> Any:
        """Returns a state variable as this Keras wants to see it."""
        raise NotImplementedError

    def _initial_value(self, initializer: Any, shape: Any, dtype: tf.DType) -> tf.Tensor:
        """Returns the tensor that a Keras initializer gives."""
        raise NotImplementedError

    @property
    def built(self) -> bool:
        """Whether the optimizer has its slots."""
        return self._is_built

    @built.setter
    def built(self, value: bool) -> None:
        self._is_built = bool(value)

    @tf.autograph.experimental.do_not_convert
    def build(self, variables: Iterable[Any]) -> None:
        """Makes the slots of variables that have none yet.

        May be called again with more variables (after unfreezing layers): what
        exists stays as it is, what is new starts fresh.

        Args:
          variables: the trainable variables, in model order. One of no floating-point
            dtype (a layer's counter) is passed over: no gradient can belong to it.

        Raises:
          TypeError: `variables` is no list of variables.
          ValueError: a variable has no static shape, or belongs to another distribution
            strategy; or a pattern in an argument matches no variable.
        """
        variables = listed(variables, self._title())
        distribution.check_scope(self._distribution_strategy, self.name)
        self._check_patterns(variables)
        fresh: dict[int, Tracked] = {}
        for variable in variables:
            native = distribution.container(self._unwrap(variable))
            is_new = self._store.find(native) is None and id(native) not in fresh
            if is_new and can_learn(native):
                fresh[id(native)] = self._new_entry(variable, native)
        natives = [self._unwrap(variable) for variable in variables]
        self._store.prepare(list(fresh.values()), natives)
        for entry in fresh.values():
            self._slot_dtypes(entry, self._declared(entry))
        self._store.new_build()
        self._store.add(fresh.values())
        self._store.arrange(variables, natives)
        self._make_step_slots()
        for entry in self._store.tracked:
            self._make_slots(entry)
        self._is_built = True
        self._steps.clear()
        self._lookups.clear()
        self._load_waiting(force=type(self).build is Building.build)
        late.settle(self)

    def _new_entry(self, variable: Any, native: tf.Variable) -> Tracked:
        path = path_of(variable)
        dtype = compute_dtype(native, path)
        if not native.shape.is_fully_defined():
            raise ValueError(
                f"Variable {path!r} has the shape {native.shape}, which is not fully "
                "defined. Slots need a static shape: create the variable with one."
            )
        distribution.check_variable_scope(self._distribution_strategy, native, path, self.name)
        overwrite = bool(getattr(variable, "overwrite_with_gradient", False))
        decays = not self._exclusions.excludes(native, path)
        return Tracked(variable, native, path, dtype, decays, overwrite)

    def _check_patterns(self, variables: Iterable[Any] = ()) -> None:
        """Refuses patterns of paths that match none of the variables, known and new.

        Raises:
          ValueError: a pattern matches none; the nearest path is named.
        """
        known = {id(entry.variable): entry.public for entry in self._store.tracked}
        for variable in variables:
            native = distribution.container(self._unwrap(variable))
            if can_learn(native):
                known.setdefault(id(native), variable)
        paths = [path_of(variable) for variable in known.values()]
        for name, parameter in self._parameters.items():
            given = parameter.patterns(getattr(self, name)) if name != "learning_rate" else ()
            patterns.check_matches(self._title(), name, given, paths)
        self._exclusions.check(self._title(), paths)

    def _check_slots(self) -> None:
        """Refuses options that the slots, which exist already, do not agree with.

        Raises:
          ValueError: a slot or master copy is of another kind, or a pattern matches nothing.
        """
        self._check_patterns()
        for entry in self._store.tracked:
            self._slot_dtypes(entry, self._declared(entry))
            if entry.master is not None and not masters.are_wanted(self, entry):
                raise ValueError(
                    f"{self._title()}: variable {entry.path!r} has a master copy already. "
                    "Create a new optimizer for one without."
                )

    def _info(self, entry: Tracked, decays: bool) -> VariableInfo:
        """Returns what the algorithm may know of a variable."""
        shape, dtype = tuple(entry.variable.shape), entry.variable.dtype.name
        return VariableInfo(entry.path, shape, dtype, decays, entry.place, entry.is_last_kernel)

    def _declared(self, entry: Tracked) -> tuple[Slot, ...]:
        """Returns the slots that the algorithm declares for a variable.

        Raises:
          ValueError: one starts from what does not have its shape.
        """
        if entry.overwrite:
            return ()
        decays = bool(self.weight_decay) and entry.decays
        declared = slots_for(self, self._info(entry, decays))
        check_starts(declared, tuple(entry.variable.shape), self._title(), entry.path)
        return declared

    def _slot_dtypes(self, entry: Tracked, declared: Sequence[Slot]) -> Mapping[str, tf.DType]:
        wanted = patterns.by_pattern(self.slot_dtype, entry.path)
        return slot_dtypes(entry, declared, wanted, self._is_lazy(entry), self._title())

    def _make_slots(self, entry: Tracked) -> None:
        native, shape = entry.variable, entry.variable.shape
        averages = self.use_ema and not entry.overwrite
        accumulates = accumulation.wanted(self) > 1
        declared = self._declared(entry)
        names = [slot.name for slot in declared]
        unused.put_away(entry, names, average=averages, accumulator=accumulates)
        if averages and entry.average is None:
            entry.average = self._make_for(
                entry,
                "average",
                lambda: tf.cast(native.read_value(), entry.dtype),
                reads=True,
                again=self._calls() > 0,  # weights may be loaded before the next step
            )
            entry.averages_from = self._calls()
        if accumulates and entry.accumulator is None:
            entry.accumulator = self._make_for(
                entry, "gradient_accumulator", lambda: tf.zeros(shape, entry.dtype)
            )
        if entry.overwrite:
            return
        dtypes = self._slot_dtypes(entry, declared)
        entry.is_fresh |= bool(declared) and not entry.slots
        for slot in declared:
            if slot.name not in entry.slots:
                self._make_slot(entry, slot, dtypes[slot.name])
        entry.declared = declared
        self._make_master(entry)

    def _check_eight_bit(self) -> None:
        declared = slots_for(self, of_shape(quantization.SMALLEST_SQUARE))
        check_eight_bit(declared, type(self).__name__, self.slot_dtype)

    def _make_slot(self, entry: Tracked, slot: Slot, dtype: tf.DType) -> None:
        """Makes a slot, and what stands beside it.

        That is the scales of its blocks, if it is kept in 8 bits, and whether it has
        started, if it starts from the variable's value.
        """
        shape = slot.shape_for(tuple(entry.variable.shape))
        entry.slots[slot.name] = self._make_for(
            entry, slot.name, first_value(slot, shape, dtype)
        )
        if dtype.is_integer:
            blocks = quantization.number_of_blocks(math.prod(shape))
            entry.scales[slot.name] = self._make_for(
                entry, f"{slot.name}_scale", lambda: tf.zeros([blocks], tf.float32)
            )
        if slot.first == VALUE:
            entry.started[slot.name] = self._make_for(
                entry, slot.name + STARTED, lambda: tf.zeros([], tf.int64)
            )

    def _make_master(self, entry: Tracked) -> None:
        """Makes the master copy of a narrow variable, and says what is rounded by chance."""
        native = entry.variable
        narrow = native.dtype.size < entry.dtype.size
        if masters.are_wanted(self, entry) and entry.master is None:
            entry.master = masters.make(self, entry)
        slots_round = any(slot.dtype.size < 4 for slot in entry.slots.values())
        entry.rounds = slots_round or (narrow and self.stochastic_rounding)

    def _make_step_slots(self) -> None:
        for slot in scalar_declarations((*self.step_slots, *products.slots(self))):
            self._make_step_slot(slot)

    def _make_step_slot(self, slot: Slot) -> None:
        """Makes a number that is carried from step to step; float64 where any step is."""
        if slot.name not in self._store.step_slots:
            wide = any(entry.dtype == tf.float64 for entry in self._store.tracked)
            dtype = tf.float64 if wide else tf.float32
            variable = self._make(
                slot.name, lambda: tf.constant(slot.first, dtype), aggregated=True
            )
            self._store.step_slots[slot.name] = variable
            self._publish(slot.name, variable)

    def _make_for(
        self,
        entry: Tracked,
        name: str,
        start: Callable,
        reads: bool = False,
        again: bool = False,
        known: tf.Variable | None = None,
    ) -> tf.Variable:
        """Makes and publishes a state variable that belongs to a model variable.

        Args:
          entry: the model variable.
          name: what the quantity is called.
          start: gives its first value.
          reads: whether that is the model variable's value.
          again: whether it is taken again when the next step is prepared.
          known: the variable itself, where another optimizer has made it.
        """
        flat = f"{entry.path.replace('/', '_')}_{name}"
        waits = reads and not starts.has_value(entry.variable)
        shape = entry.variable.shape
        first = (lambda: tf.zeros(shape, entry.dtype)) if waits else start
        variable = known
        if variable is None:
            variable = self._make(flat, first, beside=entry.variable, kind=name)
        self._store.starts[id(variable)] = start
        if waits or again:
            self._await(variable, entry.variable, start, required=False, is_empty=waits)
        if tensorflow_private_tracking.waiting(self).get(f"{entry.path}/{name}"):
            entry.is_fresh = False  # an earlier version's checkpoint has its value
        self._publish(f"{entry.path}/{name}", variable, flat, is_slot=True)
        return variable

    def _make(
        self,
        name: str,
        start: Callable[[], tf.Tensor],
        beside: tf.Variable | None = None,
        aggregated: bool = False,
        kind: str | None = None,
    ) -> tf.Variable:
        """Makes a native variable in the optimizer's strategy, beside another one.

        Args:
          name: its name.
          start: gives its first value.
          beside: the variable whose devices it is to have.
          aggregated: whether replicas write the same value, of which one counts.
          kind: a name that many variables share.
        """
        strategy = self._distribution_strategy
        modes = tf.VariableAggregation
        with contextlib.ExitStack() as scopes:
            scopes.enter_context(tf.init_scope())
            if (
                not tf.distribute.has_strategy()
                and strategy is not tf.distribute.get_strategy()
            ):
                scopes.enter_context(strategy.scope())
            if beside is not None:
                scopes.enter_context(strategy.extended.colocate_vars_with(beside))
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

    def _await(
        self,
        variable: tf.Variable,
        beside: tf.Variable,
        start: Callable,
        *,
        required: bool,
        is_empty: bool = True,
    ) -> None:
        """Lets a state variable take its first value when the next step is prepared."""
        self._store.starts[id(variable)] = start
        self._store.awaited.add(variable, beside, start, self._calls(), required, is_empty)

    def _calls(self) -> int:
        """Returns the number of steps so far, read outside functions."""
        with tf.init_scope():
            counter = distribution.local(self._store.iterations)
            return int(counter.numpy()) if tf.executing_eagerly() else 0

    def _entry(self, variable: Any) -> Tracked:
        native = self._unwrap(variable)
        entry = self._store.find(native)
        if entry is None:
            compute_dtype(native, path_of(variable))
            raise ValueError(
                f"{self._title()} does not know the variable {path_of(variable)!r} (shape "
                f"{variable.shape}). Call `optimizer.build(variables)` with it and all the "
                "others first; the state of those already known is kept."
            )
        return entry
