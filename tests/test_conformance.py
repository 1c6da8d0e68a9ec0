"""The conformance kit: every optimizer passes it, and what is broken does not."""

import harness
import pytest
import tensorflow as tf
from test_own_optimizers import Lion, OursKerasStyle

import tf_keras_optim as tko
from tf_keras_optim import testing
from tf_keras_optim.optimizers.records import of

pytestmark = pytest.mark.xla_in_one_keras
# These have the whole kit: an operation of TensorFlow, factors of a matrix, a user's class.
WHOLE = (tko.Adam, tko.Adafactor, Lion)
# What other tests ask of every optimizer: the configuration (test_arguments.py,
# test_registry.py), and float64's numbers in functions, eager code or XLA (test_numerics.py,
# and test_muon.py, test_soap.py, test_prodigy.py, test_evaluation_weights.py).
ELSEWHERE = {"configuration", "serialization", "regimes", "objectives"}
# One of each kind of state has all the rest: slots that start elsewhere, norms, products,
# refreshed bases, weights to evaluate with, numbers over all variables.
KINDS = (tko.Ftrl, tko.Lamb, tko.Muon, tko.Soap, tko.ScheduleFreeAdamW, tko.Prodigy)


# What the engine does around an update of either kind: the others have one of two in turn.
IN_TURN = ("replicas", "accumulation")
PLACES = {cls: i for i, cls in enumerate(harness.OPTIMIZERS)}


def checks_of(cls):
    """The names of the checks that an optimizer is to pass here."""
    without = set() if cls in WHOLE else set(ELSEWHERE)
    if cls not in (*WHOLE, *KINDS):
        without.add(IN_TURN[PLACES[cls] % 2])
        if cls.elementwise:
            without.add("sparse")  # `lazy` gives slices with repeated rows, too
    return [name for name in testing.CHECKS if name not in without]


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", [*harness.OPTIMIZERS, Lion], ids=lambda c: c.__name__)
def test_every_optimizer_conforms(cls, strategy):
    # Compiled kernels are tested in test_numerics.py, and here with Adam's and Lion's.
    record = of(cls)
    compiled = record is None or cls is tko.Adam
    arguments = None if compiled else {**record.example, "jit_compile": False}
    checks = checks_of(cls)
    report = testing.check_optimizer(cls, arguments, only=checks, strategy=strategy)
    least = 11 if cls in WHOLE else 7 if cls in KINDS else 5
    assert len(report.results) == len(checks) >= least
    elementwise = cls in harness.OPTIMIZERS and cls.elementwise
    not_run = [result.name for result in report.results if result.status == "not run"]
    assert not_run == ([] if elementwise else ["lazy"])


def test_an_optimizer_in_the_way_of_keras_3_conforms():
    report = testing.check_optimizer(OursKerasStyle, {"learning_rate": 0.05, "momentum": 0.5})
    assert not report.failures


class Plain(tko.Optimizer):
    slots = ("last",)

    def update(self, gradient, value, slots, scalars):
        return value - scalars.learning_rate * gradient, {"last": gradient}


class ForgetsItsFactor(Plain):
    def __init__(self, learning_rate=0.05, factor=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.factor = factor

    def get_config(self):
        return super().get_config() | {"factr": self.factor}


class CountsInPython(Plain):
    calls = 0

    def update(self, gradient, value, slots, scalars):
        CountsInPython.calls += 1
        return super().update(gradient / CountsInPython.calls, value, slots, scalars)


class WantsFloat32(Plain):
    def update(self, gradient, value, slots, scalars):
        scale = tf.constant(0.5, tf.float32)
        return super().update(gradient * scale, value, slots, scalars)


class NotElementwise(Plain):
    elementwise = True

    def update(self, gradient, value, slots, scalars):
        return super().update(gradient / (1.0 + tf.norm(value)), value, slots, scalars)


class KeepsStateInPython(tko.Optimizer):
    def build(self, variables):
        super().build(variables)
        self.own = [tf.Variable(tf.zeros(v.shape)) for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        m = self.own[self._get_variable_index(variable)]
        m.assign(tf.cast(m, gradient.dtype) * 0.5 + gradient)
        self.assign_sub(variable, learning_rate * tf.cast(m, gradient.dtype))


class Climbs(Plain):
    def update(self, gradient, value, slots, scalars):
        return super().update(-gradient, value, slots, scalars)


class AveragesReplicas(Plain):
    def update(self, gradient, value, slots, scalars):
        count = tf.distribute.get_strategy().num_replicas_in_sync
        return super().update(gradient / count, value, slots, scalars)


BROKEN = {
    "configuration": ForgetsItsFactor,
    "regimes": CountsInPython,
    "dtypes": WantsFloat32,
    "lazy": NotElementwise,
    "resume": KeepsStateInPython,
    "objectives": Climbs,
    "replicas": AveragesReplicas,
}


@pytest.mark.one_keras
@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_found(check):
    cls = BROKEN[check]
    arguments = {"learning_rate": 0.05, "jit_compile": False}
    with pytest.raises(testing.ConformanceError, match=rf"FAILED +{check}") as caught:
        testing.check_optimizer(cls, arguments, only=[check])
    (result,) = caught.value.report.failures
    assert result.name == check
    assert result.detail
    testing.check_optimizer(Plain, arguments, only=[check])


@pytest.mark.one_keras
def test_a_report_is_a_table():
    report = testing.check_optimizer(Climbs, only=["objectives", "traces"], raises=False)
    title, first, *_, last = str(report).splitlines()
    assert title.startswith("Conformance of Climbs(learning_rate=0.05)")
    assert "FAILED   objectives  the loss of the quadratic went from 5.5 to " in first
    assert last.startswith("  passed   traces      1 trace in 6 eager calls")


def test_the_kit_refuses_what_it_cannot_check():
    for other in (tko.SGD(), tf.keras.optimizers.SGD, "adam"):
        with pytest.raises(TypeError, match="takes a subclass"):
            testing.check_optimizer(other)
    with pytest.raises(ValueError, match=r"'trace'.*Did you mean 'traces'"):
        testing.check_optimizer(tko.SGD, only=["trace"])
