"""Runs the command line: `python -m tf_keras_optim info`."""

import sys

from tf_keras_optim.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
