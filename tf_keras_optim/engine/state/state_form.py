"""The form of an optimizer's state by name."""

from collections.abc import Mapping
from typing import Any

from tf_keras_optim.engine.state.evaluation import EVALUATING
from tf_keras_optim.engine.state.fingerprints import is_fingerprint
from tf_keras_optim.engine.step import accumulation

FORMAT = "tf_keras_optim.state"
VERSION = 1


def check_form(state: Any, title: str) -> None:
    """Checks that a value is a state dict that this version can read.

    Raises:
      TypeError: it is no mapping.
      ValueError: its format, version or sections are not as expected.
    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{title}: argument `state` must be what `state_dict()` returned, a dict. "
            f"Received: {type(state).__name__}."
        )
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{title}: this is no state of an optimizer of tf_keras_optim: 'format' is "
            f"{state.get('format')!r}, expected {FORMAT!r}. Keys: {list(state)[:10]}. For "
            "the state of other libraries use `tf_keras_optim.convert`."
        )
    if not isinstance(state.get("version"), int) or not 1 <= state["version"] <= VERSION:
        raise ValueError(
            f"{title}: the state has format version {state.get('version')!r}; this release "
            f"reads versions 1 to {VERSION}. Install a later tf_keras_optim."
        )
    for section in ("scalars", "variables", "extra"):
        if not isinstance(state.get(section), Mapping):
            raise ValueError(
                f"{title}: section {section!r} of the state must be a dict. Received: "
                f"{type(state.get(section)).__name__}."
            )
    for path, slots in state["variables"].items():
        if not isinstance(slots, Mapping):
            raise ValueError(
                f"{title}: the state of variable {path!r} must be a dict of slots. "
                f"Received: {type(slots).__name__}."
            )
    told = state.get("meanings") or {}
    if not isinstance(told, Mapping) or not all(isinstance(t, str) for t in told.values()):
        raise ValueError(
            f"{title}: section 'meanings' of the state must be a dict of texts by slot. "
            f"Received: {str(told)[:200]}."
        )
    accumulation.check_saved(state, title)
    if not isinstance(state.get(EVALUATING, False), bool):
        raise ValueError(
            f"{title}: section {EVALUATING!r} of the state must be True or False. Received: "
            f"{state[EVALUATING]!r}."
        )
    weights = state.get("weights") or {}
    if not isinstance(weights, Mapping) or not all(map(is_fingerprint, weights.values())):
        raise ValueError(
            f"{title}: section 'weights' of the state must be a dict with shape, dtype and "
            f"crc32 of each variable. Received: {str(weights)[:200]}."
        )
