"""Saving under fault: calls that fail or are interrupted, and processes that are killed.

python -m tests.faults [--kills=30] [--interruptions=200] [--savers=save_state,...]

For each saver, at each of its calls that open, rename, make, lock or remove something, in
turn: the call, or that and all later ones, raises `OSError` or `KeyboardInterrupt`, before it
has acted or after. Then the earlier file, or the new one, is whole; and after the next save
there is nothing else. Likewise for processes that are killed at such a call or at any time.
"""

import argparse
import builtins
import errno
import fcntl
import io
import os
import pathlib
import random
import signal
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
import tf_keras_optim.saving.atomic as atomic
from tests.support import forks

EXCHANGE = atomic._renameat2
CALLS = [(builtins, "open"), (io, "open"), (fcntl, "flock"), (atomic, "_exchanged")]
CALLS += [
    (os, name)
    for name in [
        "open",
        "replace",
        "rename",
        "mkdir",
        "rmdir",
        "unlink",
        "remove",
        "chmod",
        "fsync",
        "scandir",
    ]
]


def disk_fails():
    raise OSError(errno.EIO, "injected")


def interrupt():
    raise KeyboardInterrupt("injected")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Calls:
    """Counts calls, and acts at one of them.

    Args:
      number: at which call, from 1; 0 for none.
      action: what to do then.
      after: do it when the call has acted.
      lasting: do it at all later calls as well.
    """

    def __init__(self, number=0, action=None, after=False, lasting=False):
        self.number, self.action = number, action
        self.after, self.lasting = after, lasting
        self.count = 0

    def _wrapped(self, function):
        def call(*args, **kwargs):
            self.count += 1
            reached = self.number and self.count >= self.number
            acts = reached and (self.lasting or self.count == self.number)
            if acts and not self.after:
                self.action()
            try:
                return function(*args, **kwargs)
            finally:
                if acts and self.after:
                    self.action()

        return call

    def __enter__(self):
        self.originals = [getattr(module, name) for module, name in CALLS]
        for (module, name), function in zip(CALLS, self.originals):
            setattr(module, name, self._wrapped(function))
        return self

    def __exit__(self, *_):
        for (module, name), function in zip(CALLS, self.originals):
            setattr(module, name, function)


def faults_of(total):
    """All faults of a save with so many calls, in an order that mixes them."""
    found = [
        {"number": number, "action": action, "after": after, "lasting": lasting}
        for number in range(1, total + 1)
        for action in (disk_fails, interrupt)
        for after in (False, True)
        for lasting in (False, True)
    ]
    random.Random(4).shuffle(found)
    return found


class Saver:
    """One saver with a model whose weights are one number, so that half a file shows.

    Args:
      name: of a function of the package; with "_in_two_steps" where names cannot be exchanged.
      directory: where it saves.
    """

    def __init__(self, name, directory):
        self.name = name.removesuffix("_in_two_steps")
        atomic._renameat2 = EXCHANGE if name == self.name else lambda: None
        suffix = {"save_model": ".keras", "save_weights": ".weights.h5"}.get(name, "")
        self.path = directory / f"saved{suffix}"
        layers = [tf.keras.layers.Input((8,)), tf.keras.layers.Dense(2000)]
        self.model = tf.keras.Sequential(layers)
        self.model.compile(tko.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)

    def save(self, value):
        for variable in (*self.model.variables, *self._slots()):
            variable.assign(np.full(variable.shape, value))
        if self.name == "save_state":
            tko.save_state(self.path, self.model.optimizer, self.model.variables)
        elif self.name == "export_training":
            tko.export_training(self.model, self.path)
        else:
            getattr(tko, self.name)(self.model, self.path)

    def _slots(self):
        return [v for v in self.model.optimizer.variables if len(v.shape) > 0]

    def saved(self):
        """Returns the number that all weights and slots in the file are."""
        model = self.model
        if self.name == "save_state":
            tko.load_state(self.path, model.optimizer, model.variables)
        elif self.name == "save_weights":
            tko.load_weights(model, self.path)
        elif self.name == "save_model":
            model = tko.load_model(self.path)
        else:
            loaded = tko.load_training(self.path).loaded
            state = [v for v in loaded.state.values() if v.shape.rank]
            return one_number([*loaded.weights.values(), *state])
        slots = [v for v in model.optimizer.variables if len(v.shape) > 0]
        return one_number([*model.variables, *slots])

    def check_alone(self):
        found = os.listdir(self.path.parent)
        assert found == [self.path.name], f"{self.name} left {found}"


def one_number(variables):
    found = {float(x) for v in variables for x in np.unique(v.numpy())}
    assert len(found) == 1 and len(variables) == 4, f"half a file: {found}"
    return found.pop()


def interruptions(name, count, directory):
    """Interrupts a saver so often, in this process."""
    saver = Saver(name, directory)
    saver.save(0)
    saver.save(1)
    with Calls() as calls:
        saver.save(2)
    faults = faults_of(calls.count)
    before, left, raised = 2, 0, 0
    for turn in range(count):
        fault = faults[turn % len(faults)]
        try:
            with Calls(**fault):
                saver.save(turn + 3)
        except (OSError, KeyboardInterrupt, ValueError, tf.errors.OpError):
            raised += 1
        left += len(os.listdir(directory)) - 1
        found = saver.saved()
        assert found in (before, turn + 3), f"{fault}: {found} is neither"
        saver.save(turn + 3)
        saver.check_alone()
        before = turn + 3
    return (
        f"{name}: {count} interruptions at {calls.count} calls, {raised} raised; what "
        f"{left} of them left, the next save removed"
    )


def _save_until_killed(name, directory, turn, at_a_call, ready):
    saver = Saver(name, directory)
    if saver.path.exists():
        saver.saved()
    saver.save(turn)
    saver.check_alone()
    with Calls() as calls:
        saver.save(turn + 0.25)
    saver.check_alone()
    assert saver.saved() == turn + 0.25
    generator = random.Random(turn)
    os.write(ready, b"x")
    while True:
        number = generator.randint(1, calls.count) if at_a_call else 0
        with Calls(number, kill, after=generator.random() < 0.5):
            saver.save(turn + 0.5)


def kills(name, count, directory):
    """Kills so many processes that save; each begins with looking what is there."""
    generator, left = random.Random(9), 0
    for turn in range(count + 1):
        reading, writing = os.pipe()
        child = forks.start(_save_until_killed, name, directory, turn, turn % 2 == 0, writing)
        os.close(writing)
        started = os.read(reading, 1)
        os.close(reading)
        if started and turn % 2:
            time.sleep(generator.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status == signal.SIGKILL, f"{name}: a process ended with status {status}"
        if turn < count:
            left += len(os.listdir(directory)) > 1
        if name.endswith("_in_two_steps"):  # its next reader puts back what was there
            atomic.present(directory / "saved")
        assert len(list(directory.glob("saved*"))) == 1, f"{name}: nothing at the path"
    return f"{name}: {count} kills, {left} of them left something, which the next save removed"


SAVERS = (
    "save_state",
    "save_weights",
    "save_model",
    "export_training",
    "export_training_in_two_steps",
)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--interruptions", type=int, default=200)
    parser.add_argument("--savers", default=",".join(SAVERS))
    options = parser.parse_args()
    for act, count in ((kills, options.kills), (interruptions, options.interruptions)):
        # Killed processes are forked before TensorFlow is used here.
        for name in options.savers.split(",") if count else []:
            with tempfile.TemporaryDirectory() as directory:
                print(act(name, count, pathlib.Path(directory)), flush=True)


if __name__ == "__main__":
    main()
