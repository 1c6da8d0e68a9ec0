"""Options around a step: cautious steps, cautious weight decay, centralized gradients."""

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tf_keras_optim import testing

SHAPES = [(7,), (5, 3), (2, 3, 4)]
OPTIONS = {"cautious": True, "cautious_weight_decay": True, "centralize_gradients": True}
DECAY, LIMIT = 0.5, 1.5
AROUND = {"weight_decay": DECAY, "clipvalue": LIMIT}
ALGORITHMS = {
    "Adam": (tko.Adam, "adam", {"learning_rate": 0.01}),
    "SGD": (tko.SGD, "sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    "Lion": (tko.Lion, "lion", {"learning_rate": 0.01}),
}


def expected(name, chosen, gradients, starts):
    """The weights in float64: clipped, centralized, decayed, stepped, masked, decayed."""
    _, oracle, arguments = ALGORITHMS[name]
    step, defaults = oracles.ALGORITHMS[oracle]
    values, found = defaults | arguments, []
    rate = values["learning_rate"]
    for i, w in enumerate(starts):
        slots, history = {}, []
        for batch in gradients:
            g = np.clip(batch[i], -LIMIT, LIMIT)
            if "centralize_gradients" in chosen and g.ndim >= 2:
                g = g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True)
            before = w
            if "cautious_weight_decay" not in chosen:
                before = w - rate * DECAY * w
            history.append(values)
            moved = before - step(before, g, slots, history)
            if "cautious" in chosen:
                mask = moved * g > 0
                moved = moved * mask / max(mask.mean(), 1e-3)
            after = before - moved
            if "cautious_weight_decay" in chosen:
                after = after - rate * DECAY * w * (moved * w > 0)
            w = after
        found.append(w)
    return found


CASES = [
    *(("Adam", (name,), "function") for name in OPTIONS),
    ("Adam", tuple(OPTIONS), "eager"),
    ("SGD", tuple(OPTIONS), "function"),
    ("Lion", tuple(OPTIONS), "xla"),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("name", "chosen", "regime"), CASES, ids=str)
def test_options_are_applied_in_their_order(name, chosen, regime):
    cls, _, arguments = ALGORITHMS[name]
    gradients, starts = harness.gradient_sequence(20, SHAPES), harness.starts(SHAPES)
    optimizer = cls(**arguments, **AROUND, **dict.fromkeys(chosen, True))
    values = harness.run(optimizer, gradients, starts, regime)
    wanted = expected(name, chosen, gradients, starts)
    assert harness.distance_error(values, wanted, starts) <= 2e-5
    for left_out in chosen:  # each has an effect
        others = [option for option in chosen if option != left_out]
        wanted = expected(name, others, gradients, starts)
        assert harness.distance_error(values, wanted, starts) > 1e-3


@pytest.mark.one_keras
def test_a_step_against_every_gradient_is_left_out():
    """The mask is empty; one element of three moves three times as far."""
    optimizer = tko.SGD(0.5, momentum=1.0, cautious=True)
    variable = tf.Variable([1.0, 1.0, 1.0])
    for gradient in ([4.0, 4.0, 4.0], [-1.0, -1.0, -1.0]):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_array_equal(variable.numpy(), [-1.0] * 3)
    optimizer.apply_gradients([(tf.constant([1.0, -1.0, -1.0]), variable)])  # 2, 1, 1
    np.testing.assert_allclose(variable.numpy(), [-7.0, -1.0, -1.0], rtol=1e-6)
    optimizer.learning_rate = 0.0
    optimizer.momentum = 0.0
    optimizer.apply_gradients([(tf.constant([1.0, 1.0, 1.0]), variable)])
    np.testing.assert_allclose(variable.numpy(), [-7.0, -1.0, -1.0], rtol=1e-6)


@pytest.mark.one_keras
def test_options_hold_in_replicas_after_resuming_and_under_accumulation(strategy):
    testing.check_optimizer(
        tko.AdamW,
        {"learning_rate": 0.01, "weight_decay": 0.5, "jit_compile": False, **OPTIONS},
        only=["replicas", "resume", "accumulation"],
        strategy=strategy,
    )


