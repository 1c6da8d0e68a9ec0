"""What two replicas save, one and four load, in every kind of file."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

WAYS = ("keras", "weights", "checkpoint", "state_file")


def make_model(strategy, replicas, seed=0):
    with harness.scope_of(strategy, replicas):
        model = harness.small_model(seed=seed)
        optimizer = tko.LossScaleOptimizer(
            tko.AdamW(0.01, use_ema=True, gradient_accumulation_steps=2, jit_compile=False),
            initial_scale=8.0,
        )
        model.compile(optimizer, harness.classification_loss(), jit_compile=False)
    return model


def train(model, batches):
    x, y = harness.classification_data(8 * batches, seed=batches)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


def result(model):
    return [*model.get_weights(), *model.optimizer.get_weights()]


@pytest.fixture(scope="module")
def saved(strategies, tmp_path_factory):
    directory = tmp_path_factory.mktemp("two")
    model = make_model(strategies[2], 2)
    train(model, 5)
    model.save(str(directory / "model.keras"))
    model.save_weights(str(directory / "model.weights.h5"))
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(directory / "ckpt"))
    tko.save_state(directory / "state.npz", model.optimizer, model.variables)
    at_save = result(model)
    train(model, 3)
    return directory, at_save, result(model)


# Every way with both numbers of replicas, and before and after the optimizer is built.
LOADS = [(way, *one) for i, way in enumerate(WAYS) for one in ((1, i % 2 > 0), (4, i % 2 == 0))]


@pytest.mark.one_keras
@pytest.mark.parametrize(("way", "replicas", "built"), LOADS)
def test_saved_by_two_replicas_loaded_by_others(saved, strategies, way, replicas, built):
    directory, at_save, later = saved
    strategy = strategies.get(replicas)
    model = make_model(strategy, replicas, seed=1)
    with harness.scope_of(strategy, replicas):
        if built:
            model.optimizer.build(model.trainable_variables)
        if way == "keras" and built:
            model = tf.keras.models.load_model(str(directory / "model.keras"))
        elif way in ("keras", "weights"):
            file = "model.keras" if way == "keras" else "model.weights.h5"
            model.load_weights(str(directory / file))
        elif way == "checkpoint":
            checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
            checkpoint.read(str(directory / "ckpt")).assert_existing_objects_matched()
        else:
            tko.load_state(directory / "state.npz", model.optimizer, model.variables)
        model.optimizer.build(model.trainable_variables)
    for found, expected in zip(result(model), at_save, strict=True):
        np.testing.assert_array_equal(found, expected)
    if way != "weights":
        return
    train(model, 3)
    for found, expected in zip(result(model), later, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["weights", "checkpoint", "state_file"])
def test_the_first_step_in_replicas_takes_over_what_waits(saved, strategies, way):
    """In a replica nothing may be assigned that waits for the other one."""
    directory, at_save, _ = saved
    strategy = strategies[2]
    model = make_model(strategy, 2, seed=1)
    with strategy.scope():
        if way == "weights":
            model.load_weights(str(directory / "model.weights.h5"))
        elif way == "checkpoint":
            checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
            checkpoint.read(str(directory / "ckpt"))
        else:
            tko.load_state(directory / "state.npz", model.optimizer, model.variables)

    def replica():
        # Not finite: the step is skipped, and what was loaded stays.
        gradients = [tf.fill(v.shape, float("nan")) for v in model.trainable_variables]
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    tf.function(lambda: strategy.run(replica), autograph=False)()
    count = len(model.get_weights())
    for found, expected in zip(model.get_weights(), at_save[:count], strict=True):
        np.testing.assert_array_equal(found, expected)
    state = model.optimizer.inner_optimizer.state_dict()
    assert int(state["scalars"]["iterations"]) == 5
    for local in model.optimizer.inner_optimizer.variables:
        values = strategy.experimental_local_results(
            local.value if harness.IS_KERAS_3 else local
        )
        np.testing.assert_array_equal(values[0].numpy(), values[1].numpy())
    moments = [slots["momentum"] for slots in state["variables"].values()]
    assert sum(any(np.array_equal(m, a) for a in at_save[count:]) for m in moments) == 4
