"""One worker of two: trains with given gradients, and writes what each case ends with.

TF_CONFIG=... python worker.py DIRECTORY CASE...

The results of a case go to DIRECTORY/CASE_WORKER.npz, checkpoints to DIRECTORY/state.
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
from tests.support import state

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


def main():
    directory, cases = pathlib.Path(sys.argv[1]), sys.argv[2:]
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for name in cases:
        train(strategy, directory, name, worker, **CASES[name])


if __name__ == "__main__":
    main()
