"""Prints a table of classes and regimes; see the package."""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from tests.own_classes import cases, compare, listed, regimes


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.own_classes")
    parser.add_argument("--class", dest="name", action="append", help="only this one")
    parser.add_argument("--regime", action="append", choices=regimes.REGIMES)
    options = parser.parse_args()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    found = listed.cases()
    wrong = 0
    for name in options.name or found:
        for regime in options.regime or regimes.REGIMES:
            outcome = compare.compare(found[name], regime)
            wrong += not outcome.good
            print(f"{name:22} {regime:12} {outcome.kind:8} {outcome.text}", flush=True)
    print(f"Keras {cases.KERAS}: {len(found)} classes, {wrong} wrong.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
