"""Prodigy: what its oracle over whole runs does not show."""

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state

SHAPES = ((4, 3), (5,))
STEPS = 60
oracle = oracles.over_a_list("prodigy")


def bowl(shapes=SHAPES):
    """Curvatures and starts of a quadratic around 0."""
    generator = np.random.default_rng(3)
    curvatures = [generator.uniform(0.5, 5.0, s).astype("f").astype("d") for s in shapes]
    starts = [generator.normal(0.0, 0.1, s).astype("f").astype("d") for s in shapes]
    return curvatures, starts


def flat(arrays):
    return np.concatenate([np.ravel(np.asarray(a, "d")) for a in arrays])


def descend(optimizer, curvatures, variables, steps=STEPS, regime="function"):
    optimizer.build(variables)

    def step():
        optimizer.apply_gradients(
            [(tf.cast(c, v.dtype) * v, v) for c, v in zip(curvatures, variables)]
        )

    if regime != "eager":
        step = tf.function(step, jit_compile=regime == "xla", autograph=False)
    for _ in range(steps):
        step()
    return flat(variables), float(optimizer.d.numpy())


def reference(curvatures, starts, steps=STEPS, **given):
    """The final weights and d of the same in float64, on one vector."""
    step, defaults = oracles.ALGORITHMS["prodigy"]
    w, c, slots = flat(starts), flat(curvatures), {}
    for _ in range(steps):
        w = step(w, c * w, slots, [defaults | given])
    return w, slots["d"]


def made(starts, dtype=tf.float32):
    return [tf.Variable(start, dtype=dtype) for start in starts]


CASES = {
    "plain": {},
    "all": {
        "growth_rate": 1.3,
        "use_bias_correction": True,
        "safeguard_warmup": True,
        "weight_decay": 0.1,
        "beta_3": 0.98,
        "d_coefficient": 0.5,
    },
}


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("case", "regime", "jit"),
    [("plain", "eager", "auto"), ("plain", "xla", "auto"), ("all", "function", False)],
)
def test_d_after_sixty_updates(case, regime, jit):
    curvatures, starts = bowl()
    options = {"initial_d": 1e-5, **CASES[case]}
    optimizer = tko.Prodigy(jit_compile=jit, **options)
    _, d = descend(optimizer, curvatures, made(starts), regime=regime)
    _, expected = reference(curvatures, starts, **options)
    assert expected > 30 * options["initial_d"]
    assert d == pytest.approx(expected, rel=1e-4)


@pytest.mark.one_keras
@pytest.mark.parametrize("case", CASES)
def test_float64_has_all_its_digits(case):
    curvatures, starts = bowl()
    optimizer = tko.Prodigy(jit_compile=False, **CASES[case])
    values, d = descend(optimizer, curvatures, made(starts, tf.float64))
    expected, wanted = reference(curvatures, starts, **CASES[case])
    assert d == pytest.approx(wanted, rel=1e-8)
    assert harness.distance_error([values], [expected], [flat(starts)]) <= 1e-8


@pytest.mark.one_keras
def test_order_and_division_of_variables_change_rounding_only():
    curvatures, starts = bowl()
    _, wanted = reference(curvatures, starts, initial_d=1e-5)
    others, own = ([a[1], a[0][1:], a[0][:1]] for a in (curvatures, starts))
    _, d = descend(tko.Prodigy(initial_d=1e-5, jit_compile=False), others, made(own))
    assert d == pytest.approx(wanted, rel=1e-4)


@pytest.mark.one_keras
def test_two_replicas_find_the_d_of_one(strategy):
    gradients, starts = harness.gradient_sequence(8, SHAPES), harness.starts(SHAPES)
    shares = [[[0.25 * g for g in batch], [0.75 * g for g in batch]] for batch in gradients]
    make = lambda: tko.Prodigy(0.01, initial_d=0.1, jit_compile=False)  # noqa: E731
    optimizer, values = harness.run_in_replicas(strategy, make, shares, starts)
    expected = harness.expected(
        tko.Prodigy, starts, gradients, learning_rate=0.01, initial_d=0.1
    )
    assert harness.distance_error(values, expected, starts) <= 2e-5
    alone = tko.Prodigy(0.01, initial_d=0.1, jit_compile=False)
    harness.run(alone, gradients, starts)
    assert float(optimizer.d.numpy()) == pytest.approx(float(alone.d.numpy()), rel=1e-5)


