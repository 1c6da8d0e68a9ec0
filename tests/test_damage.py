"""Single bits flipped in files of every format; `python -m tests.damage` flips more."""

import damage
import harness

FLIPS, SEED = 6, 2 if harness.IS_KERAS_3 else 1  # each Keras flips others


def test_a_flipped_bit_is_refused_or_means_nothing(tmp_path):
    kinds = set()
    for case in damage.cases(tmp_path):
        refused, read, faults = damage.run(case, flips=FLIPS, seed=SEED)
        assert not faults, faults
        assert refused + read == FLIPS
        kinds.add(case.name.split()[0])
    assert kinds == {
        "convert", "inspect", "load_model", "load_state", "load_training", "load_weights",
        "restore",
    }  # fmt: skip
