"""Single bits flipped in files of every format; `python -m tests.damage` flips more."""

import damage


def test_a_flipped_bit_is_refused_or_means_nothing(tmp_path):
    kinds = set()
    for case in damage.cases(tmp_path):
        refused, read, faults = damage.run(case, flips=12, seed=1)
        assert not faults, faults
        assert refused + read == 12
        kinds.add(case.name.split()[0])
    assert kinds == {
        "convert", "inspect", "load_model", "load_state", "load_training", "load_weights",
        "restore",
    }  # fmt: skip
