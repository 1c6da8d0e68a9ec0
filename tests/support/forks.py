"""Processes that are forked from one that has imported TensorFlow and not used it yet."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback


def start(function, *arguments):
    """Starts a process that runs a function; returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _in_cluster(function, addresses, index, arguments):
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    function(index, *arguments)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("localhost", 0))
        return [s.getsockname()[1] for s in sockets]


def cluster(count, function, *arguments, late=None, seconds=0.0):
    """Starts the workers of a cluster, each of which runs `function(index, *arguments)`.

    Args:
      late: the worker that starts later than the others, if one does.
      seconds: by how much.

    Returns:
      Their processes' numbers.
    """
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    found = {}
    for index in sorted(range(count), key=lambda index: index == late):
        if index == late:
            time.sleep(seconds)
        found[index] = start(_in_cluster, function, addresses, index, arguments)
    return [found[index] for index in range(count)]


def finish(children, expected=0):
    """Waits for processes; all must end with a status."""
    for child in children:
        _, status = os.waitpid(child, 0)
        if status != expected:
            sys.exit(f"a process ended with status {status}, not {expected}")


def kill(children):
    """Kills processes, which may wait for one that is dead."""
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
