"""What the Keras 3 contract offers to an optimizer that writes its own `build`."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import KerasSide
from tf_keras_optim.engine.methods.building import Building
from tf_keras_optim.engine.state import starts
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.tensorflow import distribution


class Contract(Building):
    """The part of an optimizer that makes and assigns variables on request."""

    def add_variable(
        self,
        shape: Any = (),
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str | None = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Any:
        """Makes a state variable of the optimizer's own, for `update_step` to use.

        Args:
          shape: its shape.
          initializer: name of a Keras initializer, an initializer, or a callable
            `(shape, dtype) -> tensor`.
          dtype: its dtype; float32 by default.
          aggregation: "none" or "only_first_replica".
          layout: must be `None`; layouts are for other Keras backends.
          name: its name.

        Returns:
          The variable; in a repeated `build` the one from before.
        """
        if layout is not None:
            raise ValueError(f"{self.tko.title}: `layout` is not supported. Leave it out.")
        shape = tf.TensorShape(shape)
        kind = tf.as_dtype(dtype or tf.float32)
        return self._requested(
            ("own", name, tuple(shape), kind), name or "variable", initializer, shape, kind,
            aggregated=aggregation == "only_first_replica",
        )  # fmt: skip

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Makes a state variable of a model variable's shape, dtype and device.

        Args:
          reference_variable: the model variable.
          name: what the quantity is called, e.g. "momentum".
          initializer: as for `add_variable`.

        Returns:
          The variable; in a repeated `build` the one from before.
        """
        return self._requested_beside(reference_variable, name, initializer)

    def _requested_beside(
        self, reference_variable: Any, name: str | None, initializer: Any, shape: Any = None
    ) -> Any:
        """Makes a state variable beside a model variable, of its shape or of another."""
        native = distribution.container(self.tko.keras.unwrap(reference_variable))
        entry = self.tko.store.find(native)
        name, path = name or "var", path_of(reference_variable) if entry is None else entry.path
        own = () if shape is None else (tuple(shape),)
        return self._requested(
            ("beside", id(native), name, *own), f"{path}/{name}", initializer,
            native.shape if shape is None else tf.TensorShape(shape), native.dtype,
            beside=native,
        )  # fmt: skip

    def _requested(
        self,
        key: tuple,
        name: str,
        initializer: Any,
        shape: tf.TensorShape,
        dtype: tf.DType,
        **where: Any,
    ) -> Any:
        flat, beside = name.replace("/", "_"), where.get("beside")
        # A plain function may read the model variable, what Keras makes from a config not.
        reads = callable(initializer) and not hasattr(initializer, "get_config")
        waits = reads and beside is not None and not starts.has_value(beside)

        def start() -> tf.Tensor:
            return self.tko.keras.initial_value(initializer, shape, dtype)

        def make() -> tf.Variable:
            first = (lambda: tf.zeros(shape, dtype)) if waits else start
            return self.tko.variables.make(flat, first, **where)

        variable, is_new = self.tko.store.request(
            key, make, owner=beside, slot=name.rpartition("/")[2]
        )
        if is_new:
            if waits:
                self.tko.builder.slot_making.await_start(variable, beside, start, required=True)
            self.tko.variables.publish(name, variable, flat, is_slot=beside is not None)
            self.tko.state.load_pending()
        return self.tko.variables.public[id(variable)]

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Any], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Makes one or several state variables for each model variable.

        Args:
          trainable_variables: the model variables. One whose
            `overwrite_with_gradient` is set gets `None`.
          name: a name, or a list of names.
          initializer: one initializer, or a list with one for each name.

        Returns:
          A list with one entry for each model variable; for a list of names a
          tuple of such lists.
        """
        names = [name] if isinstance(name, str) else list(name)
        starts = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer]
        starts = starts * len(names) if len(starts) == 1 else starts
        if len(starts) != len(names):
            raise ValueError(
                f"{self.tko.title}: `name` has {len(names)} entries, but `initializer` has "
                f"{len(starts)}. Give one initializer for each name, or one for all."
            )
        made: tuple[list, ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            skip = bool(getattr(variable, "overwrite_with_gradient", False))
            for column, slot, start in zip(made, names, starts):
                column.append(
                    None if skip else self.add_variable_from_reference(variable, slot, start)
                )
        return made[0] if isinstance(name, str) else made

    # What the Keras 3 contract offers to an `update_step`.

    def assign(self, variable: Any, value: Any) -> None:
        """Assigns a value (tensor or `tf.IndexedSlices`) to a model or state variable."""
        _assign_by(self.tko.keras, "assign", "scatter_update", variable, value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds a value (tensor or `tf.IndexedSlices`) to a model or state variable."""
        _assign_by(self.tko.keras, "assign_add", "scatter_add", variable, value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtracts a value (tensor or `tf.IndexedSlices`) from a variable."""
        _assign_by(self.tko.keras, "assign_sub", "scatter_sub", variable, value)

    def _get_variable_index(self, variable: Any) -> int:
        """Returns a model variable's place in the list given to `build`."""
        place = self.tko.store.place(self.tko.keras.unwrap(variable))
        return self.tko.stepper.admission.entry_of(variable).place if place is None else place


def _assign_by(keras: KerasSide, dense: str, sparse: str, variable: Any, value: Any) -> None:
    """Changes a variable by one of its methods, the one for tensors or the one for slices."""
    target = distribution.local(keras.unwrap(variable))
    value = tf.cast(value, target.dtype)
    is_sparse = isinstance(value, tf.IndexedSlices)
    getattr(target, sparse if is_sparse else dense)(value)
