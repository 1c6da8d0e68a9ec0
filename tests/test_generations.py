"""One process runs one Keras; mixing them up is explained."""

import os
import subprocess
import sys

import harness
import keras as keras_3
import pytest
import tensorflow as tf
import tf_keras as keras_2

import tf_keras_optim as tko

OTHER = keras_2 if harness.IS_KERAS_3 else keras_3
REMEDY = "(?i)set the environment variable TF_USE_LEGACY_KERAS"


def other_model():
    return OTHER.Sequential([OTHER.layers.Input((2,)), OTHER.layers.Dense(1)])


def test_the_face_is_that_of_the_running_keras():
    assert issubclass(tko.Adam, tf.keras.optimizers.Optimizer)
    assert not issubclass(tko.Adam, OTHER.optimizers.Optimizer)


def test_compiling_a_model_of_the_other_generation_is_explained():
    with pytest.raises(ValueError, match=REMEDY):
        other_model().compile(optimizer=tko.Adam(), loss="mse")


def test_variables_that_only_the_other_generation_has_are_explained():
    if harness.IS_KERAS_3:
        OTHER.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        variables = other_model().trainable_variables
    finally:
        if harness.IS_KERAS_3:
            OTHER.mixed_precision.set_global_policy("float32")
    with pytest.raises(TypeError, match=REMEDY):
        tko.Adam().build(variables)


def test_things_that_are_no_variables_are_refused():
    with pytest.raises(TypeError, match=r"updates (keras.Variable or )?tf.Variable objects"):
        tko.Adam().build([tf.constant([1.0])])


@pytest.mark.one_keras
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused_in_one_sentence(backend):
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    run = subprocess.run(
        [sys.executable, "-c", "import tf_keras_optim"],
        env=environment | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: tf_keras_optim needs Keras on the TensorFlow backend, but the backend "
        f"here is '{backend}': set KERAS_BACKEND=tensorflow before anything imports Keras."
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    """float16 goes through Keras' own loss scaling around our optimizer."""
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model, losses = harness.fit(tko.AdamW(0.05), epochs=10)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses[-1] < 0.8 * losses[0]
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert type(inner) is tko.AdamW
    assert inner.trace_count >= 1
