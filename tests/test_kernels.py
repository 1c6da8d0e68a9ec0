"""Which kernel runs, that all of them compute the same, and what `explain` says."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

SHAPES = [(3, 2), (4,)]  # two variables: each shape is a compilation
DRAWN = [*SHAPES, ()]  # from one stream; the last ones are not used


def trained(optimizer, steps=30, dtype="float32"):
    """Returns the variables after some steps on fixed gradients."""
    generator = np.random.default_rng(0)
    values = [generator.normal(size=shape) for shape in DRAWN][: len(SHAPES)]
    variables = [tf.Variable(tf.constant(v, dtype), name=f"v{i}") for i, v in enumerate(values)]
    for _ in range(steps):
        gradients = [tf.constant(generator.normal(size=s), dtype) for s in DRAWN]
        optimizer.apply_gradients(zip(gradients, variables))
    return values, [variable.numpy() for variable in variables]


def kernels(optimizer):
    return [report.kernel for report in optimizer.explain(print_fn=lambda text: None)]


_WARMUP = tko.schedules.Warmup(0.99, 5, initial_learning_rate=0.5)


CASES = [
    ("Adam", {}),
    ("Adam", {"beta_1": 0.0, "beta_2": 0.9}),
    ("Adam", {"beta_2": _WARMUP}),
    ("Adam", {"epsilon_after_correction": True, "epsilon": 0.1}),
    ("Adam", {"learning_rate": tko.schedules.CosineDecay(0.1, 40)}),
    ("SGD", {"learning_rate": 1.0}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": _WARMUP}),
    ("RMSprop", {"momentum": 0.9, "rho": 0.7}),
    ("RMSprop", {"momentum": 0.5, "epsilon": 0.1}),
    ("Adadelta", {"learning_rate": 10.0, "epsilon": 1e-3}),
    ("Adadelta", {"learning_rate": 10.0, "epsilon": 1e-3, "rho": _WARMUP}),
    ("Adamax", {}),
    ("Adamax", {"beta_1": _WARMUP, "epsilon": 0.1}),
]
BOUNDS = {"float32": 2e-6, "float64": 1e-14}


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("name", "options", "dtype"),
    [
        (name, options, dtype)
        for place, (name, options) in enumerate(CASES)
        for turn, dtype in enumerate(BOUNDS)
        if (place + turn) % 2 == 0 or name not in dict(CASES[:place])  # the first has both
    ],
    ids=str,
)
def test_the_operation_of_tensorflow_takes_the_same_steps(name, options, dtype):
    options = {"learning_rate": 0.1} | options
    make = getattr(tko, name)
    one_pass, compiled = make(**options), make(jit_compile=True, **options)
    start, found = trained(one_pass, dtype=dtype)
    _, expected = trained(compiled, dtype=dtype)
    assert kernels(one_pass) == ["fused"] * len(SHAPES)
    assert kernels(compiled) == ["xla"] * len(SHAPES)
    for value, other, began in zip(found, expected, start):
        assert np.abs(other - began).max() > 0.1
        # Thirty steps, each rounded at numbers of order one.
        np.testing.assert_allclose(value, other, rtol=0, atol=BOUNDS[dtype])
    for slots, others in zip(
        *(o.state_dict()["variables"].values() for o in (one_pass, compiled))
    ):
        for slot, value in slots.items():
            # The operation rounds 1 - beta; the step size makes up for it.
            np.testing.assert_allclose(value, others[slot], rtol=2e-5, err_msg=slot)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        ({"jit_compile": False}, "graph"),
        ({"amsgrad": True}, "xla"),
        ({"clipvalue": 1.0}, "xla"),
        ({"global_clipnorm": 1.0}, "xla"),
        ({"weight_decay": 0.1}, "xla"),
        ({"use_ema": True}, "xla"),
        ({"gradient_accumulation_steps": 2}, "xla"),
        ({"loss_scale_factor": 2.0}, "xla"),
        ({"slot_dtype": "bfloat16"}, "xla"),
    ],
    ids=str,
)
def test_what_stands_around_an_update_stays_in_one_kernel(options, kernel):
    """An option that the operation would leave out is not left out."""
    optimizer, compiled = tko.Adam(0.1, **options), tko.Adam(0.1, **options)
    compiled.jit_compile = options.get("jit_compile", True)
    _, found = trained(optimizer)
    _, expected = trained(compiled)
    assert kernels(optimizer) == [kernel] * len(SHAPES)
    for value, other in zip(found, expected):
        np.testing.assert_array_equal(value, other)


@pytest.mark.one_keras
def test_a_subclass_with_another_update_is_what_runs():
    class Still(tko.Adam):
        def update(self, gradient, value, slots, scalars):
            return value, dict(slots)

    class Double(tko.Adam):
        def prepare(self, scalars):
            found = super().prepare(scalars)
            return found | {"alpha": 2.0 * found["alpha"]}

    still, double = Still(0.1), Double(0.1)
    start, found = trained(still)
    for value, began in zip(found, start):
        np.testing.assert_array_equal(value, np.float32(began))
    start, found = trained(double, steps=1)
    for value, began in zip(found, start):
        np.testing.assert_allclose(np.abs(value - began), 0.2, rtol=1e-4)
    assert kernels(still) == kernels(double) == ["xla"] * len(SHAPES)


@pytest.mark.one_keras
def test_explain_tells_what_is_kept():
    optimizer = tko.AdamW(weight_decay=0.1, use_ema=True, sparse={"^users": "lazy"})
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    variables = [
        tf.Variable(tf.zeros([5, 4]), name="users/table"),
        tf.Variable(tf.zeros([3], tf.bfloat16), name="bias"),
    ]
    with pytest.raises(ValueError, match="has no slots yet"):
        optimizer.explain()
    optimizer.build(variables)
    texts = []
    table, bias = optimizer.explain(print_fn=texts.append)
    assert (table.path, table.shape, table.dtype) == ("users/table", (5, 4), "float32")
    assert table.state == {n: "float32" for n in ("momentum", "velocity", "average")}
    assert (table.state_bytes, table.sparse, table.decays) == (3 * 4 * 20, "lazy", True)
    assert bias.state == dict.fromkeys(("momentum", "velocity", "average", "master"), "float32")
    assert (bias.state_bytes, bias.sparse, bias.decays) == (4 * 4 * 3, "exact", False)
    (text,) = texts
    assert "users/table  5x4    float32   xla" in text
    assert text.endswith("2 variables, 23 parameters, 288 bytes of state, 12.52 a parameter")


@pytest.mark.one_keras
def test_explain_tells_who_updates():
    class Own(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient * learning_rate)

    for optimizer, kernel in ((Own(0.1), "update_step"), (tko.Lion(), "xla")):
        optimizer.build([tf.Variable(1.0)])
        assert kernels(optimizer) == [kernel]


@pytest.mark.one_keras
def test_explain_groups_what_is_updated_alike():
    optimizer = tko.Lamb(weight_decay=0.1, exclude_from_layer_adaptation=["norm"])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    shapes = {"a": [2, 3], "b": [3], "c": [2, 3], "bias": [3], "d": [3], "norm": [3]}
    optimizer.build([tf.Variable(tf.zeros(s), name=name) for name, s in shapes.items()])
    reports = optimizer.explain(print_fn=lambda text: None)
    assert [report.group for report in reports] == [1, 2, 1, 3, 2, 4]


@pytest.mark.one_keras
def test_inside_a_compiled_function_it_is_compiled():
    optimizer = tko.Adam(0.1)
    variable = tf.Variable([1.0, 2.0])
    optimizer.build([variable])

    @tf.function(jit_compile=True)
    def step():
        optimizer.apply_gradients([(tf.constant([1.0, -1.0]), variable)])

    step()
    np.testing.assert_allclose(variable.numpy(), [0.9, 2.1], rtol=1e-5)
    assert optimizer.jit_compile_used


OLD_PROCESSOR = """
import platform
import numpy as np
import tensorflow as tf
import tf_keras_optim as tko

