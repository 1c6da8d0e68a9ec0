"""What a range test suggests for the demo's network trains it, without further tuning."""

import pathlib

import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tools import config, task

ROOT = pathlib.Path(__file__).resolve().parents[1]
# 0.97 is what a tuned rate gives; twice the deviation of a share of the 360 test images less.
LEAST = 0.97 - 2 * (0.97 * 0.03 / 360) ** 0.5


@pytest.mark.one_keras
@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_the_suggestion_trains_the_demos_network(name):
    """As the top of a half cosine, with the preset's other arguments and its epochs."""
    preset = config.load(str(ROOT / "configs" / f"digits_{name}.yaml"))
    data = task.load_data(preset)
    size, epochs = preset.data["batch_size"], preset.data["epochs"]
    tf.keras.utils.set_random_seed(0)
    given = {k: v for k, v in preset.optimizer.items() if k not in ("name", "learning_rate")}
    model = task.build_model(preset)
    model.compile(
        tko.get({"class_name": name, "config": given}),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    train, test = (data.x, data.y), (data.x_valid, data.y_valid)
    found = tko.find_learning_rate(model, *train, batch_size=size, verbose=0)
    assert found.minimum_over_10 / 10.0 < found.suggestion < found.steepest
    steps = epochs * task.steps_per_epoch(preset, data)
    model.optimizer.learning_rate = tko.schedules.CosineDecay(found.suggestion, steps)
    model.fit(*train, batch_size=size, epochs=epochs, verbose=0)
    scores = model.evaluate(*test, batch_size=256, verbose=0, return_dict=True)
    print(name, found.suggestion, scores)
    assert scores["accuracy"] >= LEAST
