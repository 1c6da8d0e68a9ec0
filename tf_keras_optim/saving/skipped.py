"""The optimizer's state where Keras loads weights of which it skips what does not fit.

Keras does not say so to what it loads, and its second generation loads the optimizer before
the weights. So the function that loads is told from here, and what waited for the weights is
taken over when it returns.
"""

import functools
from collections.abc import Callable
from typing import Any

from tf_keras_optim.engine.state import skipping
from tf_keras_optim.keras_compat import keras_private
from tf_keras_optim.optimizers.base import Optimizer


def _skipping(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_weights_only(
        model: Any, filepath: Any, skip_mismatch: bool = False, **further: Any
    ) -> Any:
        if not skip_mismatch:
            return load(model, filepath, skip_mismatch=skip_mismatch, **further)
        with skipping.skip_mismatches():
            found = load(model, filepath, skip_mismatch=True, **further)
        optimizer = getattr(model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(optimizer, Optimizer) and optimizer.built:
            optimizer.tko.state.load_pending(force=True)
        return found

    return load_weights_only


def _watch() -> None:
    """Has Keras say when it skips; one wrapper around the one function that loads."""
    consequence = (
        "an optimizer does not take its state from a file of weights that is loaded with "
        "`skip_mismatch=True`. Load its state with `tko.load_state`."
    )
    keras_private.replace("saving.saving_lib", "load_weights_only", _skipping, consequence)


_watch()
