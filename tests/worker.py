"""Two workers train with given gradients, and write what each case ends with.

python worker.py DIRECTORY

The results of a case go to DIRECTORY/CASE_WORKER.npz, checkpoints to DIRECTORY/state. They
start twice: the first time, one of them dies at the end.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import forks, state

STEPS = 10
SCALE = 1024.0
CASES = {
    "plain": {"scaled": False},
    "scaled": {},
    "overflow": {"overflow_at": 3},
    "dies": {"die_at": 7, "saves": True},
    "resumes": {"saves": True},
}


def make(scaled):
    """The optimizer of the test; AdamW with most options on."""
    optimizer = tko.AdamW(
        0.01,
        weight_decay=0.1,
        global_clipnorm=0.5,
        use_ema=True,
        ema_overwrite_frequency=3,
        gradient_accumulation_steps=2,
    )
    return tko.LossScaleOptimizer(optimizer, initial_scale=SCALE) if scaled else optimizer


def parts(step, worker):
    """A worker's gradients at a step, dense ones and slices of the last variable."""
    dense = [(0.3 if worker == 0 else 0.7) * g for g in harness.gradient_sequence(STEPS)[step]]
    generator = np.random.default_rng(100 * step + worker)
    ids, rows = generator.integers(0, 6, 4), generator.normal(size=(4, 3)).astype("f")
    return dense, ids, rows


def starts():
    return [*harness.starts(), np.ones((6, 3))]


def apply(optimizer, variables, scaled, dense, ids, rows, factor):
    given = [factor * g for g in dense]
    given.append(tf.IndexedSlices(factor * rows, ids, tf.constant([6, 3])))
    if scaled and not harness.IS_KERAS_3:
        given = optimizer.get_unscaled_gradients(given)
    optimizer.apply_gradients(zip(given, variables))


def restored(directory, worker, checkpoint):
    """Restores the last step that both have saved; returns the manager and that step."""
    own = directory / f"worker_{worker}"
    manager = tf.train.CheckpointManager(checkpoint, str(own), max_to_keep=2)
    saved = [
        {int(p.stem.split("-")[1]) for p in directory.glob(f"{w}/*.index")}
        for w in ("worker_0", "worker_1")
    ]
    begin = max(saved[0] & saved[1], default=0)
    if begin:
        checkpoint.restore(str(own / f"ckpt-{begin}")).assert_consumed()
    return manager, begin


def train(
    strategy, directory, name, worker, scaled=True, overflow_at=-1, die_at=-1, saves=False
):
    with strategy.scope():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in starts()]
        optimizer = make(scaled)
        optimizer.build(variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    checkpoint = tf.train.Checkpoint(variables=variables, optimizer=optimizer)
    begin, manager = 0, None
    if saves:
        manager, begin = restored(directory / "state", worker, checkpoint)

    @tf.function(autograph=False)
    def run(*values):
        strategy.run(lambda: apply(optimizer, variables, scaled, *values))

    for step in range(begin, STEPS):
        if step == die_at and worker == 1:
            os._exit(9)
        dense, ids, rows = parts(step, worker)
        if step == overflow_at and worker == 1:
            rows = np.full_like(rows, np.inf)
        factor = float(optimizer.loss_scale) if scaled else 1.0
        run([tf.constant(g, tf.float32) for g in dense], *map(tf.constant, (ids, rows, factor)))
        if manager:
            manager.save(checkpoint_number=step + 1)
    kept = state.by_name(inner)
    numbers = {"begin": begin, "iterations": int(kept.pop("iterations"))}
    if scaled:
        numbers["scale"] = float(optimizer.loss_scale)
        numbers["skipped"] = int(optimizer.skipped_steps.numpy())
    arrays = [v.numpy() for v in variables] + [*kept.values()]
    np.savez(directory / f"{name}_{worker}.npz", *arrays, numbers=json.dumps(numbers))


SAMPLES, BATCH = 17, 8  # the last batch has one sample: one worker has none


def line():
    generator = np.random.default_rng(5)
    x = generator.normal(size=(SAMPLES, 3)).astype("f")
    return x, x @ np.array([[1.0], [-2.0], [0.5]], "f")


def fit_line(apply_step, make_optimizer):
    """Two epochs of a linear regression; `apply_step` calls the step that it is given."""
    weight = tf.Variable(np.zeros((3, 1), "f"), name="w")
    optimizer = make_optimizer()
    optimizer.build([weight])

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(x @ weight - y)) / BATCH
        optimizer.apply_gradients([(tape.gradient(loss, weight), weight)])

    apply_step(step)
    return weight, optimizer


def shards(strategy, directory, worker):
    """Data that tf.data deals out to the workers."""
    dataset = tf.data.Dataset.from_tensor_slices(line()).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    dealt = strategy.experimental_distribute_dataset(dataset.with_options(options))
    sizes = []

    def epochs(step):
        run = tf.function(lambda x, y: strategy.run(step, args=(x, y)), autograph=False)
        for _ in range(2):
            for x, y in dealt:
                sizes.append(int(strategy.experimental_local_results(x)[0].shape[0]))
                run(x, y)

    with strategy.scope():
        weight, optimizer = fit_line(epochs, lambda: tko.AdamW(0.1, global_clipnorm=1.0))
    numbers = {"iterations": int(optimizer.iterations.numpy()), "sizes": sizes}
    np.savez(directory / f"shards_{worker}.npz", weight.numpy(), numbers=json.dumps(numbers))


def work(worker, directory, cases):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for name in cases:
        if name == "shards":
            shards(strategy, directory, worker)
        else:
            train(strategy, directory, name, worker, **CASES[name])


def main():
    directory = pathlib.Path(sys.argv[1])
    first = ("shards", "plain", "scaled", "overflow", "dies")
    one, other = forks.cluster(2, work, directory, first)
    forks.finish([other], 9 << 8)
    forks.kill([one])  # it waits for the other one
    forks.finish(forks.cluster(2, work, directory, ["resumes"]))


if __name__ == "__main__":
    main()