kernels = []
for dtype in (tf.float16, tf.bfloat16):
    variable = tf.Variable(tf.ones([4], dtype))
    optimizer = tko.Nadam(0.125)
    optimizer.apply_gradients([(tf.ones([4], dtype), variable)])
    assert (variable.numpy() < 1.0).all()
    kernels += [report.kernel for report in optimizer.explain(print_fn=lambda text: None)]
narrow = tf.Variable(tf.ones([4], tf.float16), name="narrow")
try:
    tko.Nadam(0.125, jit_compile=True).apply_gradients([(tf.ones([4], tf.float16), narrow)])
    refused = False
except ValueError as error:
    refused = "'narrow' is float16, which XLA cannot compile" in str(error)
assert (narrow.numpy() == 1.0).all() == refused
print(platform.machine(), refused, *kernels)
"""


@pytest.mark.one_keras(3)
def test_float16_needs_no_instructions_that_an_old_processor_lacks():
    """XLA compiles no float16 there; "auto" does without it for such variables alone.

    An update that must be compiled is refused, and has not happened.
    """
    environment = {**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
    command = [sys.executable, "-c", OLD_PROCESSOR]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    machine, refused, *found = run.stdout.split()
    is_old = machine == "x86_64"
    assert refused == str(is_old)
    assert found == ["graph" if is_old else "xla", "xla"]
