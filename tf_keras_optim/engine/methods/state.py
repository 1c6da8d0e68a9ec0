"""What Keras and users call to save an optimizer's state and to load it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.state.load_report import LoadReport


class State(Composed):
    """The methods of an optimizer that return its state and load it."""

    def get_weights(self) -> list[np.ndarray]:
        """Returns the state as NumPy arrays, in the order of `variables`."""
        return self.tko.state.arrays()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the state from arrays in the order of `variables`.

        Args:
          weights: arrays with the shapes of `variables`.

        Raises:
          ValueError: the optimizer is not built, or the number or a shape differs.
            Nothing is changed then.
        """
        self.tko.state.set_arrays([np.asarray(weight) for weight in weights])

    @tf.autograph.experimental.do_not_convert
    def reset_state(self) -> None:
        """Resets the state to that of a new optimizer; it works in a graph too.

        It resets counters, slots, averages (which start from the current weights) and the loss
        scale. The learning rate, or the factor on its schedule, does not change.
        """
        self.tko.state.reset()

    # By name.

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state by name, as NumPy arrays.

        Returns:
          state: a dict with these keys. "format" and "version": the form of the dict.
            "class_name": the class of the optimizer. "gradient_accumulation_steps": how many
            calls make an update. "meanings": the meaning of each slot name;
            see `slot_meanings`. "scalars": 0-d arrays by name:
            `iterations` (calls, accumulated ones included), `learning_rate` or the
            `learning_rate_multiplier` of a schedule, and what an algorithm or the loss scale
            counts. "variables": by the path of each model variable, e.g. "dense/kernel", a
            dict of its slots, with "average", "gradient_accumulator" and "master" where
            there are such. "extra": further variables of a subclass. "weights": shape, dtype
            and CRC-32 of each model variable, which identify it under another name.
            "evaluating", present only where it is True: the variables have their evaluation
            weights; "training_value" beside the slots then holds the trained ones.
        """
        return self.tko.state.to_dict()

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        strict: bool = True,
        keep_hyperparameters: bool = False,
        names: Mapping[str, str] | Callable[[str], str] | None = None,
    ) -> LoadReport:
        """Loads a state that `state_dict` returned, matching variables by name.

        An optimizer that is not built yet loads counters and loss scale at once. It keeps the
        rest until `build`, and checks it then.

        Args:
          state: the state.
          strict: raise unless the state is exactly what this optimizer keeps. With False,
            what fits is loaded: for example the moments, after an average or another slot
            was turned on. From another class, slots that are the same quantity are loaded;
            see `slot_meanings`.
          keep_hyperparameters: keep this optimizer's learning rate, or the factor on its
            schedule. Needed where a number was replaced by a schedule.
          names: mapping or function from saved paths to paths here. By default a path is
            itself; where automatic names differ, variables are matched in order if their last
            names and shapes agree. If several matches are possible, the values of the weights
            decide; if the weights contradict the match, nothing is loaded.

        Returns:
          report: what was loaded, and what was not; see `LoadReport`.

        Raises:
          TypeError: `state` is no dict.
          ValueError: it is not such a state, or (`strict`) differs from this optimizer's;
            every difference is listed. Nothing is changed then.
        """
        return self.tko.state.load_dict(state, strict, keep_hyperparameters, names)

    # As Keras numbers it.

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a Keras store: by position, and by name what Keras lacks.

        In an HDF5 file each array carries a note with its name and a checksum of its bytes.
        """
        layout.write(store, *self.tko.state.numbered())

    def load_own_variables(self, store: Any) -> None:
        """Reads the state from a Keras store.

        An optimizer that is not built yet keeps the values until `build`. A file
        without optimizer state (of a model that was never compiled) changes nothing.
        Arrays that carry notes are matched by name, others by position, as in Keras. The
        state of variables that were frozen or removed since is left out, and variables
        without saved state keep theirs; one line in TensorFlow's log says so.

        Raises:
          ValueError: the saved state is damaged, or is not what this optimizer keeps.
            Nothing is changed then.
        """
        inside = layout.inside(store)
        store = store if inside is None else inside
        self.tko.state.load_layout(*layout.read(store, self.tko.title))
