"""Making what is kept for one model variable: slots, average, accumulator, master copy."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import patterns
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import quantization
from tf_keras_optim.engine.options import calls_per_update, is_lazy
from tf_keras_optim.engine.state import lookahead, masters, starts, unused
from tf_keras_optim.engine.state.sharding import kept_bytes
from tf_keras_optim.engine.state.slot_dtypes import slot_dtypes
from tf_keras_optim.engine.state.slots import (
    STARTED,
    VALUE,
    Slot,
    check_starts,
    first_value,
    scalar_declarations,
)
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking
from tf_keras_optim.engine.update import products
from tf_keras_optim.engine.variable_hooks import info_of, slots_for


class SlotMaking:
    """Makes the state variables that belong to model variables.

    Args:
      owner: the optimizer, of which earlier checkpoints may know slots.
      context: what its parts share.
    """

    def __init__(self, owner: Any, context: Context):
        self._owner = owner
        self._context = context

    def declared(self, entry: VariableState) -> tuple[Slot, ...]:
        """Returns the slots of a variable: those of its algorithm, and slow weights.

        Raises:
          ValueError: one starts from what does not have its shape, or the algorithm needs
            digits of the variable that nothing keeps.
        """
        if entry.overwrite:
            return ()
        context = self._context.of(entry)
        masters.check(self._context, context.algorithm, entry)
        decays = bool(context.values.weight_decay) and entry.decays
        title = self._context.title
        own = slots_for(context.algorithm, info_of(entry, decays))
        declared = lookahead.with_slow(self._context.options, own, title)
        check_starts(declared, tuple(entry.variable.shape), title, entry.path)
        return declared

    def dtypes(self, entry: VariableState, declared: Sequence[Slot]) -> Mapping[str, tf.DType]:
        """Returns the dtypes of a variable's slots; see `slot_dtypes` for what is refused."""
        options = self._context.options
        wanted = patterns.by_pattern(options.slot_dtype, entry.path)
        lazy = is_lazy(options, entry.path)
        return slot_dtypes(entry, declared, wanted, lazy, self._context.title)

    def size_of(self, entry: VariableState) -> int:
        """Returns the bytes that are to be kept for a variable; refuses what `declared` does.

        Raises:
          ValueError: as for `declared` and `dtypes`.
        """
        options, declared = self._context.options, self.declared(entry)
        others = [options.use_ema, calls_per_update(options) > 1]
        others.append(masters.are_wanted(self._context, entry))
        return kept_bytes(entry, declared, self.dtypes(entry, declared), sum(others))

    def make(self, entry: VariableState) -> None:
        """Makes what is to be kept for a variable, and puts away what is not."""
        native, shape = entry.variable, entry.variable.shape
        options, counter = self._context.options, self._context.counter
        averages = options.use_ema and not entry.overwrite
        accumulates = calls_per_update(options) > 1
        declared = self.declared(entry)
        names = [slot.name for slot in declared]
        unused.put_away(entry, names, average=averages, accumulator=accumulates)
        if averages and entry.average is None and self._context.keras.averages_from_zero:
            entry.average = self._make_for(
                entry, "average", lambda: tf.zeros(shape, entry.dtype)
            )
            entry.averages_from = counter.calls()
        elif averages and entry.average is None:
            entry.average = self._make_for(
                entry,
                "average",
                lambda: tf.cast(native.read_value(), entry.dtype),
                reads=True,
                again=counter.calls() > 0,  # weights may be loaded before the next step
            )
            entry.averages_from = counter.calls()
        if accumulates and entry.accumulator is None:
            entry.accumulator = self._make_for(
                entry, "gradient_accumulator", lambda: tf.zeros(shape, entry.dtype)
            )
        if entry.overwrite:
            return
        dtypes = self.dtypes(entry, declared)
        entry.is_fresh |= bool(declared) and not entry.slots
        for slot in declared:
            if slot.name not in entry.slots:
                self._make_slot(entry, slot, dtypes[slot.name])
        entry.declared = declared
        self._make_master(entry)

    def make_step_slots(self) -> None:
        """Makes the numbers that the algorithm carries from step to step."""
        firsts = {entry.group: entry for entry in reversed(self._context.store.tracked)}
        self._make_step_slots(self._context, "")
        for group in sorted(firsts.keys() - {""}):
            self._make_step_slots(self._context.of(firsts[group]), group)

    def _make_step_slots(self, context: Context, group: str) -> None:
        further = products.slots(context)
        for slot in scalar_declarations((*context.algorithm.step_slots, *further)):
            self._make_step_slot(slot, group)

    def await_start(
        self,
        variable: tf.Variable,
        beside: tf.Variable,
        start: Callable[[], tf.Tensor],
        *,
        required: bool,
        is_empty: bool = True,
    ) -> None:
        """Lets a state variable take its first value when the next step is prepared.

        Args:
          variable: the state variable.
          beside: the model variable that it belongs to.
          start: gives its first value.
          required: whether no step can be taken before.
          is_empty: whether it was made with zeros.
        """
        store, calls = self._context.store, self._context.counter.calls()
        store.starts[id(variable)] = start
        store.awaited.add(variable, beside, start, calls, required, is_empty)

    def _make_slot(self, entry: VariableState, slot: Slot, dtype: tf.DType) -> None:
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

    def _make_master(self, entry: VariableState) -> None:
        """Makes the master copy of a narrow variable; notes what is rounded stochastically."""
        narrow = entry.variable.dtype.size < entry.dtype.size
        if masters.are_wanted(self._context, entry) and entry.master is None:
            masters.check_other(self._context, entry)
            entry.master = masters.make(self._make_for, entry)
        slots_round = any(slot.dtype.size < 4 for slot in entry.slots.values())
        entry.rounds = slots_round or (narrow and self._context.options.stochastic_rounding)

    def _make_step_slot(self, slot: Slot, group: str) -> None:
        """Makes a number that is carried from step to step; float64 where any step is."""
        store = self._context.store
        carried = store.group_step_slots.setdefault(group, {}) if group else store.step_slots
        if slot.name not in carried:
            wide = any(entry.dtype == tf.float64 for entry in store.tracked)
            dtype = tf.float64 if wide else tf.float32
            variable = self._context.variables.made(
                slot.name,
                lambda: tf.constant(slot.first, dtype),
                f"{group}/{slot.name}" if group else slot.name,
            )
            carried[slot.name] = variable

    def _make_for(
        self,
        entry: VariableState,
        name: str,
        start: Callable[[], tf.Tensor],
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
        variables, variable = self._context.variables, known
        if variable is None:
            variable = variables.make(flat, first, beside=entry.variable, kind=name)
        self._context.store.starts[id(variable)] = start
        if waits or again:
            self.await_start(variable, entry.variable, start, required=False, is_empty=waits)
        if tensorflow_private_tracking.waiting(self._owner).get(f"{entry.path}/{name}"):
            entry.is_fresh = False  # an earlier version's checkpoint has its value
        variables.publish(f"{entry.path}/{name}", variable, flat, is_slot=True)
        return variable
