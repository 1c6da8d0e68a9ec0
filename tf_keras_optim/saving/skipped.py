"""The optimizer's state where Keras loads weights of which it skips what does not fit.

Keras does not say so to what it loads, and its second generation loads the optimizer before
the weights. So the function that loads is told from here, and what waited for the weights is
taken over when it returns.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from tf_keras_optim.engine import skipping
from tf_keras_optim.faces.running import keras
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
            optimizer._load_waiting(force=True)
        return found

    return load_weights_only


def _watch() -> None:
    """Has Keras say when it skips; one wrapper around the one function that loads."""
    root = "tf_keras" if keras.__name__.startswith("tf_keras") else "keras"
    library: Any = importlib.import_module(f"{root}.src.saving.saving_lib")
    library.load_weights_only = _skipping(library.load_weights_only)


_watch()
