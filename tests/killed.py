"""Trains with a save after every step, is killed at random moments, and resumes.

python killed.py DIRECTORY [--kills=20]

Every process that resumes compares what it has loaded with an uninterrupted run, bit for
bit. TensorFlow is imported before the processes are forked, and first used after that.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import forks

STEPS = 1200  # of the uninterrupted run; the others do not get so far


def make():
    variables = [
        tf.Variable(np.linspace(-1, 1, size, dtype="f"), name=name)
        for name, size in (("a", 40), ("b", 2000), ("c", 3))
    ]
    optimizer = tko.AdamW(
        tko.schedules.CosineDecay(0.01, STEPS),
        use_ema=True,
        gradient_accumulation_steps=2,
        jit_compile=False,
    )
    optimizer.build(variables)
    return variables, tko.LossScaleOptimizer(optimizer, initial_scale=8.0)


def apply(variables, optimizer, step):
    scale = 1.0 if "tf_keras" in tf.keras.optimizers.Optimizer.__module__ else 8.0
    gradients = [tf.cos(v * 3.0 + step) * scale for v in variables]
    optimizer.apply_gradients(zip(gradients, variables))


def fingerprint(variables, optimizer):
    arrays = [v.numpy() for v in variables] + optimizer.get_weights()
    return zlib.crc32(b"".join(np.asarray(a).tobytes() for a in arrays))


def uninterrupted(directory):
    variables, optimizer = make()
    found = [fingerprint(variables, optimizer)]
    for step in range(STEPS):
        apply(variables, optimizer, step)
        found.append(fingerprint(variables, optimizer))
    (directory / "expected.json").write_text(json.dumps(found))


def resumed(directory, expected, from_file, ready, more):
    """Loads the newest save, compares it, and trains on, to the end if `more` is `None`."""
    variables, optimizer = make()
    path = directory / "state.npz"
    checkpoint = tf.train.Checkpoint(variables=variables, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(directory / "manager"), max_to_keep=2)
    if from_file and path.exists():
        tko.load_state(path, optimizer, variables)
    elif not from_file and manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    begin = int(optimizer.inner_optimizer.state_dict()["scalars"]["iterations"])
    if fingerprint(variables, optimizer) != expected[begin]:
        raise AssertionError(f"step {begin} is not the uninterrupted run's")
    print(f"resumed, equal at step {begin}", flush=True)
    for step in range(begin, STEPS if more is None else begin + more):
        apply(variables, optimizer, step)
        if fingerprint(variables, optimizer) != expected[step + 1]:
            raise AssertionError(f"step {step + 1} is not the uninterrupted run's")
        tko.save_state(path, optimizer, variables)
        manager.save(checkpoint_number=step + 1)
        if step == begin:
            os.write(ready, b"x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    forks.finish([forks.start(uninterrupted, options.directory)])
    expected = json.loads((options.directory / "expected.json").read_text())
    generator, leftovers = random.Random(8), 0
    for kill in range(options.kills):
        reading, writing = os.pipe()
        child = forks.start(resumed, options.directory, expected, kill % 2 == 0, writing, None)
        if kill % 5 == 4:  # while it starts and loads, perhaps
            time.sleep(generator.uniform(0.0, 0.8))
        else:
            os.read(reading, 1)  # it has saved once
            time.sleep(generator.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if status != signal.SIGKILL:
            sys.exit(f"a process ended with status {status} before it was killed")
        os.close(reading)
        os.close(writing)
        leftovers += len(list(options.directory.glob(".*")))
        print("killed at random", flush=True)
    last = forks.start(resumed, options.directory, expected, True, os.pipe()[1], 5)
    forks.finish([last])
    if list(options.directory.glob(".*")):
        sys.exit("what a killed process left behind was not removed")
    print(f"{leftovers} of {options.kills} were killed while writing the state file")


if __name__ == "__main__":
    main()
