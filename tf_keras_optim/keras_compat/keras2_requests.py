"""Variables that an optimizer asks for, with the arguments of Keras 2 or of Keras 3."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.parts import Parts

_UNSET: Any = object()


class RequestsInKeras2:
    """The part of an optimizer that makes variables on request, by both signatures.

    A class that is written for Keras 3 is run under Keras 2, too.
    """

    _requested_beside: Callable[..., Any]
    tko: Parts

    def add_variable_from_reference(
        self,
        model_variable: Any = _UNSET,
        variable_name: Any = None,
        shape: Any = None,
        initial_value: Any = None,
        *,
        reference_variable: Any = _UNSET,
        name: str | None = None,
        initializer: Any = None,
    ) -> Any:
        """Makes a state variable of a model variable's dtype and device.

        Args:
          model_variable: the model variable; `reference_variable` in Keras 3.
          variable_name: what the quantity is called, e.g. "momentum"; `name` in Keras 3.
          shape: its shape; the model variable's by default. By position also what is the
            third argument in Keras 3, an initializer.
          initial_value: its first value, a tensor, array or variable; 0 by default.
          reference_variable: see `model_variable`.
          name: see `variable_name`.
          initializer: as for `add_variable`, in place of `initial_value`.

        Returns:
          The variable; in a repeated `build` the one from before.

        Raises:
          TypeError: there is no model variable.
        """
        reference = model_variable if reference_variable is _UNSET else reference_variable
        if reference is _UNSET:
            raise TypeError(
                f"{self.tko.title}: `add_variable_from_reference` needs the model variable, "
                "`model_variable` or, as in Keras 3, `reference_variable`."
            )
        if isinstance(shape, str) or callable(shape):
            shape, initializer = None, shape
        if initializer is None:
            initializer = "zeros"
        if initial_value is not None:
            first = initial_value

            def initializer(shape: Any, dtype: tf.DType) -> tf.Tensor:
                return tf.cast(tf.convert_to_tensor(first), dtype)

            if shape is None and not isinstance(first, tf.Variable):
                found = tf.convert_to_tensor(first).shape
                shape = None if found == reference.shape else found
        return self._requested_beside(reference, variable_name or name, initializer, shape)

    def add_variable(
        self,
        shape: Any = (),
        dtype: Any = None,
        initializer: Any = "zeros",
        name: str | None = None,
        *,
        aggregation: str | None = "none",
        layout: Any = None,
    ) -> Any:
        """Makes a state variable of the optimizer's own, for `update_step` to use.

        Args:
          shape: its shape.
          dtype: its dtype; by default the one in which Keras keeps numbers. By position the
            order of Keras 3, initializer and dtype, is understood, too.
          initializer: name of a Keras initializer, an initializer, or a callable
            `(shape, dtype) -> tensor`.
          name: its name.
          aggregation: "none" or "only_first_replica".
          layout: must be `None`; layouts are for other Keras backends.

        Returns:
          The variable; in a repeated `build` the one from before.
        """
        if callable(dtype) or (isinstance(dtype, str) and not _is_dtype(dtype)):
            given = None if initializer == "zeros" else initializer
            initializer, dtype = dtype, given
        return super().add_variable(  # type: ignore[misc]
            () if shape is None else shape,
            initializer,
            dtype or self.tko.keras.float_type(),
            aggregation,
            layout,
            name,
        )


def _is_dtype(name: str) -> bool:
    try:
        tf.as_dtype(name)
    except TypeError:
        return False
    return True
