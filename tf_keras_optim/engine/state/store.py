"""The variables an optimizer keeps, and the model variables it keeps them for."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.paths import unique_paths
from tf_keras_optim.engine.state.slots import STARTED, Slot
from tf_keras_optim.engine.state.starts import Starts
from tf_keras_optim.engine.tensorflow import distribution

BEGUN = "begun_at_update"  # beside the slots, where those of some variable came late
_COMPUTE_DTYPES = {
    tf.float16: tf.float32,
    tf.bfloat16: tf.float32,
    tf.float32: tf.float32,
    tf.float64: tf.float64,
}


def listed(variables: Any, title: str) -> list[Any]:
    """Returns the variables that were given to `build` as a list.

    Raises:
      TypeError: a model, one variable or something else was given.
    """
    is_model = hasattr(variables, "trainable_variables")
    is_variable = not is_model and (
        isinstance(variables, tf.Variable) or hasattr(variables, "path")
    )
    if is_model or is_variable or not isinstance(variables, Iterable):
        remedy = "`[variable]`" if is_variable else "`model.trainable_variables`"
        raise TypeError(
            f"{title}: `build` takes a list of variables. Received: {variables!r} (of type "
            f"{type(variables).__name__}). Give {remedy}."
        )
    return list(variables)


def can_learn(variable: tf.Variable) -> bool:
    """Says whether a variable's dtype is one that an optimizer can update."""
    return variable.dtype in _COMPUTE_DTYPES


def compute_dtype(variable: tf.Variable, path: str) -> tf.DType:
    """Returns the dtype of a variable's slots and arithmetic.

    float32 for float16, bfloat16 and float32; float64 for float64.

    Raises:
      ValueError: the variable is not a real floating-point one.
    """
    dtype = _COMPUTE_DTYPES.get(variable.dtype)
    if dtype is None:
        raise ValueError(
            f"Variable {path!r} has dtype {variable.dtype.name}, which no optimizer can "
            "update. Expected float16, bfloat16, float32 or float64. Give it no gradient."
        )
    return dtype


@dataclasses.dataclass(eq=False)
class VariableState:
    """A model variable together with everything that is kept for it.

    Attributes:
      public: the variable as it was given (a `keras.Variable` or `tf.Variable`).
      variable: the TensorFlow variable behind it.
      path: its name in messages and in the state.
      dtype: dtype of slots and arithmetic.
      decays: whether weight decay applies.
      overwrite: whether its "gradient" is its new value (float8 scales).
      place: its place among all entries, in model order.
      is_last_kernel: whether it was the last one with two or more dimensions when it came.
      group: the patterns of the group that it belongs to; empty where the optimizer's own
        algorithm updates it, with its own hyperparameters.
      multiplier: the factor on its learning rate that its group has.
      declared: the slots that the algorithm keeps for it.
      slots: state variables by slot name.
      scales: scales of the blocks of those slots that are kept in 8 bits, by slot name.
      started: by the name of each slot that starts from the variable's value, 1 where it has
        done so, else 0.
      average: moving average of its values, or `None`.
      averages_from: the number of steps before the average was made.
      accumulator: sum of gradients since the last update, or `None`.
      master: the weight with all its digits, where the variable is narrow, or `None`.
      training: the trained weight while the variable has one for evaluation, or `None`.
      rounds: whether an update rounds something stochastically.
      begun: the number of updates before its slots were made, where some variable's came
        late; else `None`.
      carried: its own copies of the scalars that are carried from step to step, likewise.
      is_fresh: whether its slots were made just now, and not loaded yet.
      unused: state variables that an option has put out of use, by name.
    """

    public: Any
    variable: tf.Variable
    path: str
    dtype: tf.DType
    decays: bool = True
    overwrite: bool = False
    place: int = 0
    is_last_kernel: bool = False
    group: str = ""
    multiplier: float = 1.0
    declared: tuple[Slot, ...] = ()
    slots: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)
    scales: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)
    started: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)
    average: tf.Variable | None = None
    averages_from: int = 0
    accumulator: tf.Variable | None = None
    master: tf.Variable | None = None
    training: tf.Variable | None = None
    rounds: bool = False
    begun: tf.Variable | None = None
    carried: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)
    is_fresh: bool = False
    unused: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)

    def kept(self) -> dict[str, tf.Variable]:
        """Returns everything that is kept for the variable, by name; what is out of use not."""
        scales = {f"{name}_scale": scale for name, scale in self.scales.items()}
        started = {name + STARTED: variable for name, variable in self.started.items()}
        others = {
            "average": self.average,
            "gradient_accumulator": self.accumulator,
            "master": self.master,
        }
        present = {name: v for name, v in others.items() if v is not None}
        return self.slots | scales | started | present | self.late()

    def late(self) -> dict[str, tf.Variable]:
        """Returns what is kept because some variable's slots came late, by name."""
        if self.begun is None:
            return {}
        carried = {f"{BEGUN}/{name}": variable for name, variable in self.carried.items()}
        return {BEGUN: self.begun} | carried


