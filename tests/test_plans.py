"""What an update does is decided once: `explain` says what runs, and no option is lost."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.engine.tensorflow.xla import can_compile
from tf_keras_optim.engine.update import plans


class Noted(tko.Adam):
    """Adam that notes which variables TensorFlow's training operation updates."""

    def build(self, variables):
        self.fused = set()
        super().build(variables)

    def update_in_place(self, gradient, variable, slots, scalars):
        self.fused.add(variable.name.split(":")[0])
        return super().update_in_place(gradient, variable, slots, scalars)


def trained(steps=2, **options):
    """What `explain` says of the kernels, and which variables the operation updated.

    With 0 steps one is traced and not run, which needs no compilation.
    """
    # There are processors for which XLA cannot compile float16.
    compiled = options.get("jit_compile") is True
    narrow = tf.bfloat16 if compiled and not can_compile(tf.float16, "CPU") else tf.float16
    variables = [
        tf.Variable(tf.ones([3]), name="a"),
        tf.Variable(tf.ones([3], narrow), name="b"),
        tf.Variable(tf.ones([3], tf.float64), name="c"),
    ]
    optimizer = Noted(0.1, **options)
    optimizer.build(variables)
    said = {row.path: row.kernel for row in optimizer.explain(print_fn=lambda text: None)}
    pairs = [(tf.ones_like(v), v) for v in variables]
    if not steps:
        step = tf.function(lambda: optimizer.apply_gradients(pairs), autograph=False)
        step.get_concrete_function()
    for _ in range(steps):
        optimizer.apply_gradients(pairs)
    return said, optimizer.fused, variables


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 1},
        {"loss_scale_factor": 1.0},
        {"weight_decay": 0.0},
        {"skip_nonfinite": True},
        {"use_ema": True},
        {"clipnorm": 1e6},
        {"clipvalue": 1e6},
        {"loss_scale_factor": 2.0},
        {"gradient_accumulation_steps": 2},
        {"weight_decay": 0.1},
        {"jit_compile": True},
        {"nesterov": True},
        {"cautious": True},
        {"centralize_gradients": True},  # vectors lose nothing
        {"weight_decay": 0.1, "cautious_weight_decay": True},
    ],
    ids=str,
)
def test_explain_names_what_runs(options):
    said, fused, _ = trained(0, **options)
    assert {path for path, kernel in said.items() if kernel == "fused"} == fused
    others = ("use_ema", "clipnorm", "clipvalue", "jit_compile", "nesterov", "cautious")
    plain = not any(k in options for k in others)
    plain = plain and options.get("loss_scale_factor") != 2.0
    plain = plain and options.get("gradient_accumulation_steps") != 2
    assert ("a" in fused) == (plain and options.get("weight_decay") != 0.1)


@pytest.mark.one_keras
def test_an_option_that_is_added_to_the_plan_is_never_left_out(monkeypatch):
    """A new option is a field of the plan; the operation that does not know it is not taken."""

    @dataclasses.dataclass(frozen=True)
    class WithAnOption(plans.UpdatePlan):
        scratch: bool = False

    def made(*args, **kwargs):
        return WithAnOption(*args, **kwargs, scratch=bool(args or kwargs))

    _, fused, before = trained()
    assert fused == {"a", "c"}
    monkeypatch.setattr(plans, "UpdatePlan", made)
    said, fused, after = trained()
    assert fused == set()
    assert "fused" not in said.values()
    for v, w in zip(before, after):
        np.testing.assert_allclose(v, w, rtol=1e-5)


@pytest.mark.one_keras
def test_the_plain_plan_is_what_no_option_asks_for():
    plain = plans.UpdatePlan()
    for field in dataclasses.fields(plain):
        assert not getattr(plain, field.name) or field.name in (
            "gradient",
            "decay_name",
            "kernel",
        )
    assert plain.gradient == plans.GIVEN
    assert (
        len({plain, dataclasses.replace(plain), dataclasses.replace(plain, rounds=True)}) == 2
    )
