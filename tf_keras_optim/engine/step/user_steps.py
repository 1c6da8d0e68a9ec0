"""The step of an optimizer that people write with an `update_step`."""

from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import gradients as incoming
from tf_keras_optim.engine.step.step import Step


class UserStep(Step):
    """The update of one set of variables by a user-written `update_step`.

    Called eagerly, it runs eagerly, as what such a method does in Python (counters, branches,
    attributes that change) would be done once only in a traced function; with
    `jit_compile=True` it is traced. Sparse gradients stay slices, of which no row stands twice.
    """

    def _call(
        self,
        gradients: list[Any],
        asked: dict[str, tf.Tensor],
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        if self._context.options.jit_compile is True:
            super()._call(gradients, asked, bad_elsewhere)
            return
        count = self._context.traces.count
        try:
            self._body(gradients, asked, bad_elsewhere)
        finally:
            self._context.traces.count = count

    def _taken(self, entry: VariableState, gradient: Any) -> Any:
        if entry.overwrite or self.plan.calls > 1:
            return super()._taken(entry, gradient)
        gradient = incoming.taken(entry, gradient, keeps_rows=True)
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        shape = tf.constant(entry.variable.shape.as_list(), gradient.indices.dtype)
        return tf.IndexedSlices(gradient.values, gradient.indices, shape)
