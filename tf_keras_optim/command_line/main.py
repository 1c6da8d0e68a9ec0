r"""Looks at this installation, into files with optimizer state, and at schedules.

    python -m tf_keras_optim info
    python -m tf_keras_optim inspect run/state.npz
    python -m tf_keras_optim diff run/state.npz other/state.npz
    python -m tf_keras_optim convert model.keras state.npz
    python -m tf_keras_optim convert x.weights.h5 state.npz --optimizer adam \
        --set learning_rate=0.01 --variables dense/kernel:3,2 dense/bias:2
    python -m tf_keras_optim plot-schedule schedule.json

`info` says which versions and devices there are, which Keras `tf.keras` is, and where XLA
compiles. `inspect`, `diff` and `convert` read state files of `save_state`, `.keras`,
`.weights.h5`, HDF5 files of whole models, and prefixes of `tf.train.Checkpoint`; `convert`
makes a state file of what Keras' own optimizers wrote. `plot-schedule` draws the schedule
that a JSON or YAML file describes. Exit code 0; 1 where `diff` finds a difference; 2 for an
error. `tf-keras-optim` is the same as `python -m tf_keras_optim`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from tf_keras_optim.command_line import arrays, converting, info, schedule_plots


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    Args:
      argv: the arguments; those of the process by default.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "tf-keras-optim", description=__doc__, formatter_class=form
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def added(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Callable:
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        command.set_defaults(run=run)
        return command.add_argument

    added("info", _info, "versions, devices, which Keras, what compiles")
    added("inspect", _inspect, "list what is in a file")("path", metavar="FILE")
    diff = added("diff", _diff, "compare two files")
    diff("path", metavar="FILE")
    diff("other", metavar="OTHER")
    make = added("convert", _convert, "make a state file of another library's file")
    make("path", metavar="FILE")
    make("output", metavar="OUTPUT")
    make("--optimizer", help="class, where the file does not say it")
    make("--set", action="append", default=[], help="key=value of its arguments")
    make("--model", help="a `.keras` file of the model")
    make("--variables", nargs="+", help="names and shapes: dense/kernel:3,2")
    plot = added("plot-schedule", _plot, "draw a learning-rate schedule")
    plot("path", metavar="CONFIG", help="JSON or YAML: of a schedule, an optimizer, or a demo")
    plot("--output", help="the picture; CONFIG with the ending .png by default")
    plot("--steps", type=int, help="how many; by default all that the schedule names")
    return parser


def _info(arguments: argparse.Namespace) -> int:
    print(info.text())
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    with arrays.arrays_of(arguments.path) as found:
        print(arrays.table(found))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    with arrays.arrays_of(arguments.path) as one, arrays.arrays_of(arguments.other) as other:
        lines = arrays.differences(one, other)
    print("\n".join(lines) or "The same names, shapes and values.")
    return 1 if lines else 0


def _convert(arguments: argparse.Namespace) -> int:
    print(converting.convert(arguments))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    print(schedule_plots.plot(arguments.path, arguments.output, arguments.steps))
    return 0
