"""Optimizers that users write, taken from docs/own-optimizer.md as they stand there."""

import functools
import pathlib
import re

import harness
import keras as keras_3
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko

pytestmark = pytest.mark.xla_in_one_keras
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "own-optimizer.md"
SOURCE = PAGE.read_text()


def example(name, replacements=()):
    """Runs the named example of the page; returns what it defines."""
    code = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", SOURCE, re.S).group(1)
    for old, new in replacements:
        assert old in code
        code = code.replace(old, new)
    namespace = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), namespace)
    return namespace


def keras_class():
    """The very same text on Keras' own base class: what "unchanged" means."""
    names = [
        ("tko.Optimizer", "keras.optimizers.Optimizer"),
        ("import tf_keras_optim as tko", "import keras"),
    ]
    return example("keras_style", names)["MomentumSGD"]


Lion = example("lion")["Lion"]
OursKerasStyle = example("keras_style")["MomentumSGD"]


def test_lion_is_as_short_as_promised():
    text = re.search(r"class Lion.*?\n```", SOURCE, re.S).group(0)
    assert len(text.splitlines()) - 1 <= 15


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_lion_equals_its_paper(regime):
    gradients, starts = harness.gradient_sequence(50), harness.starts()
    values = harness.run(Lion(0.01), gradients, starts, regime)
    expected = [
        oracles.lion(start, [batch[i] for batch in gradients], 0.01)
        for i, start in enumerate(starts)
    ]
    assert harness.distance_error(values, expected, starts) <= 2e-5


@pytest.mark.one_keras
def test_lion_has_all_that_comes_with_the_base_class(strategy):
    arguments = {
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "global_clipnorm": 0.5,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 2,
        "jit_compile": False,
    }
    gradients, starts = harness.gradient_sequence(12), harness.starts()
    shares = [[[0.25 * g for g in batch], [0.75 * g for g in batch]] for batch in gradients]
    _, values = harness.run_in_replicas(strategy, lambda: Lion(**arguments), shares, starts)
    expected = harness.run(Lion(**arguments), gradients, starts)
    for value, other in zip(values, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    config = Lion(beta_1=0.5, **arguments).get_config()
    assert Lion.from_config(config).get_config() == config
    with pytest.raises(TypeError, match="Did you mean 'beta_2'"):
        Lion(betta_2=0.5)


FULL = {
    "global_clipnorm": 0.05,
    "weight_decay": 0.1,
    "use_ema": True,
    "ema_momentum": 0.5,
    "loss_scale_factor": 8.0,
}


@functools.cache
def peer_in_fit(full):
    """Weights and losses of the class on Keras' own base; numbers that no mode changes."""
    options = FULL if full else {}
    if harness.IS_KERAS_3:
        model, losses = harness.fit(keras_class()(0.1, **options))
    else:  # the class is Keras 3's; the same algorithm of this Keras stands in
        model, losses = harness.fit(tko.SGD(0.1, momentum=0.9, **options))
    return model.get_weights(), losses


# Each Keras has some of the modes, and its own default; `test_fit.py` has all of them in both.
IN_FIT = [({}, False), ({"jit_compile": True}, True), ({"steps_per_execution": 4}, True)]
if not harness.IS_KERAS_3:
    IN_FIT = [({}, False), ({"jit_compile": False}, True), ({"run_eagerly": True}, True)]


@pytest.mark.parametrize(("mode", "full"), IN_FIT, ids=str)
def test_the_keras_way_equals_kerass_base_in_fit(mode, full):
    ours, losses = harness.fit(OursKerasStyle(0.1, **(FULL if full else {})), **mode)
    expected, others = peer_in_fit(full)
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for value, reference in zip(ours.get_weights(), expected):
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-6)


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="the peer is a Keras 3 class")
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_keras_way_equals_kerass_base_in_loops(strategy, replicas):
    gradients, starts = harness.gradient_sequence(10), harness.starts()
    if replicas == 1:
        values = harness.run(OursKerasStyle(0.1), gradients, starts, "function")
        expected = harness.run(keras_class()(0.1), gradients, starts, "function")
    else:
        shares = [[[0.5 * g for g in batch]] * 2 for batch in gradients]
        _, values = harness.run_in_replicas(
            strategy, lambda: OursKerasStyle(0.1), shares, starts
        )
        _, expected = harness.run_in_replicas(
            strategy, lambda: keras_class()(0.1), shares, starts
        )
    for value, other in zip(values, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="the peer is a Keras 3 class")
