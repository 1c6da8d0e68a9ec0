"""The table in docs/accuracy.md: `python tests/accuracy.py` prints it.

Fifty steps on variables of four shapes (rank 0, 1, 2 and 4), float32. The numbers are the
last weight of the last variable; the errors are the largest ones of all weights, relative
to the farthest that any weight of their variable moved.
"""

import sys

import harness
import numpy as np
import tensorflow as tf

import tf_keras_optim as tko

STEPS = 50
ARGUMENTS = {record.name: dict(record.example) for record in harness.RECORDS}


def expected(name):
    """Returns the final variables of the oracle."""
    gradients = harness.gradient_sequence(STEPS)
    return harness.expected(getattr(tko, name), harness.starts(), gradients, **ARGUMENTS[name])


def values(name):
    """Returns the final variables of the oracle, of ours and of Keras (or `None`)."""
    arguments = ARGUMENTS[name]
    gradients, starts = harness.gradient_sequence(STEPS), harness.starts()
    ours = harness.run(getattr(tko, name)(**arguments), gradients, starts, "function")
    peer = getattr(tf.keras.optimizers, name, None)
    theirs = peer and harness.run(
        peer(**arguments), gradients, starts, "function", harness.for_keras(starts)
    )
    return expected(name), ours, theirs


def row(name):
    """Returns the cells of one optimizer."""
    exact, ours, theirs = values(name)
    settings = ", ".join(f"{k}={v}" for k, v in ARGUMENTS[name].items())
    found = [v and np.ravel(v[-1])[-1] for v in (exact, ours, theirs)]
    numbers = ["-" if v is None else f"{v:.7f}" for v in found]
    starts = harness.starts()
    errors = [v and harness.distance_error(v, exact, starts) for v in (ours, theirs)]
    errors = ["-" if v is None else f"{v:.0e}" for v in errors]
    return [name, settings, *numbers, *errors]


def main():
    """Prints the table, or the rows of the optimizers that are named."""
    for name in sys.argv[1:] or ARGUMENTS:
        print("| " + " | ".join(row(name)) + " |", flush=True)


if __name__ == "__main__":
    main()
