"""Setting an optimizer's state variables, whatever graph or replica this is."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.tensorflow import distribution


def assign(context: Context, assignments: Sequence[tuple[tf.Variable, np.ndarray]]) -> None:
    """Sets state variables to arrays of their shapes and dtypes, which count from now on."""
    with tf.init_scope():
        for variable, value in assignments:
            distribution.set_everywhere(variable, np.asarray(value))
    context.store.was_set(variable for variable, _ in assignments)
