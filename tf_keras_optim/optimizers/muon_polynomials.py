"""The polynomials of Muon: lists of triples (a, b, c), by name or given."""

from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.numerics.matrices import Triple

# By name: the triples, and the factor on the norm that they ask for.
_POLYNOMIALS: dict[str, tuple[list[Triple], float]] = {
    "jordan": ([(3.4445, -4.775, 2.0315)] * 5, 1.0),
    "polar": (
        [
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ],
        1.02,
    ),
}


class Polynomial(Hyperparameter):
    """The name of a list of triples (a, b, c), the list itself, or `None`."""

    def __init__(self, doc: str):
        super().__init__(None, kind=list, keyword_only=True, doc=doc)

    def check(self, value: Any, owner: str) -> Any:
        """Returns a name, a list of lists of three numbers, or `None`."""
        if value is None or (isinstance(value, str) and value in _POLYNOMIALS):
            return value
        number = Hyperparameter(0.0)
        number.name = self.name
        given = value if isinstance(value, (list, tuple)) else ()
        if given and all(isinstance(t, (list, tuple)) and len(t) == 3 for t in given):
            return [[number.check(x, owner) for x in triple] for triple in given]
        raise ValueError(
            f"{owner}: argument `{self.name}` must be {', '.join(map(repr, _POLYNOMIALS))}, a "
            f"list of triples of numbers (a, b, c), or None. Received: {self.name}={value!r}."
        )


def coefficients(arguments: Any) -> tuple[list[Triple], float]:
    """Returns the triples to apply, and the factor on the norm that they ask for.

    Args:
      arguments: what has Muon's arguments as attributes.
    """
    given = arguments.polynomial
    if isinstance(given, str):
        return _POLYNOMIALS[given]
    if given is not None:
        return [tuple(triple) for triple in given], 1.0
    triple = (arguments.muon_a, arguments.muon_b, arguments.muon_c)
    return [triple] * arguments.ns_steps, 1.0
