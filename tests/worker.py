"""One worker of two: trains with given gradients and writes what it ends with.

TF_CONFIG=... python worker.py OUT [--scaled] [--overflow-at=3] [--die-at=7] [--state=DIR]
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf

import tf_keras_optim as tko

STEPS = 10
SCALE = 1024.0


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--scaled", action="store_true")
    parser.add_argument("--overflow-at", type=int, default=-1)
    parser.add_argument("--die-at", type=int, default=-1)
    parser.add_argument("--state")
    options = parser.parse_args()
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in starts()]
        optimizer = make(options.scaled)
        optimizer.build(variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    checkpoint = tf.train.Checkpoint(variables=variables, optimizer=optimizer)
    begin, manager = 0, None
    if options.state:
        own = pathlib.Path(options.state) / f"worker_{worker}"
        manager = tf.train.CheckpointManager(checkpoint, str(own), max_to_keep=2)
        # The last step that both have saved.
        saved = [
            {
                int(p.stem.split("-")[1])
                for p in pathlib.Path(options.state).glob(f"{w}/*.index")
            }
            for w in ("worker_0", "worker_1")
        ]
        begin = max(saved[0] & saved[1], default=0)
        if begin:
            checkpoint.restore(str(own / f"ckpt-{begin}")).assert_consumed()

    @tf.function(autograph=False)
    def run(*values):
        strategy.run(lambda: apply(optimizer, variables, options.scaled, *values))

    for step in range(begin, STEPS):
        if step == options.die_at and worker == 1:
            os._exit(9)
        dense, ids, rows = parts(step, worker)
        if step == options.overflow_at and worker == 1:
            rows = np.full_like(rows, np.inf)
        factor = float(optimizer.loss_scale) if options.scaled else 1.0
        run([tf.constant(g, tf.float32) for g in dense], *map(tf.constant, (ids, rows, factor)))
        if manager:
            manager.save(checkpoint_number=step + 1)
    state = [v.numpy() for v in inner._store.state()]
    numbers = {"iterations": int(inner._iterations.numpy())}
    if options.scaled:
        numbers["scale"] = float(optimizer.loss_scale)
        numbers["skipped"] = int(optimizer.skipped_steps.numpy())
    arrays = [v.numpy() for v in variables] + state
    np.savez(options.out, *arrays, numbers=json.dumps(numbers))


if __name__ == "__main__":
    main()
