"""`python -m tests.lives`: see the package."""

import argparse
import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.lives import run, shrink, space
from tests.lives.life import Life


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.lives", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first life")
    parser.add_argument("--count", type=int, default=40, help="how many lives")
    parser.add_argument("--life", action="append", help="the line of a life; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the lines only")
    parser.add_argument("--verbose", action="store_true", help="print each life as it ends")
    parser.add_argument("--shrink", action="store_true", help="shorten every life that fails")
    parser.add_argument("--peer", action="store_true", help="with Keras' own optimizers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Lives the lives of the command line; returns 1 if one differs."""
    arguments = _arguments()
    if arguments.child:
        run.prepare()
        run.child(arguments.child)
        return 0
    if arguments.life:
        lives = [Life.parse(line) for line in arguments.life]
    else:
        seeds = range(arguments.seed, arguments.seed + arguments.count)
        lives = [space.draw(seed) for seed in seeds]
    if arguments.list:
        print(*(life.line for life in lives), sep="\n")
        return 0
    run.prepare()

    def report(outcome):
        if outcome.differences:
            print(outcome.text, flush=True)
        elif arguments.verbose:
            beside = "" if outcome.reference is None else f"  (no float64: {outcome.reference})"
            print(f"ok {outcome.seconds:.1f} s  {outcome.life.line}{beside}", flush=True)

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        outcomes = run.live(lives, directory, arguments.peer, report)
    failed = [outcome for outcome in outcomes if outcome.differences]
    seconds = time.perf_counter() - begun
    print(f"{len(lives)} lives, {len(failed)} differ, {seconds:.0f} s")
    if arguments.shrink:
        for outcome in failed:
            print("shortest", shrink.shrink(outcome.life, arguments.peer).text, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