@pytest.mark.one_keras
def test_a_step_that_overflows_in_between_leaves_d_alone():
    curvatures, starts = bowl()
    expected, wanted = reference(curvatures, starts, 12, initial_d=1e-3)
    variables, inner = made(starts), tko.Prodigy(initial_d=1e-3, jit_compile=False)
    wrapped = tko.LossScaleOptimizer(inner, initial_scale=8.0)
    wrapped.build(variables)
    for number in range(13):
        factor = wrapped.dynamic_scale.numpy() * (np.inf if number == 5 else 1.0)
        gradients = [tf.cast(factor * c, tf.float32) * v for c, v in zip(curvatures, variables)]
        if not harness.IS_KERAS_3:
            gradients = wrapped.get_unscaled_gradients(gradients)
        before = float(inner.d.numpy())
        wrapped.apply_gradients(zip(gradients, variables))
        if number == 5:
            assert float(inner.d.numpy()) == before
    assert float(inner.d.numpy()) == pytest.approx(wanted, rel=1e-5)
    assert harness.distance_error([flat(variables)], [expected], [flat(starts)]) <= 1e-4


@pytest.mark.one_keras
@pytest.mark.parametrize("way", ["gradient 0", "rate 0"])
def test_where_the_quotient_is_0_over_0_nothing_changes(way):
    """And the corrections count from the first update that moves."""
    curvatures, starts = bowl()
    rate = 1.0
    if way == "rate 0":
        rate = tko.schedules.PiecewiseConstantDecay([1], [0.0, 1.0])
    optimizer = tko.Prodigy(
        rate, initial_d=1e-3, use_bias_correction=True, weight_decay=0.1, jit_compile=False
    )
    variables = made(starts)
    optimizer.build(variables)
    first = state.by_name(optimizer)
    for _ in range(2):
        zero = [0.0 * c if way == "gradient 0" else c for c in curvatures]
        optimizer.apply_gradients(
            [(tf.cast(c, v.dtype) * v, v) for c, v in zip(zero, variables)]
        )
    np.testing.assert_array_equal(flat(variables), flat(starts))
    for name, value in state.by_name(optimizer).items():
        if "iteration" not in str(name) and "start" not in str(name):
            np.testing.assert_array_equal(value, first[name], err_msg=str(name))
    values, d = descend(optimizer, curvatures, variables, 10)
    options = {"initial_d": 1e-3, "use_bias_correction": True, "weight_decay": 0.1}
    expected, wanted = reference(curvatures, starts, 10, **options)
    assert d == pytest.approx(wanted, rel=1e-5)
    assert harness.distance_error([values], [expected], [flat(starts)]) <= 1e-4


@pytest.mark.one_keras
@pytest.mark.parametrize("settings", [{"learning_rate_multiplier": 0.0}, {"beta_1": 0.5}])
def test_variables_of_rate_0_and_those_of_other_groups_do_not_count(settings):
    curvatures, starts = bowl()
    expected, wanted = reference(curvatures[:1], starts[:1], 20, initial_d=1e-3)
    variables = [tf.Variable(s, dtype=tf.float32, name=n) for s, n in zip(starts, "ab")]
    optimizer = tko.Prodigy(initial_d=1e-3, groups={"^b": settings}, jit_compile=False)
    _, d = descend(optimizer, curvatures, variables, 20)
    assert d == pytest.approx(wanted, rel=1e-5)
    assert harness.distance_error([flat(variables[:1])], [expected], [flat(starts[:1])]) <= 1e-4
    if "beta_1" not in settings:
        np.testing.assert_array_equal(variables[1].numpy(), starts[1])
        return
    alone, own = reference(curvatures[1:], starts[1:], 20, initial_d=1e-3, **settings)
    assert optimizer.state_dict()["scalars"]["^b/d"] == pytest.approx(own, rel=1e-5)
    assert harness.distance_error([flat(variables[1:])], [alone], [flat(starts[1:])]) <= 1e-4


