"""Classes as people write them for Keras' base end alike on ours, or are refused by name.

`python -m tests.own_classes` runs all of them in all regimes; here each is run in two.
"""

import inspect

import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.own_classes import cases, compare, listed, regimes
from tf_keras_optim.keras_compat import keras_private_order as order

CASES = listed.cases()
BASE = tf.keras.optimizers.Optimizer
# Each class in one regime without a compilation, and the others with one or two classes.
LIGHT = ("function", "sparse", *regimes.OPTIONS)
HEAVY = {
    "fit": ["NormalizedPairs"],
    "fit_eagerly": ["CountsInPython"],
    "mixed": ["AdaptiveClip", "HalfBeforeAll"],
    "file": ["AsksForVariables", "AsDocumented"],
    "replicas": ["ByMoments"],
    "no_input": ["DecayOfSome"],
    "xla": ["RateProperty"],
}
CHOSEN = [(name, LIGHT[i % len(LIGHT)]) for i, name in enumerate(CASES)]
CHOSEN += [(name, regime) for regime in HEAVY for name in HEAVY[regime] if name in CASES]


@pytest.mark.parametrize("name", CASES)
def test_it_ends_alike_in_eager_code(name):
    outcome = compare.compare(CASES[name], "eager")
    assert outcome.good, outcome.text


@pytest.mark.parametrize(("name", "regime"), CHOSEN)
def test_it_ends_alike_in_another_regime(name, regime):
    outcome = compare.compare(CASES[name], regime)
    assert outcome.good, outcome.text


def counted(base, name, made=None):
    """How often a method is called in some steps, where a subclass overrides it."""
    calls = []

    def method(self, *args, **kwargs):
        calls.append(name)
        return getattr(super(cls, self), name)(*args, **kwargs)

    cls = type("Same", (base,), {name: method})
    options = {"gradient_accumulation_steps": 2} if cases.KERAS == 3 else {}
    optimizer = cls(
        0.1, weight_decay=0.1, clipnorm=1.0, use_ema=True, ema_overwrite_frequency=1, **options
    )
    variables = [tf.Variable([[1.0, 2.0]]), tf.Variable([3.0])]
    optimizer.build(variables)
    calls.clear()
    for _ in range(2):
        optimizer.apply_gradients([(tf.ones(v.shape), v) for v in variables])
    optimizer.finalize_variable_values(variables)
    return len(calls)


METHODS = [
    name
    for name in dict.fromkeys(order.methods_of(BASE))
    if inspect.isfunction(inspect.getattr_static(BASE, name))
]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_keras_is_called_as_there_or_refused(name):
    if name in order.REFUSED:
        with pytest.raises(TypeError, match=f"Same overrides `{name}`"):
            counted(tko.SGD, name)
    elif name not in order.CALLED:
        in_keras = counted(tf.keras.optimizers.SGD, name)
        assert (counted(tko.SGD, name) > 0) >= (in_keras > 0)


def test_there_are_decisions_for_methods_that_exist():
    assert len(METHODS) > 30
    assert {"learning_rate", "_clip_gradients", "_apply_weight_decay"} <= set(
        order.methods_of(BASE)
    )
