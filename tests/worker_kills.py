"""Three workers train in `fit`; one is killed at a random step, and all start again.

TF_USE_LEGACY_KERAS=1 python -m tests.worker_kills --count 10

Each run must end with the weights and the state of one that was not interrupted, bit for bit.
The optimizer is in a LossScaleOptimizer, one worker has an overflow, the last batch of an epoch
is smaller than the others, and the killed worker comes back later than the others. A run goes
on from Keras' BackupAndRestore, which saves after each epoch. Prints a line of JSON for each.
"""

import argparse
import functools
import json
import os
import pathlib
import random
import signal
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import forks, state

keras = tf.keras
WORKERS, BATCH, SAMPLES, EPOCHS = 3, 12, 56, 3
STEPS = -(-SAMPLES // BATCH)  # of an epoch; the last one has 8 samples
OVERFLOW = (1, 2)  # epoch and batch
SCALE = 1024.0


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(SAMPLES, 8)).astype("f")
    return x, np.tanh(x @ generator.normal(size=(8, 2)).astype("f"))


class Model(keras.Model):
    """A network whose input one worker finds infinite, once."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="tanh")
        self.head = keras.layers.Dense(2)
        self.spoiled = self.add_weight(name="spoiled", shape=(), trainable=False)

    def call(self, x):
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0  # where it is built
        bad = tf.logical_and(self.spoiled > 0, tf.equal(replica, 1))
        return self.head(self.hidden(tf.where(bad, np.float32(np.inf), x)))


class Events(keras.callbacks.Callback):
    """The overflow, and the death of a worker before a step."""

    def __init__(self, dies_at):
        super().__init__()
        self.epoch, self.dies_at = 0, dies_at

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.dies_at == self.epoch * STEPS + batch:
            os.kill(os.getpid(), signal.SIGKILL)
        self.model.spoiled.assign(float((self.epoch, batch) == OVERFLOW))


def make(strategy):
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = Model()
        model(np.zeros((1, 8), "f"))
        inner = tko.AdamW(
            tko.schedules.CosineDecay(0.05, EPOCHS * STEPS),
            weight_decay=0.1,
            global_clipnorm=0.5,
            use_ema=True,
        )
        optimizer = tko.LossScaleOptimizer(inner, initial_scale=SCALE, dynamic_growth_steps=5)
        model.compile(optimizer, "mse")
    return model


def train(strategy, directory, name, index, dies_at=-1):
    """One training; writes its weights and state to NAME_WORKER.npz."""
    model = make(strategy)
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    begun = []
    callbacks = [
        Events(dies_at),
        keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: begun.append(epoch)),
        keras.callbacks.BackupAndRestore(str(directory / f"backup_{name.split('-')[0]}")),
    ]
    dataset = dataset.with_options(options)
    history = model.fit(dataset, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    kept = state.by_name(model.optimizer.inner_optimizer)
    numbers = {
        "begin": begun[0],
        "iterations": int(kept.pop("iterations")),
        "scale": float(model.optimizer.loss_scale),
        "skipped": int(model.optimizer.skipped_steps.numpy()),
        "loss": history.history["loss"][-1],
    }
    arrays = [*model.get_weights(), *kept.values()]
    np.savez(directory / f"{name}_{index}.npz", *arrays, numbers=json.dumps(numbers))


def work(index, directory, *trainings):
    """A worker: its trainings, one after the other."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for name, dies_at in trainings:
        train(strategy, directory, name, index, dies_at.get(index, -1))


def result(directory, name):
    """By worker: arrays and numbers."""
    found = []
    for index in range(WORKERS):
        with np.load(directory / f"{name}_{index}.npz") as saved:
            arrays = [saved[key] for key in saved.files if key != "numbers"]
            found.append((arrays, json.loads(str(saved["numbers"]))))
    return found


def compare(directory, name):
    """Says how a run that was interrupted differs from the one that was not."""
    expected, numbers = result(directory, "whole")[0]
    different = 0
    for arrays, _ in [*result(directory, "whole"), *result(directory, name)]:
        different += sum(not np.array_equal(a, b) for a, b in zip(arrays, expected))
    found = [told for _, told in result(directory, name)]
    alike = all(told | {"begin": 0} == numbers | {"begin": 0} for told in found)
    return {"different": different, "numbers_equal": alike, "begin": found[0]["begin"]}


def interrupted(directory, number, generator, first):
    """A run in which a worker dies; `first`: trainings of the same processes before it."""
    name = f"run{number}"
    victim, step = generator.randrange(WORKERS), generator.randrange(STEPS, EPOCHS * STEPS)
    workers = forks.cluster(WORKERS, work, directory, *first, (f"{name}-1", {victim: step}))
    forks.finish([workers.pop(victim)], signal.SIGKILL)
    forks.kill(workers)
    forks.finish(
        forks.cluster(WORKERS, work, directory, (f"{name}-2", {}), late=victim, seconds=1.0)
    )
    return {"victim": victim, "step": step, **compare(directory, f"{name}-2")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator, first = random.Random(options.seed), [("whole", {})]
    with tempfile.TemporaryDirectory() as directory:
        run = functools.partial(interrupted, pathlib.Path(directory))
        for number in range(options.count):
            found = run(number, generator, first)
            first = []
            if number == 0:
                found["whole"] = result(pathlib.Path(directory), "whole")[0][1]
            print(json.dumps(found), flush=True)
            if found["different"] or not found["numbers_equal"]:
                sys.exit("a run that was interrupted ended otherwise")


if __name__ == "__main__":
    main()
