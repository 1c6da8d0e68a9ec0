"""A checkpoint whose slots go to the variables that they were kept for."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.state import (
    evaluation,
    late,
    matching,
    meanings,
    named_state,
    starts,
)
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import accumulation
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking

MARK = "#"  # begins the name of a slot's edge: no variable's name can
NAMES = "names"  # the optimizer's own attribute in a checkpoint
_VALUE = "VARIABLE_VALUE"  # TensorFlow's name of what a variable holds


def edge(place: int, slot: str) -> str:
    """Returns the name of a slot's edge."""
    return f"{MARK}{place}/{slot}"


class Restoration:
    """One checkpoint that is being restored into one optimizer.

    Args:
      context: what the optimizer's parts share.
      positions: by edge, where TensorFlow found the slots in the checkpoint.
      counts: what `late.counts` returned before anything was restored.

    Raises:
      ValueError: the checkpoint does not name the slots' variables.
    """

    def __init__(
        self,
        context: Context,
        positions: dict[str, Any],
        counts: Iterable[tuple[tf.Variable, Any]],
    ):
        self.positions = positions
        self._context = context
        self._counts = list(counts)
        any_position = next(iter(positions.values()))
        self._checkpoint = tracking.checkpoint_of(any_position)
        self._file = self._checkpoint.save_path_string
        self._steps: int | None = None  # how many calls made an update
        self._evaluating = False
        self._saved = self._read_names()
        self._check_window()
        self._edges = frozenset(positions)
        self._places: dict[str, int] = {}
        self._known: list[str] | None = None
        self._started: set[int] = set()
        self._begun: set[int] = set()

    def run(self) -> tuple[list[str], list[str]]:
        """Restores the slots that exist; the others wait.

        Returns:
          unknown: the paths of variables here that the checkpoint has no slots for.
          lacking: the slots of the others that it has not, by name.

        Raises:
          ValueError: the saved variables are not those here, or a slot has another shape or
            dtype. Nothing is changed then.
        """
        entries = self._context.store.tracked
        paths = [entry.path for entry in entries]
        if paths != self._known:
            self._places = self._matched(entries)
            self._known = paths
        found, left_out = [], []
        refused = self._refused()
        ages = late.ages(self._context, self._counts)
        self._counts = []  # slots that are made later are new
        if any(late.is_key(name.partition("/")[2]) for name in self.positions):
            late.complete(self._context)
        if self._evaluating:
            evaluation.make_all(self._context)
        for key, variable in named_state.collect(self._context, self._evaluating).items():
            if key[0] == "variables" and key[1] in self._places:
                name = edge(self._places[key[1]], key[2])
                reason = meanings.meaning(refused, key)
                if name in self.positions and reason is not None:
                    left_out.append((name, f"{key[1]} {key[2]} {reason}"))
                elif name in self.positions:
                    found.append((name, key, variable))
        self._check(found)
        self._leave_out(left_out)
        reader = self._reader()
        with tf.init_scope():
            for name, _, variable in found:
                position = self.positions.pop(name)
                public = self._context.variables.public.get(id(variable), variable)
                if tracking.bind(position, public):
                    value = reader.get_tensor(self._tensor(position))
                    distribution.set_everywhere(variable, value)
        if found:
            self._context.store.was_set([variable for _, _, variable in found])
        evaluation.set_mode(self._context, self._evaluating)
        self._note_beginnings(entries, ages)
        self._start_averages(entries)
        return self._missing(entries)

    def _missing(self, entries: list[VariableState]) -> tuple[list[str], list[str]]:
        """Returns the variables that the checkpoint has nothing for, and lost slots."""
        unknown = [entry.path for entry in entries if entry.path not in self._places]
        lacking = [
            f"{entry.path}/{name}"
            for entry in entries
            if entry.path in self._places
            for name in entry.kept()
            if not late.is_key(name) and edge(self._places[entry.path], name) not in self._edges
        ]
        return unknown, lacking

    def _refused(self) -> dict[str, str | None]:
        """Returns the slots that were saved as something else, with the reason.

        By name where a whole class has saved them so, by path and name where that of single
        variables has.
        """
        slots = {name.rsplit("/", 1)[1]: None for name in self._edges}
        here = named_state.collect(self._context)
        kept = {key[2] for key in here if key[0] == "variables"}
        said = {**self._said, "variables": {"": slots}}
        of_class = meanings.refused(self._context, said, kept)
        names = [name.removeprefix(MARK).partition("/") for name in self._edges]
        variables: dict[str, dict[str, None]] = {}
        for place, _, slot in names:
            variables.setdefault(self._saved[int(place)].path, {})[slot] = None
        paths = {self._saved[place].path: path for path, place in self._places.items()}
        of_variables = {**self._said, "variables": variables}
        return {**of_class, **meanings.refused_here(self._context, of_variables, paths)}

    def _leave_out(self, slots: list[tuple[str, str]]) -> None:
        """Gives up slots that are something else here, with a warning."""
        if not slots:
            return
        for name, _ in slots:
            self.positions.pop(name)
        lines = "".join(f"  {line}\n" for _, line in slots[:20])
        warnings.warn(
            f"{self._context.title}: checkpoint {self._file!r} was written by an optimizer"
            f" of another class. {len(slots)} of its slots are something else than those here, "
            f"which stay as they are:\n{lines}",
            stacklevel=2,
        )

    def _note_beginnings(
        self, entries: list[VariableState], ages: Mapping[int, late.Beginning]
    ) -> None:
        """Notes where the slots of the variables here began; those just made are noted later.

        Args:
          entries: the variables.
          ages: what `late.ages` returned before any slot was restored.
        """
        loaded, known = {}, late.of(self._context)
        for entry in entries:
            place = self._places.get(entry.path)
            saved = any(edge(place or 0, name) in self._edges for name in entry.slots)
            if place is not None and saved and id(entry) not in self._begun:
                loaded[id(entry)] = known.get(id(entry), late.Beginning())
                if edge(place, late.BEGUN) not in self._edges:
                    loaded[id(entry)] = late.Beginning()
                entry.is_fresh = False
        others = {
            id(entry): ages[id(entry)]
            for entry in entries
            if not (entry.is_fresh or id(entry) in loaded or id(entry) in self._begun)
        }
        self._begun |= {*loaded, *others}
        calls, steps = self._saved_calls(), self._steps
        updates = self._context.counter.updates_by_now(calls)
        if calls is not None and steps is not None:
            updates = calls // steps
        late.note_loaded(self._context, others, loaded, updates)

    def _check_window(self) -> None:
        """Refuses gradients that were gathered for an update of another number of calls.

        Raises:
          ValueError: there are such.
        """
        steps, here = self._steps, calls_per_update(self._context.options)
        begun = (self._saved_calls() or 0) % steps if steps not in (None, here) else 0
        if begun:
            raise ValueError(
                f"{self._title()} {begun} of the {steps} calls that make an update had been "
                f"made; here `{accumulation.STEPS}` is {here}, not {steps}. No slot was "
                "changed. Create the optimizer as it was, and change the number after its next "
                "update."
            )

    def _saved_calls(self) -> int | None:
        """Returns the saved count of calls, which TensorFlow may not have restored yet."""
        nodes = self._checkpoint.object_graph_proto.nodes
        for child in self._node.children:
            for attribute in nodes[child.node_id].attributes:
                if child.local_name == "_iterations" and attribute.name == _VALUE:
                    return int(self._reader().get_tensor(attribute.checkpoint_key))
        return None

    def _tensor(self, position: Any) -> str:
        """Returns the name that a slot's value has in the file."""
        attributes = position.object_proto.attributes
        return next(a.checkpoint_key for a in attributes if a.name == _VALUE)

    def _start_averages(self, entries: list[VariableState]) -> None:
        """Starts averages that were not saved from the weights as they were saved."""
        values = self._values()
        for entry in entries:
            place = self._places.get(entry.path)
            saved = place is not None and edge(place, "average") in self._edges
            if entry.average is not None and not saved and id(entry) not in self._started:
                self._started.add(id(entry))
                value = values(entry)()
                if value is not None:
                    value = tf.cast(value, entry.average.dtype)
                    distribution.set_everywhere(entry.average, value)

    def _read_names(self) -> list[matching.Saved]:
        name, position = next(iter(self.positions.items()))
        here = (name, position.proto_id)
        for node in self._checkpoint.object_graph_proto.nodes:
            if any((child.local_name, child.node_id) == here for child in node.children):
                self._node = node
                keys = [a.checkpoint_key for a in node.attributes if a.name == NAMES]
                if keys:
                    return self._parsed(self._reader().get_tensor(keys[0]))
        raise ValueError(f"{self._title()} the names of its slots' variables are missing.")

    def _parsed(self, text: bytes) -> list[matching.Saved]:
        try:
            names = json.loads(text)
            self._steps = names.get(accumulation.STEPS)
            self._evaluating = bool(names.get(evaluation.EVALUATING))
            self._said = {key: names.get(key) for key in ("class_name", "meanings")}
            return [matching.Saved(v["path"], v["weight"]) for v in names["variables"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self._title()} the names of its slots' variables cannot be read ({error})."
            ) from error

    def _reader(self) -> Any:
        return tf.train.load_checkpoint(self._file)

    def _title(self) -> str:
        return f"{self._context.title}: checkpoint {self._file!r} does not fit:"

    def _matched(self, entries: list[VariableState]) -> dict[str, int]:
        """Returns the saved place of each path here."""
        values = self._values()
        here = [
            matching.Here(
                entry.path, tuple(entry.variable.shape), values(entry), path_of(entry.public)
            )
            for entry in entries
        ]
        found = matching.match(self._saved, here)
        if found.doubts or not (found.is_sure or found.is_guess):
            saved = [
                f"{s.path} {tuple((s.weight or {}).get('shape', ()))}" for s in self._saved
            ]
            ours = [f"{h.path} {h.shape}" for h in here]
            raise ValueError(
                f"{self._title()} its slots cannot be told to the variables here; no slot was "
                "changed.\n"
                + "".join(f"  {line}\n" for line in found.doubts)
                + f"  saved: {', '.join(saved)}\n  here: {', '.join(ours)}\n"
                "Build the optimizer with the variables that it had, give the layers names, "
                "or restore the model in the same checkpoint."
            )
        places = {saved.path: place for place, saved in enumerate(self._saved)}
        return {path: places[saved] for saved, path in found.paths.items() if path is not None}

    def _values(self) -> Callable[[VariableState], Callable[[], np.ndarray | None]]:
        """Returns what gives an entry's weight as it is when all has been restored."""
        nodes = self._checkpoint.object_graph_proto.nodes
        bound = {id(v): nodes[i] for i, v in self._checkpoint.object_by_proto_id.items()}

        def value_of(entry: VariableState) -> Callable[[], np.ndarray | None]:
            node = bound.get(id(entry.public)) or bound.get(id(entry.variable))
            for attribute in node.attributes if node is not None else ():
                if attribute.name == _VALUE:
                    key = attribute.checkpoint_key
                    return lambda: np.asarray(self._reader().get_tensor(key))
            return lambda: starts.value_of(entry.variable)

        return value_of

    def _check(self, found: list[tuple[str, Any, tf.Variable]]) -> None:
        lines = []
        for name, key, variable in found:
            tensor = self._tensor(self.positions[name])
            saved = self._described(self._checkpoint.shape_map, tensor)
            here = f"{tuple(variable.shape)} {variable.dtype.name}"
            if saved != here:
                lines.append(f"  {' '.join(key[1:])}: here {here}, saved {saved}\n")
        if lines:
            raise ValueError(
                f"{self._title()} no slot was changed.\n{''.join(lines[:20])}Create the "
                "optimizer and the model as they were."
            )

    def _described(self, shapes: Mapping[str, Any], tensor: str) -> str:
        dtype = tf.as_dtype(self._checkpoint.dtype_map[tensor]).base_dtype
        return f"{tuple(shapes[tensor])} {dtype.name}"