class Store:
    """Model variables in model order, and the state variables by name.

    A name is `path/slot`; where several model variables share a path, the later
    ones get a number. Names are what checkpoints see.

    Attributes:
      is_built: whether the model variables have their slots.
      iterations: int64 count of the calls so far.
      counted_by: how many of them make an update.
      rate: float32 variable with the learning rate, or `None`.
      rate_source: the schedule or callable that gives the rate instead, or `None`.
      multiplier: float32 variable with the factor on a schedule, or `None`.
      evaluating: int64 variable: 1 where the model variables have weights for evaluation; or
        `None`.
      shown_at: the number of calls when they were put there, `None` if it is not known.
      tracked: the entries of the model variables.
      named: state variables by their names.
      step_slots: scalars that an algorithm carries from step to step, by name.
      group_step_slots: those of groups with another algorithm or other hyperparameters, by
        group.
      extra: state variables that a subclass asked for itself.
      owners: by the id of such a variable, the model variable that it was asked for, if
        there is one, and the name of the slot.
      guard: counters of skipped steps, and the loss scale, by name.
      starts: by the id of a state variable, what returns its first value.
      frozen: the paths of variables that do not move, by their ids.
      awaited: the state variables that wait for their first value.
      traced_groups: by the ids of entries, which of them shared their scalars in the step that
        was traced last; `None` before the first.
    """

    is_built: bool = False
    iterations: tf.Variable
    counted_by: int = 1
    rate: tf.Variable | None = None
    rate_source: Any = None
    multiplier: tf.Variable | None = None
    evaluating: tf.Variable | None = None
    shown_at: int | None = None

    def __init__(self) -> None:
        self.tracked: list[VariableState] = []
        self.named: dict[str, tf.Variable] = {}
        self.step_slots: dict[str, tf.Variable] = {}
        self.group_step_slots: dict[str, dict[str, tf.Variable]] = {}
        self.extra: list[tf.Variable] = []
        self.owners: dict[int, tuple[tf.Variable, str]] = {}
        self.guard: dict[str, tf.Variable] = {}
        self.starts: dict[int, Callable[[], tf.Tensor]] = {}
        self.frozen: dict[int, str] = {}
        self.awaited = Starts()
        self.traced_groups: dict[int, int] | None = None
        self._by_id: dict[int, VariableState] = {}
        self._given: dict[int, Any] = {}  # as `build` was given them, some without an entry
        self._places: dict[int, int] = {}
        self._made: dict[tuple, tf.Variable] = {}
        self._requests: collections.Counter[tuple] = collections.Counter()

    def find(self, variable: tf.Variable) -> VariableState | None:
        """Returns the entry of a TensorFlow variable or of a component of one."""
        entry = self._by_id.get(id(variable))
        return entry or self._by_id.get(id(distribution.container(variable)))

    def prepare(self, entries: Sequence[VariableState], natives: Sequence[tf.Variable]) -> None:
        """Gives new model variables the paths and places that they will have; adds none.

        A path is numbered if it is taken already.

        Args:
          entries: the new variables.
          natives: all variables that `build` was given, in their order.
        """
        paths = unique_paths((e.path for e in entries), (e.path for e in self.tracked))
        new = {id(entry.variable): entry for entry in entries}
        order = self._ordered(natives, new)
        kernels = [e for e in order if e.variable.shape.rank >= 2 and not e.overwrite]
        places = {id(entry): place for place, entry in enumerate(order)}
        for entry, path in zip(entries, paths):
            entry.path, entry.place = path, places[id(entry)]
            entry.is_last_kernel = entry is kernels[-1] if kernels else False

    def add(self, entries: Iterable[VariableState]) -> None:
        """Adds model variables that have been prepared; `arrange` must follow."""
        for entry in entries:
            self.tracked.append(entry)
            self._by_id[id(entry.variable)] = entry

    def _ordered(
        self, natives: Iterable[tf.Variable], new: Mapping[int, VariableState]
    ) -> list[VariableState]:
        """Returns all entries, with new ones, in the given order if that names every one."""
        found = [
            self.find(native) or new.get(id(distribution.container(native)))
            for native in natives
        ]
        order = list(dict.fromkeys(entry for entry in found if entry is not None))
        known = [*self.tracked, *new.values()]
        return order if len(order) == len(known) else known

    def place(self, variable: tf.Variable) -> int | None:
        """Returns a variable's place among all that `build` was given, `None` if unknown."""
        return self._places.get(id(distribution.container(variable)))

    @property
    def given(self) -> list[Any]:
        """The model variables as `build` was given them.

        With those that no gradient can belong to (counters), which have no entry.
        """
        return list(self._given.values())

    def arrange(self, given: list[Any], natives: list[tf.Variable]) -> None:
        """Takes the given order over if it names every known variable.

        Otherwise the known order stays, and what was added follows it. So a model
        whose lower layers were unfrozen gets its state in model order.

        Args:
          given: the variables as `build` was given them.
          natives: the TensorFlow variables behind them.
        """
        keys = [id(distribution.container(native)) for native in natives]
        listed = dict(zip(keys, given))
        if not {*self.tracked} - {self.find(native) for native in natives}:
            self.tracked = self._ordered(natives, {})
            self._given = listed | {k: v for k, v in self._given.items() if k not in listed}
        else:
            self._given = self._given | listed
        self._places = {key: place for place, key in enumerate(self._given)}
        for place, entry in enumerate(self.tracked):
            entry.place = place

    def carried(self, group: str) -> dict[str, tf.Variable]:
        """Returns the scalars that the algorithm of a group carries from step to step."""
        return self.group_step_slots.get(group, {}) if group else self.step_slots

    def carried_by_group(self) -> dict[str, dict[str, tf.Variable]]:
        """Returns the scalars that are carried from step to step, by group."""
        return {"": self.step_slots, **self.group_step_slots}

    def new_build(self) -> None:
        """Starts another build: requests are counted from the beginning again."""
        self._requests.clear()

    def request(
        self,
        key: tuple,
        make: Callable[[], tf.Variable],
        owner: tf.Variable | None = None,
        slot: str = "",
    ) -> tuple[tf.Variable, bool]:
        """Returns the variable asked for under a key, making it the first time.

        The n-th request for a key within one build gives the same variable as the
        n-th request in any other build, so that building again keeps the state.

        Args:
          key: what is asked for.
          make: makes it.
          owner: the model variable that it is for, if there is one.
          slot: what it is called there.

        Returns:
          variable: the variable.
          is_new: whether it was made just now.
        """
        number = self._requests[key]
        self._requests[key] += 1
        numbered = (*key, number)
        if numbered in self._made:
            return self._made[numbered], False
        variable = make()
        self._made[numbered] = variable
        if owner is not None:
            name = f"{slot}_{number}" if number else slot
            self.owners[id(variable)] = (owner, name)
        self.extra.append(variable)
        return variable, True

    def was_set(self, variables: Iterable[tf.Variable]) -> None:
        """Takes note that state variables have been given values from elsewhere."""
        known = {id(variable): variable for variable in variables}
        for variable in known.values():
            self.awaited.drop(variable)
        for entry in self.tracked:
            entry.averages_from = 0
            for name, started in entry.started.items():
                # A slot that was set has started, unless its state says that it has not; one
                # that was not does not start because the state of another one had.
                slot_is_set = id(entry.slots[name]) in known
                if slot_is_set != (id(started) in known):
                    with tf.init_scope():
                        distribution.set_everywhere(started, tf.cast(slot_is_set, tf.int64))

    def begin_averages(self, entries: Iterable[VariableState], calls: int) -> None:
        """Lets averages start from the values that the next step finds.

        Args:
          entries: the variables whose averages they are.
          calls: the number of steps so far.
        """
        for entry in entries:
            average = entry.average
            assert average is not None
            entry.averages_from = calls
            start = self.starts[id(average)]
            self.awaited.add(average, entry.variable, start, calls, False, False)

    def unique_name(self, name: str) -> str:
        """Returns the name, numbered if a state variable has it already."""
        candidate, count = name, 0
        while candidate in self.named:
            count += 1
            candidate = f"{name}_{count}"
        return candidate

    def by_name(self) -> dict[str, tf.Variable]:
        """Returns the state that Keras' positional layout has no place for."""
        factor = (
            {} if self.multiplier is None else {"learning_rate_multiplier": self.multiplier}
        )
        return factor | self.guard | self.late()

    def late(self) -> dict[str, tf.Variable]:
        """Returns where variables' slots began, where some came late; by name."""
        return {
            f"{entry.path}/{name}": variable
            for entry in self.tracked
            for name, variable in entry.late().items()
        }

    def state(self) -> Iterator[tf.Variable]:
        """Yields state variables in the layout that Keras uses.

        Averages, then accumulators, then the slots, interleaved per variable within a
        group, each with its scales and with whether it has started; master copies; then what
        a subclass asked for itself, what skipping steps takes, and last where slots began.
        """
        yield from (e.average for e in self.tracked if e.average is not None)
        yield from (e.accumulator for e in self.tracked if e.accumulator is not None)
        declared = [(entry, slot) for entry in self.tracked for slot in entry.declared]
        for group in sorted({slot.group for _, slot in declared}):
            for entry, slot in declared:
                if slot.group == group:
                    yield entry.slots[slot.name]
                    if slot.name in entry.scales:
                        yield entry.scales[slot.name]
                    if slot.name in entry.started:
                        yield entry.started[slot.name]
        yield from (e.master for e in self.tracked if e.master is not None)
        for carried in self.carried_by_group().values():
            yield from carried.values()
        yield from self.extra
        yield from self.guard.values()
        yield from self.late().values()