@pytest.mark.one_keras
def test_averages_and_master_copies_take_what_is_masked():
    gradients, starts = harness.gradient_sequence(5, SHAPES), harness.starts(SHAPES)
    options = {"cautious": True, "use_ema": True, "ema_momentum": 0.0, "jit_compile": False}
    optimizer = tko.LossScaleOptimizer(tko.Adam(0.01, **AROUND, **options))
    variables = [tf.Variable(s, dtype=tf.float32) for s in starts]
    scale = optimizer.initial_scale if harness.IS_KERAS_3 else 1.0  # there they are unscaled
    scaled = [[g * scale for g in batch] for batch in gradients]
    values = harness.run(optimizer, scaled, starts, variables=variables)
    wanted = expected("Adam", ["cautious"], gradients, starts)
    assert harness.distance_error(values, wanted, starts) <= 2e-5
    averages = [np.asarray(a).astype("d") for a in state.averages(optimizer)]
    assert harness.distance_error(averages, wanted, starts) <= 2e-5


@pytest.mark.one_keras
def test_narrow_weights_step_with_all_digits_that_are_kept():
    gradients, starts = harness.gradient_sequence(6, SHAPES[1:2]), harness.starts(SHAPES[1:2])
    wanted = expected("Adam", tuple(OPTIONS), gradients, starts)
    for dtype in (tf.float16, tf.float64):
        optimizer = tko.Adam(0.01, jit_compile=False, **AROUND, **OPTIONS)
        variables = [tf.Variable(start, dtype=dtype) for start in starts]
        values = harness.run(optimizer, gradients, starts, variables=variables)
        rounded = [np.asarray(w, dtype.as_numpy_dtype).astype("d") for w in wanted]
        np.testing.assert_allclose(values[0], rounded[0], rtol=2e-3, atol=1e-5)


@pytest.mark.one_keras
def test_rows_that_are_lazy_may_decay_cautiously():
    rows, start = tf.constant([0, 2]), np.array([[1.0, -1.0]] * 3, "f")
    table = tf.Variable(start)
    optimizer = tko.SGD(0.5, sparse="lazy", weight_decay=0.5, cautious_weight_decay=True)
    gradient = tf.IndexedSlices(tf.ones([2, 2]), rows, tf.constant([3, 2]))
    optimizer.apply_gradients([(gradient, table)])
    moved = [[0.5 - 0.25, -1.5]]  # the second element goes away from 0, and does not decay
    np.testing.assert_array_equal(table.numpy(), [*moved, *start[1:2], *moved])


class Steps(tko.Optimizer):
    def update_step(self, gradient, variable, learning_rate):
        variable.assign_sub(learning_rate * gradient)


class OwnClips(tko.SGD):
    def _clip_gradients(self, gradients):
        return gradients


def test_what_does_not_go_together_is_refused_by_name():
    for name in OPTIONS:
        with pytest.raises(ValueError, match=rf"Steps: argument `{name}`=True needs an algo"):
            Steps(0.1, **{name: True})
        with pytest.raises(ValueError, match=rf"OwnClips.*`{name}=True` is not possible"):
            OwnClips(0.1, **{name: True})
    for name in ("cautious", "centralize_gradients"):
        for sparse in ("lazy", {"table": "lazy"}):
            with pytest.raises(ValueError, match=rf"`{name}` takes a mean over all rows"):
                tko.Adam(sparse=sparse, **{name: True})
    refused = r"`cautious_weight_decay`=True is not possible where the update applies"
    for cls, options in (
        (tko.LARS, {}),
        (tko.Adan, {}),
        (tko.Lamb, {"decay_in_trust_ratio": True}),
    ):
        with pytest.raises(ValueError, match=refused):
            cls(cautious_weight_decay=True, **options)
    assert tko.Adan(cautious_weight_decay=True, proximal_decay=False).cautious_weight_decay
    with pytest.raises(ValueError, match="`decoupled_weight_decay`=False exclude one another"):
        tko.Adam(cautious_weight_decay=True, decoupled_weight_decay=False)
    with pytest.raises(ValueError, match=r"`cautious`=True has no counterpart"):
        tko.to_keras(tko.Adam(cautious=True))


def test_a_configuration_has_them_where_they_are_set():
    assert set(OPTIONS).isdisjoint(tko.Adam().get_config())
    config = tko.Adam(**OPTIONS).get_config()
    assert {name: config[name] for name in OPTIONS} == OPTIONS
    assert tko.Adam.from_config(config).get_config() == config


@pytest.mark.one_keras
def test_tensorflows_operation_is_not_taken_with_them():
    variables = [tf.Variable(tf.ones([3])), tf.Variable(tf.ones([3, 2]))]
    for options, kernels in (
        ({}, ["fused", "fused"]),
        ({"cautious": True}, ["xla", "xla"]),
        ({"centralize_gradients": True}, ["fused", "xla"]),
        ({"weight_decay": 0.1, "cautious_weight_decay": True}, ["xla", "xla"]),
    ):
        optimizer = tko.Adam(**options)
        optimizer.build(variables)
        assert [row.kernel for row in state.reports(optimizer)] == kernels
