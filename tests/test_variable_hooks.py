"""What an algorithm may decide for single variables: their slots and their options."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

NAMES = {"table": (4, 2), "hidden/kernel": (2, 3), "hidden/bias": (3,), "head/kernel": (3, 2)}


def variables(names=NAMES):
    return [tf.Variable(tf.zeros(NAMES[name]), name=name) for name in names]


def train(optimizer, chosen):
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in chosen])


class ByVariable(tko.Optimizer):
    """Momentum where it is a matrix, but not for the head; a rate by place."""

    def slots_for(self, variable):
        self.seen = {**getattr(self, "seen", {}), variable.path: variable}
        return ("momentum",) if variable.rank == 2 and not variable.is_last_kernel else ()

    def options_for(self, variable):
        factor = 1.0 + variable.place
        return {"learning_rate_factor": factor, "is_table": variable.path.startswith("table")}

    def update(self, gradient, value, slots, scalars):
        if scalars.is_table:
            gradient = gradient * 0.5
        momentum = {"momentum": slots["momentum"] + gradient} if slots else {}
        step = scalars.learning_rate * momentum.get("momentum", gradient)
        return value - step, momentum


def test_slots_and_options_go_by_the_variable():
    optimizer, chosen = ByVariable(0.1, jit_compile=False, weight_decay=0.1), variables()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for _ in range(2):
        train(optimizer, chosen)
    kept = {path: sorted(slots) for path, slots in optimizer.state_dict()["variables"].items()}
    momentum = ["momentum"]
    assert list(kept.values()) == [momentum, momentum, [], []]
    decays = 1.0 - 0.1 * 0.1 * np.arange(1.0, 5.0)
    decays[2] = 1.0
    for place, (variable, steps) in enumerate(
        zip(chosen, ([0.5, 1.0], [1, 2], [1, 1], [1, 1]))
    ):
        value = 0.0
        for step in steps:
            value = value * decays[place] - 0.1 * (1 + place) * step
        np.testing.assert_allclose(variable.numpy(), np.full(variable.shape, value), rtol=1e-5)
    assert list(optimizer.seen.values()) == [
        tko.VariableInfo(name, shape, "float32", decays=i != 2, place=i, is_last_kernel=i == 3)
        for i, (name, shape) in enumerate(NAMES.items())
    ]


def test_the_last_kernel_stays_one_where_others_come_later():
    optimizer, chosen = ByVariable(0.1, jit_compile=False), variables()
    train(optimizer, chosen[1:2])
    train(optimizer, chosen)
    kept = {path: sorted(slots) for path, slots in optimizer.state_dict()["variables"].items()}
    assert [("momentum" in slots) for slots in kept.values()] == [True, False, False, False]
    assert [optimizer.seen[name].place for name in kept] == [0, 1, 2, 3]


def test_what_is_refused_changes_nothing():
    class Wrong(ByVariable):
        def slots_for(self, variable):
            return "momentum" if variable.path == "hidden/bias" else super().slots_for(variable)

    optimizer = Wrong()
    with pytest.raises(TypeError, match=r"must be a tuple.*Received: 'momentum'"):
        optimizer.build(variables())
    assert not optimizer.built and optimizer.state_dict()["variables"] == {}


# A weight decay and a refusal of its own.


class TwoDecays(tko.SGD):
    """Kernels decay by another number, and take no sparse gradients."""

    kernel_decay = tko.Hyperparameter(
        None, kind=float, minimum=0.0, schedulable=True, keyword_only=True
    )

    def options_for(self, variable):
        if variable.rank < 2:
            return {}
        return {"weight_decay_name": "kernel_decay", "not_sparse": "It is whole. Densify it."}


@pytest.mark.one_keras
@pytest.mark.parametrize("kernels", [0.5, "schedule", None])
@pytest.mark.parametrize("others", [0.25, None])
@pytest.mark.parametrize("decoupled", [True, False])
def test_a_variable_decays_by_the_hyperparameter_that_is_named(kernels, others, decoupled):
    numbers = [kernels or 0.0] * 3
    if kernels == "schedule":
        kernels, numbers = tko.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0]), None
        numbers = [0.5, 0.25, 0.0]
    optimizer = TwoDecays(
        0.5,
        weight_decay=others,
        kernel_decay=kernels,
        decoupled_weight_decay=decoupled,
        jit_compile=False,
    )
    names = ("hidden/kernel", "hidden/bias", "head/kernel")
    chosen = [tf.Variable(tf.ones(NAMES[name]), name=name) for name in names]
    optimizer.exclude_from_weight_decay(var_names=["head"])
    step = tf.function(lambda: train(optimizer, chosen))
    optimizer.build(chosen)
    kernel = bias = 1.0
    for number in numbers:
        step()
        kernel, bias = (
            w - 0.5 * d * w - 0.5 for w, d in ((kernel, number), (bias, others or 0))
        )
    expected = (kernel, bias, 1.0 - 0.5 * 3)
    for variable, value in zip(chosen, expected):
        np.testing.assert_allclose(variable.numpy(), np.full(variable.shape, value), rtol=1e-6)
    reports = optimizer.explain(print_fn=lambda text: None)
    assert [r.decays for r in reports] == [kernels is not None, others is not None, False]


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["eager", "function", "xla"])
def test_a_sparse_gradient_that_makes_no_sense_is_refused_before_anything_changes(regime):
    optimizer = TwoDecays(0.5, momentum=0.5)
    bias, table = variables(("hidden/bias", "table"))
    train(optimizer, [bias, table])
    before = [v.numpy() for v in (bias, table)]
    slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([1]), tf.constant([4, 2]))

    def step():
        optimizer.apply_gradients([(tf.ones([3]), bias), (slices, table)])

    if regime != "eager":
        step = tf.function(step, jit_compile=regime == "xla", autograph=False)
    message = r"'table' is sparse \(`tf.IndexedSlices`\).*It is whole\. Densify it\."
    with pytest.raises(ValueError, match=message):
        step()
    assert int(optimizer.iterations) == 1
    for variable, value in zip((bias, table), before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_name_that_is_no_hyperparameter_is_refused():
    for options, message in (
        ({"weight_decay_name": "decay"}, "the name of a hyperparameter. Received: 'decay'"),
        ({"weight_decay_name": None}, "the name of a hyperparameter. Received: None"),
        ({"not_sparse": True}, "`not_sparse` must be a text"),
    ):
        wrong = type("Wrong", (tko.SGD,), {"options_for": lambda self, v, o=options: o})
        with pytest.raises(ValueError, match=f"Wrong.options_for: .*{message}"):
            train(wrong(0.1), variables())


# The older forms.


def test_the_older_forms_go_on_with_a_warning():
    with pytest.warns(DeprecationWarning) as told:

        class Older(tko.Optimizer):
            def slots_of(self, shape):
                return ("momentum",) if len(shape) == 2 else ()

            def traits_of(self, path, decays):
                return {
                    "learning_rate_factor": 2.0 if path == "head/kernel" else 1.0,
                    "d": decays,
                }

            def update(self, gradient, value, slots, scalars):
                assert not scalars.d
                momentum = {name: slot + gradient for name, slot in slots.items()}
                return value - scalars.learning_rate * gradient, momentum

    messages = [str(warning.message) for warning in told]
    assert [re.findall("`([a-z_]+)[`(]", m)[:2] for m in messages] == [
        ["slots_of", "slots_for"],
        ["traits_of", "options_for"],
    ]
    optimizer, chosen = Older(0.1, jit_compile=False), variables()
    train(optimizer, chosen)
    moved = [float(tf.reduce_mean(v)) for v in chosen]
    np.testing.assert_allclose(moved, [-0.1, -0.1, -0.1, -0.2], rtol=1e-6)
    assert [len(slots) for slots in optimizer.state_dict()["variables"].values()] == [
        1,
        1,
        0,
        1,
    ]


def test_an_older_form_below_a_class_of_ours_may_ask_that():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Half(tko.Lamb):
            def traits_of(self, path, decays):
                return {**super().traits_of(path, decays), "learning_rate_factor": 0.5}

        class Fuller(tko.Adafactor):
            def slots_of(self, shape):
                return super().slots_of(shape[-1:])

            def update(self, gradient, value, slots, scalars):
                assert set(slots) == {"velocity"}
                return value, slots

    values = []
    options = {"weight_decay": 0.1, "jit_compile": False}
    for optimizer in (Half(0.2, **options), tko.Lamb(0.1, **options)):
        variable = tf.Variable([[1.0, 2.0]])
        optimizer.apply_gradients([(tf.constant([[0.5, -1.0]]), variable)])
        values.append(variable.numpy())
    np.testing.assert_array_equal(*values)
    optimizer = Fuller(jit_compile=False)
    train(optimizer, variables()[:1])
    assert [list(kept) for kept in optimizer.state_dict()["variables"].values()] == [
        ["velocity"]
    ]


def test_both_forms_at_once_are_refused_by_name():
    with pytest.raises(
        TypeError, match="Both overrides `slots_for` and Both its older form `slots_of`"
    ):

        class Both(tko.Adam):
            def slots_for(self, variable):
                return ()

            def slots_of(self, shape):
                return ()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Below(tko.SGD):
            def traits_of(self, path, decays):
                return {}

    with pytest.raises(
        TypeError, match="Above overrides `options_for` and Below its older form"
    ):

        class Above(Below):
            def options_for(self, variable):
                return {}
