"""Variables of one kind in one step: each moves as it does alone, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

# One shape under several dtypes, and several shapes, in turn; each kind more than three times.
KINDS = [("float32", (2,)), ("float64", (2,)), ("float32", (3,)), ("bfloat16", (2,))] * 4
OPTIONS = {"weight_decay": 0.1, "clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.5}


class Mean(tko.SGD):
    """Measures, so its numbers are those of all variables."""

    def measure(self, gradient, value, slots, scalars):
        return {"sum": tf.reduce_sum(tf.cast(gradient, tf.float64))}

    def conclude(self, sums, scalars):
        return {"factor": sums["sum"] * 0.125}

    def update(self, gradient, value, slots, scalars):
        return value - scalars.factor * gradient, slots


def made(kinds):
    generator = np.random.default_rng(0)
    values = [generator.normal(size=shape) for _, shape in kinds]
    variables = [tf.Variable(v, dtype=dtype) for v, (dtype, _) in zip(values, kinds)]
    return variables, [tf.cast(0.5 * v, w.dtype) for v, w in zip(values, variables)]


def stepped(optimizer, gradients, variables, way):
    def step():
        optimizer.apply_gradients(list(zip(gradients, variables)))

    if way != "eager":
        step = tf.function(step, autograph=False)
    step()
    step()


@pytest.mark.one_keras
@pytest.mark.parametrize(("way", "compiled"), [("eager", False), ("function", True)])
def test_variables_move_as_alone(way, compiled):
    variables, gradients = made(KINDS)
    stepped(tko.Adam(0.1, jit_compile=compiled, **OPTIONS), gradients, variables, way)
    others, _ = made(KINDS)
    places = (0, 3)  # the first and the last of each kind
    for place in places:
        chosen, given = others[4 * place : 4 * place + 4], gradients[4 * place : 4 * place + 4]
        stepped(tko.Adam(0.1, jit_compile=compiled, **OPTIONS), given, chosen, way)
        for variable, other in zip(variables[4 * place : 4 * place + 4], chosen):
            np.testing.assert_array_equal(variable.numpy(), other.numpy())


@pytest.mark.one_keras
def test_numbers_over_variables_of_one_kind():
    variables, gradients = made(KINDS[:1] * 5)
    expected = [v.numpy().astype("d") for v in variables]
    slopes = [g.numpy().astype("d") for g in gradients]
    stepped(Mean(jit_compile=False), gradients, variables, "eager")
    factor = 2.0 * 0.125 * sum(s.sum() for s in slopes)
    for variable, value, slope in zip(variables, expected, slopes):
        np.testing.assert_allclose(variable.numpy(), value - factor * slope, rtol=2e-6)
