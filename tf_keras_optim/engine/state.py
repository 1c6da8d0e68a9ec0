"""Handing an optimizer's state out and taking it in, by name and as Keras numbers it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine import (
    accumulation,
    distribution,
    late,
    layout,
    named_state,
    partial,
    scalar_checks,
    skipping,
)
from tf_keras_optim.engine.load_report import LoadReport
from tf_keras_optim.engine.numbered import Numbered
from tf_keras_optim.engine.tensorflow_private_tracking import keep_untracked
from tf_keras_optim.engine.waiting import Waiting

_MULTIPLIER = layout.MULTIPLIER
_LEARNING_RATE = "learning_rate"


class State(Numbered):
    """The part of an optimizer that hands its state out and takes it in.

    State that arrives before the slots exist waits until `build` has made them, save for
    the counters and the loss scale, which the first step needs before that.
    """

    _waiting: Waiting | None = None
    _restorations: list[Any]
    _is_settled: bool
    _restore_slots: Callable[[], bool]
    built: bool

    def get_weights(self) -> list[np.ndarray]:
        """Returns the state as NumPy arrays, in the order of `variables`."""
        if self.built:
            self._load_waiting(force=True)
        return [variable.numpy() for variable in self._state_variables()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the state from arrays in the order of `variables`.

        Args:
          weights: arrays with the shapes of `variables`.

        Raises:
          ValueError: the optimizer is not built, or the number or a shape differs.
            Nothing is changed then.
        """
        if not self.built:
            raise ValueError(
                f"{self._title()} has no slots yet. Call "
                "`optimizer.build(trainable_variables)` before `set_weights(weights)`."
            )
        arrays = [np.asarray(weight) for weight in weights]
        try:
            self._assign(arrays, "given", late.numbered(self, len(arrays)))
        finally:
            late.put(self, {})  # forgets where slots began if all began at once
        self._drop_waiting()

    @tf.autograph.experimental.do_not_convert
    def reset_state(self) -> None:
        """Puts the state back to where a new optimizer's would be; also in a graph.

        Counters, slots, averages (which start from the weights as they are now) and the loss
        scale; the learning rate, or the factor on its schedule, stays.
        """
        self._drop_waiting()
        store = self._store  # type: ignore[attr-defined]
        for variable in self._state_variables():
            if variable is not store.rate and variable is not store.multiplier:
                variable.assign(store.starts[id(variable)]())
        store.was_set(self._state_variables())
        if tf.executing_eagerly():
            late.clear(self)

    # By name.

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state by name, as NumPy arrays.

        Returns:
          state: a dict with these keys. "format" and "version": what reads it again.
            "class_name": the class of the optimizer. "gradient_accumulation_steps": how many
            calls make an update. "meanings": what its slots mean,
            by name; see `slot_meanings`. "scalars": 0-d arrays by name:
            `iterations` (calls, accumulated ones included), `learning_rate` or the
            `learning_rate_multiplier` of a schedule, and what an algorithm or the loss scale
            counts. "variables": by the path of each model variable, e.g. "dense/kernel", a
            dict of its slots, with "average", "gradient_accumulator" and "master" where
            there are such. "extra": what a subclass keeps besides. "weights": shape, dtype
            and CRC-32 of each model variable, by which it is known under another name.
        """
        self._check_restored()
        state, waiting = named_state.to_dict(self), self._waiting
        if waiting is None:
            return state
        if waiting.state is None or waiting.values is not None:
            raise ValueError(
                f"{self._title()} waits for its slots, and what was loaded from Keras' file "
                "does not name all variables. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        scalars = dict(waiting.state["scalars"]) | state["scalars"]
        counted = {accumulation.STEPS: state[accumulation.STEPS]}
        return dict(waiting.state) | {"scalars": scalars} | counted

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        strict: bool = True,
        keep_hyperparameters: bool = False,
        names: Mapping[str, str] | Callable[[str], str] | None = None,
    ) -> LoadReport:
        """Takes over a state that `state_dict` returned, matching variables by name.

        An optimizer that is not built yet takes over counters and loss scale, keeps the
        rest until `build`, and checks it then.

        Args:
          state: the state.
          strict: raise if it is not exactly what this optimizer keeps. False takes over
            what fits: the moments, say, after an average or another slot was turned on. Of
            another class, slots that are the same quantity; see `slot_meanings`.
          keep_hyperparameters: leave the learning rate, or the factor on its schedule,
            as it is here. Needed where a number was exchanged for a schedule.
          names: saved paths to paths here, a mapping or a function. By default a path is
            itself; where automatic names differ, variables are taken in order if their last
            names and shapes agree. The values of the weights decide where several could be
            meant; if they speak against the rest, nothing is loaded.

        Returns:
          report: what was loaded, and what was not; see `LoadReport`.

        Raises:
          TypeError: `state` is no dict.
          ValueError: it is not such a state, or (`strict`) differs from this optimizer's;
            every difference is listed. Nothing is changed then.
        """
        named_state.check_form(state, self._title())
        options = {"keep_hyperparameters": keep_hyperparameters, "names": names}
        if not self.built and not strict:
            raise ValueError(
                f"{self._title()} has no slots yet, so what fits cannot be told. Call "
                "`optimizer.build(trainable_variables)` before "
                "`load_state_dict(state, strict=False)`."
            )
        return self._take(Waiting(state=state, options=options), strict)

    def _take(self, given: Waiting, strict: bool = True, patient: bool = False) -> LoadReport:
        """Loads named state now, or as soon as the variables for it exist.

        Args:
          given: the state.
          strict: raise if it does not fit exactly.
          patient: wait for the next use if it would fit other values of the weights.
        """
        assert given.state is not None
        keep_rates = bool(given.options.get("keep_hyperparameters"))
        scalar_checks.check(self, given.state["scalars"], keep_rates)
        if not (self.built or named_state.was_not_built(given.state)):
            self._let_wait(given)
            return LoadReport(waiting=True)
        plan = named_state.plan(self, given.state, **given.options)
        if patient and given.skips and not given.accepts(plan):
            # What fits is told by the weights, which may come after the optimizer.
            self._let_wait(given)
            return LoadReport(waiting=True)
        if patient and not given.accepts(plan):
            # Keras may load the optimizer before the weights that tell who is who.
            later = named_state.plan(self, given.state, compare_values=False, **given.options)
            if given.accepts(later) or (given.lenient and not later.apart.is_sure):
                self._let_wait(given)
                return LoadReport(waiting=True)
        fits = not strict or given.accepts(plan, guessed=not patient)
        if not (fits or given.skips):
            raise ValueError(
                f"{self._title()}: the saved state does not fit; nothing was changed.\n"
                f"{plan.report.differences()}\n"
                "Create the optimizer and the model as they were, or take over what fits "
                "with `load_state_dict(state, strict=False)`. If only names differ, give "
                "the layers names, pass `names=`, or load the weights before the state."
            )
        self._drop_waiting()
        # Scalars that were set at once may have been changed since: by a callback, say.
        done = {id(variable) for variable, _ in given.before}
        ages = late.ages(self, given.before)
        self._set([(v, value) for v, value in plan.assignments if id(v) not in done])
        late.adopt(self, ages, plan.begun)
        if not fits:
            skipping.warn(self._title(), plan.report.differences())
        elif strict and not plan.report.fits:
            partial.tell(self._title(), plan.apart)
        if plan.left_out:
            tf.get_logger().info("%s: %s.", self._title(), plan.left_out)
        return plan.report

    def _check_restored(self) -> None:
        """Takes over what waits; slots in a checkpoint cannot come before `build`."""
        if self.built:
            self._load_waiting(force=True)
        elif self._restorations:
            raise ValueError(
                f"{self._title()} was restored from a checkpoint, but has no slots yet, so "
                "what is saved now would lack them. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )

    def _set(self, assignments: Sequence[tuple[tf.Variable, np.ndarray]]) -> None:
        with tf.init_scope():
            for variable, value in assignments:
                distribution.set_everywhere(variable, np.asarray(value))
        self._store.was_set(variable for variable, _ in assignments)  # type: ignore[attr-defined]

    # As Keras numbers it.

    def _layout(self) -> tuple[layout.Values, layout.Notes]:
        """Returns the state as numbered arrays, what Keras lacks by name, and the notes."""
        self._check_restored()
        if self._waiting is not None:
            if self._waiting.values is None:
                raise ValueError(
                    f"{self._title()} waits for its slots and cannot be saved in Keras' "
                    "format. Call `optimizer.build(model.trainable_variables)` first."
                )
            return self._waiting.values, self._waiting.notes or {}
        return layout.arranged(self)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a Keras store: by position, and by name what Keras lacks.

        In an HDF5 file each array carries a note that names it and guards its bytes.
        """
        layout.write(store, *self._layout())

    def load_own_variables(self, store: Any) -> None:
        """Reads the state from a Keras store.

        An optimizer that is not built yet keeps the values until `build`. A file
        without optimizer state (of a model that was never compiled) changes nothing.
        Arrays that carry notes are matched by name, others by position, as in Keras. What
        belongs to variables that are frozen or gone by now is left out, and variables of
        which nothing was saved keep what they have; one line in TensorFlow's log says so.

        Raises:
          ValueError: the saved state is damaged, or is not what this optimizer keeps.
            Nothing is changed then.
        """
        inside = layout.inside(store)
        store = store if inside is None else inside
        self._load_layout(*layout.read(store, self._title()))

    def _load_layout(self, values: layout.Values, notes: layout.Notes) -> None:
        if not any(map(str.isdigit, values)):
            return
        if not notes:
            self._load_numbered(values)
            return
        state = layout.to_state(values, notes)
        skips = skipping.mismatches_are_skipped()
        given = Waiting(values, notes, state, lenient=True, skips=skips)
        self._take(given, patient=True)

    # State that came before the slots.

    def _let_wait(self, given: Waiting) -> None:
        """Keeps state until the slots exist; sets the scalars that exist already."""
        self._drop_waiting()
        if given.state is not None:
            saved = given.state["scalars"]
            keep = given.options.get("keep_hyperparameters")
            for key, variable in named_state.collect(self).items():
                is_rate = key[1] in (_LEARNING_RATE, _MULTIPLIER)
                if key[0] == "scalars" and key[1] in saved and not (keep and is_rate):
                    value = np.asarray(saved[key[1]])
                    if key[1] == "iterations":
                        value = np.asarray(accumulation.calls_here(self, given.state, value))
                    if value.shape == ():
                        given.before.append((variable, variable.numpy()))
                        dtype = variable.dtype.as_numpy_dtype
                        self._set([(variable, value.astype(dtype))])
        keep_untracked(self, "_waiting", given)

    def _drop_waiting(self) -> Waiting | None:
        waiting, self._waiting = self._waiting, None
        self._restorations.clear()
        return waiting

    def _load_waiting(self, force: bool = False) -> None:
        """Loads waiting state as soon as every variable it belongs to exists.

        Args:
          force: load it now; if there are other variables, raise.
        """
        if not self._is_settled:
            self._restore_slots()
        if self._waiting is None:
            return
        known = self._waiting.state is not None
        count = len(named_state.collect(self) if known else self._positional_state())
        if self._store.rate is not None and self._waiting.lacks_rate:  # type: ignore[attr-defined]
            count -= 1
        if not (force or count == self._waiting.size):
            return
        waiting = self._drop_waiting()
        assert waiting is not None
        with tf.init_scope():
            if not known:
                self._assign_numbered(waiting)
                return
            try:
                self._take(waiting)
            except ValueError:
                self._set(waiting.before)
                raise