def test_the_keras_way_equals_kerass_base_under_a_strategy_in_fit(strategy):
    with strategy.scope():
        ours, _ = harness.fit(OursKerasStyle(0.1))
        other, _ = harness.fit(keras_class()(0.1))
    for value, expected in zip(ours.get_weights(), other.get_weights()):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


EVERYTHING = FULL | {"gradient_accumulation_steps": 2, "ema_overwrite_frequency": 3}


@functools.cache
def everything_by_sgd():
    """Our own SGD, whose options are tested one by one elsewhere, in `fit`."""
    return harness.fit(tko.SGD(0.1, momentum=0.9, **EVERYTHING))[0].get_weights()


@pytest.mark.one_keras
@pytest.mark.parametrize(("replicas", "jit"), [(1, "auto"), (1, True), (2, False), (2, True)])
def test_the_keras_way_has_every_option_in_every_regime(strategy, replicas, jit):
    with harness.scope_of(strategy, replicas):
        ours, _ = harness.fit(OursKerasStyle(0.1, jit_compile=jit, **EVERYTHING))
    for value, reference in zip(ours.get_weights(), everything_by_sgd()):
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-6)
    assert ours.optimizer.jit_compile_used is (jit is True)


@pytest.mark.one_keras
def test_the_keras_way_in_eager_function_and_xla():
    gradients, starts = harness.gradient_sequence(10), harness.starts()
    sgd = tko.SGD(0.1, momentum=0.9, jit_compile=False, **EVERYTHING)
    expected = harness.run(sgd, gradients, starts, "function")
    for regime in harness.REGIMES:
        values = harness.run(OursKerasStyle(0.1, **EVERYTHING), gradients, starts, regime)
        for value, other in zip(values, expected):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-6, err_msg=regime)


def test_the_keras_way_keeps_its_slots_when_the_model_grows():
    a, b = tf.Variable([1.0], name="a"), tf.Variable([1.0], name="b")
    optimizer = OursKerasStyle(0.5)
    optimizer.apply_gradients([(tf.constant([1.0]), b)])
    optimizer.build([a, b])
    np.testing.assert_allclose([m.numpy()[0] for m in optimizer.momentums], [0.0, -0.5])
    optimizer.apply_gradients([(tf.constant([1.0]), v) for v in (a, b)])
    np.testing.assert_allclose([m.numpy()[0] for m in optimizer.momentums], [-0.5, -0.95])
    assert len(optimizer.variables) == (4 if harness.IS_KERAS_3 else 3)


@pytest.mark.one_keras
def test_a_subclass_of_ours_may_change_its_update_step():
    class Halved(tko.Adam):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, 0.5 * learning_rate)

    gradients, starts = harness.gradient_sequence(5), harness.starts()
    expected = harness.run(tko.Adam(0.01), gradients, starts, "function")
    for regime in harness.REGIMES:
        values = harness.run(Halved(0.02), gradients, starts, regime)
        for value, other in zip(values, expected):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-7)


@pytest.mark.one_keras
def test_what_update_returns_is_checked():
    def optimizer_returning(result):
        class Wrong(tko.Optimizer):
            slots = ("momentum",)

            def update(self, gradient, value, slots, scalars):
                return result(gradient, value, slots)

        return Wrong()

    cases = [
        (lambda g, w, s: w, TypeError, "must return a pair"),
        (lambda g, w, s: (w, {}), ValueError, "exactly the declared slots"),
        (
            lambda g, w, s: (tf.reduce_sum(w), s),
            ValueError,
            "value of 'the variable' with shape",
        ),
        (lambda g, w, s: (w, {"momentum": 0.0 * s["momentum"][0]}), ValueError, "'momentum'"),
    ]
    for result, kind, message in cases:
        variable = tf.Variable([1.0, 2.0])
        with pytest.raises(kind, match=message):
            optimizer_returning(result).apply_gradients([(tf.ones([2]), variable)])
        assert variable.numpy().tolist() == [1.0, 2.0]


def test_an_unknown_scalar_is_explained():
    class Wrong(tko.Optimizer):
        def update(self, gradient, value, slots, scalars):
            return value - scalars.alhpa * gradient, {}

    with pytest.raises(AttributeError, match="have no 'alhpa'"):
        Wrong().apply_gradients([(tf.ones([2]), tf.Variable([1.0, 2.0]))])


def test_a_forgotten_super_init_is_explained():
    class Wrong(tko.Adam):
        def __init__(self):
            self.scale = self.beta_1

    with pytest.raises(AttributeError, match="super"):
        Wrong()


def test_keras_3_is_the_base_of_the_example():
    assert issubclass(keras_class(), keras_3.optimizers.Optimizer)
    assert issubclass(OursKerasStyle, tf.keras.optimizers.Optimizer)
