"""Building an optimizer for its model variables."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import declarations, patterns
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.numerics import quantization
from tf_keras_optim.engine.patterns import DecayExclusions
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import evaluation, late, masters
from tf_keras_optim.engine.state.own_variables import OwnVariables
from tf_keras_optim.engine.state.paths import path_of, unique_paths
from tf_keras_optim.engine.state.saved_state import SavedState
from tf_keras_optim.engine.state.slot_dtypes import check_eight_bit
from tf_keras_optim.engine.state.slot_making import SlotMaking
from tf_keras_optim.engine.state.store import (
    VariableState,
    can_learn,
    compute_dtype,
    listed,
)
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.variable_hooks import of_shape, slots_for


class Builder:
    """Takes model variables in, and has their slots made.

    Args:
      owner: the optimizer.
      context: what its parts share.
      own: variables that a class has made by itself.
      state: what may wait for slots.

    Attributes:
      slot_making: makes what is kept for a variable.
      exclusions: the variables that do not decay.
    """

    def __init__(self, owner: Any, context: Context, own: OwnVariables, state: SavedState):
        self._context = context
        self._own = own
        self._state = state
        self.slot_making = SlotMaking(owner, context)
        self.exclusions = DecayExclusions()
        self._saved_patterns: dict[str, frozenset[str]] = {}

    def build(self, variables: Any, *, is_all: bool) -> None:
        """Makes the slots of variables that have none yet.

        Args:
          variables: the trainable variables, in model order.
          is_all: whether no `build` of a subclass makes further ones after that.

        Raises:
          TypeError: `variables` is no list of variables.
          ValueError: a variable has no static shape, or belongs to another distribution
            strategy; or a pattern in an argument matches no variable.
        """
        context, store = self._context, self._context.store
        variables = listed(variables, context.title)
        distribution.check_scope(context.variables.strategy, context.algorithm.name)
        self._check_patterns(variables)
        natives = [context.keras.unwrap(variable) for variable in variables]
        paths = self._paths(variables)
        fresh: dict[int, VariableState] = {}
        frozen: dict[int, str] = {}
        for variable, given in zip(variables, natives):
            native = distribution.container(given)
            is_new = store.find(native) is None and id(native) not in fresh
            if is_new and can_learn(native):
                path = paths[id(native)]
                if context.grouping.freezes(path):
                    frozen[id(native)] = path
                else:
                    fresh[id(native)] = self._new_entry(variable, native, path)
        store.prepare(list(fresh.values()), natives)
        sizes = {entry: self.slot_making.size_of(entry) for entry in fresh.values()}
        context.sharding.assign(sizes)
        for entry in fresh.values():
            masters.check_other(context, entry)
        store.new_build()
        store.frozen |= frozen
        for key in fresh:
            store.frozen.pop(key, None)
        store.add(fresh.values())
        store.arrange(variables, natives)
        self.slot_making.make_step_slots()
        for entry in store.tracked:
            self.slot_making.make(entry)
        evaluation.make(context)
        store.is_built = True
        context.traces.forget()
        self._state.load_pending(force=is_all)
        late.settle(context)

    def note_configuration(self) -> None:
        """Takes note that the patterns in the arguments come with a configuration."""
        options = self._context.options
        for name, parameter in declarations.parameters_of(class_of(options)).items():
            if type(parameter).patterns is not Hyperparameter.patterns:
                given = parameter.patterns(getattr(options, name))
                self._saved_patterns[name] = frozenset(given)

    def regroup(self) -> None:
        """Sorts the variables into groups anew, as settings may have changed."""
        grouping = self._context.grouping
        grouping.forget()
        for entry in self._context.store.tracked:
            group = grouping.group_for(entry.path)
            entry.group, entry.multiplier = group.label, group.multiplier

    def rebuild(self) -> None:
        """Makes the slots that options call for which have changed."""
        if self._context.store.is_built:
            self.slot_making.make_step_slots()
        for entry in self._context.store.tracked:
            self.slot_making.make(entry)
        late.settle(self._context)

    def check_slots(self) -> None:
        """Refuses options that the slots, which exist already, do not agree with.

        Raises:
          ValueError: a slot or master copy is of another kind, or a pattern matches nothing.
        """
        self._check_patterns()
        for entry in self._context.store.tracked:
            self.slot_making.dtypes(entry, self.slot_making.declared(entry))
            if entry.master is not None and not masters.are_wanted(self._context, entry):
                raise ValueError(
                    f"{self._context.title}: variable {entry.path!r} has a master copy "
                    "already. Create a new optimizer for one without."
                )

    def check_eight_bit(self) -> None:
        """Refuses 8 bits where the algorithm says of no slot that it bears them.

        Raises:
          ValueError: no declared slot has `eight_bit`.
        """
        declared = slots_for(self._context.algorithm, of_shape(quantization.SMALLEST_SQUARE))
        check_eight_bit(declared, self._context.class_name, self._context.options.slot_dtype)

    def _paths(self, variables: Iterable[Any]) -> dict[int, str]:
        """Returns the paths of variables, known and new; one that is taken gets a number."""
        store = self._context.store
        found = {id(entry.variable): entry.path for entry in store.tracked} | store.frozen
        new: dict[int, str] = {}
        for variable in variables:
            native = distribution.container(self._context.keras.unwrap(variable))
            if can_learn(native) and id(native) not in found:
                new[id(native)] = path_of(variable)
        return found | dict(zip(new, unique_paths(new.values(), found.values())))

    def _new_entry(self, variable: Any, native: tf.Variable, path: str) -> VariableState:
        # A class may have had the model's variables as an attribute before it was built.
        self._own.disown(native)
        dtype = compute_dtype(native, path)
        if not native.shape.is_fully_defined():
            raise ValueError(
                f"Variable {path!r} has the shape {native.shape}, which is not fully "
                "defined. Slots need a static shape: create the variable with one."
            )
        strategy, name = self._context.variables.strategy, self._context.algorithm.name
        distribution.check_variable_scope(strategy, native, path, name)
        overwrite = bool(getattr(variable, "overwrite_with_gradient", False))
        group = self._context.grouping.group_for(path)
        decays = not self.exclusions.excludes(native, path_of(variable))
        entry = VariableState(variable, native, path, dtype, decays, overwrite)
        entry.group, entry.multiplier = group.label, group.multiplier
        return entry

    def _check_patterns(self, variables: Iterable[Any] = ()) -> None:
        """Refuses patterns of paths that match none of the variables, known and new.

        Raises:
          ValueError: a pattern matches none; the nearest path is named.
        """
        context, variables = self._context, list(variables)
        known = {id(entry.variable): path_of(entry.public) for entry in context.store.tracked}
        for variable in (*context.store.given, *variables):
            native = distribution.container(context.keras.unwrap(variable))
            if can_learn(native):
                known.setdefault(id(native), path_of(variable))
        paths, unique = list(known.values()), list(self._paths(variables).values())
        title = context.title
        for name, parameter in declarations.parameters_of(class_of(context.options)).items():
            if type(parameter).patterns is not Hyperparameter.patterns:
                given = parameter.patterns(getattr(context.options, name))
                saved = self._saved_patterns.get(name, ())
                patterns.check_matches(title, name, given, unique, saved)
        self.exclusions.check(title, paths)