@pytest.mark.one_keras
def test_every_third_element_counts_and_goes_on_from_a_file(tmp_path):
    curvatures, starts = bowl([(5, 2)])
    options = {"initial_d": 1e-3, "every_nth": 3}
    first, second = (tko.Prodigy(jit_compile=False, **options) for _ in range(2))
    variables = made(starts)
    descend(first, curvatures, variables, 20)
    (kept,) = first.state_dict()["variables"].values()
    assert kept["start"].shape == kept["s"].shape == (4,)
    np.testing.assert_array_equal(kept["start"], np.ravel(starts[0])[::3].astype("f"))
    tko.save_state(tmp_path / "state", first)
    others = [tf.Variable(v) for v in variables]
    second.build(others)
    tko.load_state(tmp_path / "state", second)
    values, d = descend(second, curvatures, others, 10)
    expected, wanted = reference(curvatures, starts, 30, **options)
    assert d == pytest.approx(wanted, rel=1e-5)
    assert harness.distance_error([values], [expected], [flat(starts)]) <= 1e-4
    descend(first, curvatures, variables, 10)
    np.testing.assert_array_equal(values, flat(variables))


@pytest.mark.one_keras
def test_a_variable_that_comes_late_shares_d_from_its_first_update_on():
    curvatures, starts = bowl()
    optimizer, variables = tko.Prodigy(initial_d=1e-3, jit_compile=False), made(starts)
    descend(optimizer, curvatures[:1], variables[:1], 10)
    step, defaults = oracles.ALGORITHMS["prodigy"]
    defaults = defaults | {"initial_d": 1e-3}
    size = np.size(starts[1])
    c, w, slots = flat(curvatures), flat(starts), {}
    for number in range(20):
        gradient = c * w
        if number < 10:
            gradient[-size:] = 0.0
        w = step(w, gradient, slots, [defaults])
    descend(optimizer, curvatures, variables, 10)
    assert float(optimizer.d.numpy()) == pytest.approx(slots["d"], rel=1e-5)
    assert harness.distance_error([flat(variables)], [w], [flat(starts)]) <= 1e-4


@pytest.mark.one_keras
@pytest.mark.parametrize("option", [{"master_weights": False}, {"stochastic_rounding": True}])
def test_narrow_weights_need_their_copies(option):
    (name,) = option
    for dtype in (tf.bfloat16, tf.float16):
        variable = tf.Variable(tf.ones([4], dtype), name="narrow")
        for optimizer in (
            tko.Prodigy(**option),
            tko.SGD(groups={"narrow": tko.Prodigy()}, **option),
        ):
            with pytest.raises(ValueError, match=rf"'narrow', which is {dtype.name}.*`{name}`"):
                optimizer.build([variable])
        tko.Prodigy(**option).build([tf.Variable([1.0])])
        optimizer = tko.Prodigy(initial_d=1e-4, jit_compile=False)
        for _ in range(40):
            optimizer.apply_gradients([(variable.read_value(), variable)])
        assert float(optimizer.d.numpy()) > 0.01


def test_d_is_read_when_there_is_one():
    optimizer = tko.Prodigy()
    with pytest.raises(AttributeError, match=r"no 'd' yet. Call `optimizer.build"):
        optimizer.d  # noqa: B018
    part = tko.Prodigy()
    whole = tko.SGD(groups={"w": part})
    whole.build([tf.Variable([1.0], name="w")])
    with pytest.raises(AttributeError, match=r"PATTERN/d"):
        part.d  # noqa: B018
    optimizer.build([tf.Variable([1.0])])
    assert float(optimizer.d.numpy()) == np.float32(1e-6)
    with pytest.raises(ValueError, match="`initial_d` decides what is kept"):
        optimizer.initial_d = 1e-5


@pytest.mark.one_keras
def test_what_every_says_is_checked():
    for given in ({"every": 0}, {"every": 2, "shape": (3,)}, {"every": 1.5}):
        with pytest.raises(ValueError, match=r"Slot 's': `every` must be an integer"):
            tko.Slot("s", **given)
    assert tko.Slot("s", every=3).shape_for((5, 2)) == (4,)
    assert tko.Slot("s", every=3).shape_for(()) == (1,)
    assert tko.Slot("s", every=3).shape_for((0, 4)) == (0,)
