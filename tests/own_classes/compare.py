"""One class in one regime, on both bases."""

import dataclasses
import warnings

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests.own_classes import regimes
from tests.own_classes.cases import KERAS

BOUND = 2e-5
EQUAL, REFUSED, NONE, WRONG = "equal", "refused", "-", "WRONG"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
      kind: "equal"; "refused" by name when it was made; "-" where Keras itself cannot, or
        where there is no such option; else "WRONG".
      text: what there is to say of it.
    """

    kind: str
    text: str = ""

    @property
    def good(self):
        return self.kind != WRONG


class RefusedError(Exception):
    """A class or an optimizer could not be made."""


def _maker(case, optimizers):
    def make(**options):
        try:
            optimizer = case.make(optimizers)(**case.arguments, **options)
        except (TypeError, ValueError) as error:
            raise RefusedError(str(error)) from error
        case.prepare(optimizer)
        return optimizer

    return make


def _applies(case, regime):
    if regime in regimes.OPTIONS and not case.options:
        return False
    if regime == "overwrite":
        return KERAS == 3  # in Keras 2 the averages start elsewhere, on purpose
    return not (regime == "accumulation" and KERAS == 2)


def compare(case, regime):
    """Returns the outcome of a class in a regime."""
    if not _applies(case, regime):
        return Outcome(NONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = regimes.run(regime, _maker(case, tf.keras.optimizers))
            if regime == "file":
                tf.keras.utils.set_random_seed(0)
                whole = regimes.uninterrupted(_maker(case, tf.keras.optimizers)())
                if _distance(expected, whole) > BOUND:
                    expected = whole  # Keras loses some of the state
        except Exception as error:
            return Outcome(NONE, f"Keras: {_line(error)}")
        try:
            found = regimes.run(regime, _maker(case, tko))
        except RefusedError as error:
            named = case.name in str(error) and "`" in str(error)
            return Outcome(REFUSED if named else WRONG, _line(error))
        except Exception as error:
            return Outcome(WRONG, _line(error))
    distance = _distance(found, expected)
    return Outcome(EQUAL if distance <= BOUND else WRONG, f"{distance:.1e}")


def _line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _distance(found, expected):
    pairs = list(zip(found, expected))
    return max(float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)))) for a, b in pairs)
