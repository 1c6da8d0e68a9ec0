"""Other processes that do one thing when asked, and wait in between."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Worker:
    """A process that answers each line of JSON with one.

    It runs a module of this package; whatever it reports by itself goes to our stderr.
    """

    def __init__(self, python: str, module: str, threads: int, *arguments: str):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": str(threads),
            # A pool that waits for its next turn must leave the cores to the other sides.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "0",
            "KMP_BLOCKTIME": "0",
        }
        command = [python, "-m", module, *arguments]
        self._title = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, **request: Any) -> Mapping[str, Any]:
        """Sends a request and returns the answer.

        Raises:
          RuntimeError: if the process has ended instead.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(
                f"{self._title} ended with code {self._process.wait()} when asked for "
                f"{request}; what it said stands above."
            )
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve(answer: Any) -> None:
    """Answers requests until the other side closes: `answer(request)` gives a dict.

    Standard output is for answers alone; what else is printed goes to stderr.
    """
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)
        while line := sys.stdin.readline():
            output.write(json.dumps(answer(json.loads(line))) + "\n")
            output.flush()
