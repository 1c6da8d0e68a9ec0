"""The optimizer's state in SavedModel directories of Keras 2.

tf_keras writes it there and does not read it: `load_model` makes the optimizer anew. Here it
is read as well, where the optimizer is one of this package.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.keras_compat import keras_private
from tf_keras_optim.optimizers.base import Optimizer


def _restoring(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_with_state(path: str, *args: Any, **kwargs: Any) -> Any:
        model = load(path, *args, **kwargs)
        optimizer = getattr(model, "optimizer", None)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(inner, Optimizer):
            _restore(model, os.path.join(path, "variables", "variables"))
        return model

    return load_with_state


def _restore(model: Any, prefix: str) -> None:
    """Gives the optimizer of a loaded model its state.

    Variables that became trainable after the last step before saving have no slots in the
    directory: theirs begin here.

    Raises:
      AssertionError: the directory has not all of it.
    """
    names = [name for name, _ in tf.train.list_variables(prefix)]
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not any(name.startswith("optimizer/loss_scale/") for name in names):
        # Keras' own wrapper may be new; ours is the optimizer inside, in checkpoints.
        optimizer = inner
    status = tf.train.Checkpoint(optimizer=optimizer).read(prefix).expect_partial()
    status.assert_existing_objects_matched()
    # A slot's name is a path, whose slashes TensorFlow writes as ".S".
    if any(name.startswith("optimizer/") and ".S" in name for name in names):
        model.optimizer.build(model.trainable_variables)
        restorer = inner.tko.state.restorer
        if not restorer.unknown:
            status.assert_existing_objects_matched()
        elif restorer.lacking:
            raise AssertionError(
                f"{inner.tko.title}: {prefix!r} lacks {', '.join(restorer.lacking)}."
            )


def _watch() -> None:
    """Has Keras 2 restore the optimizers of this package; Keras 3 has no such directories."""
    if not keras_private.IS_KERAS_3:
        consequence = (
            "an optimizer does not take its state from a SavedModel directory that "
            "`tf_keras.models.load_model` reads. Load its state with `tko.load_state`."
        )
        keras_private.replace("saving.legacy.saved_model.load", "load", _restoring, consequence)


_watch()
