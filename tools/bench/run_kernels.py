r"""Runs exported optimizer kernels on the device that JAX has, and checks what they compute.

    python -m tools.bench export_kernels DIR    # where TensorFlow is; puts a copy of this there
    python DIR/run_kernels.py                   # where the accelerator is, with jax and numpy

It needs JAX and NumPy alone. Each kernel is compiled, run once on the example and compared with
the expected outputs; then it runs again and again on its own results, to be timed. "Bytes" are
its inputs and outputs, once each; "of the copy" is what they are per second, divided by the
speed of a copy (an array is negated in place). Where torch is installed, its fused AdamW takes
a step of the same shape. The table is Markdown. The exit code is 1 where an output is off.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Returns the time of a call, of which the second function waits for the end.
Timed = Callable[[Callable[[], None], Callable[[], Any]], float]

FORMAT = 1
MANIFEST = "kernels.json"
PERIOD = 65_537  # numbers after which example values repeat
_ROUNDS = 5  # of which the median counts


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found about one kernel.

    Attributes:
      name: of the kernel.
      parameters: how many it updates.
      error: the largest difference from an expected output, in units of what is allowed.
      worst: the name of that output.
      seconds: the median time of a step.
      moved: bytes of inputs and outputs.
      peer: the same of torch's fused AdamW, or `None`.
    """

    name: str
    parameters: int
    error: float
    worst: str
    seconds: float
    moved: int
    peer: float | None


def read_manifest(directory: pathlib.Path) -> Mapping[str, Any]:
    """Returns what `export_kernels` wrote about its kernels.

    Raises:
      ValueError: there is nothing, or something else.
    """
    path = directory / MANIFEST
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path} is not there. Expected a folder that `python -m tools.bench "
            "export_kernels DIR` wrote."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}. Export the kernels again.") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found!r}, and this program reads {FORMAT}. Use the "
            "run_kernels.py that was written beside it."
        )
    return content


def stored(array: np.ndarray) -> np.ndarray:
    """Returns an array as it is kept in a file: one period of it, in a dtype of NumPy's own."""
    flat = np.ravel(array)
    if array.dtype.kind == "V":  # bfloat16, which NumPy's files do not know
        flat = flat.view(f"u{array.dtype.itemsize}")
    for size in (1, PERIOD):
        if size < flat.size and np.array_equal(np.resize(flat[:size], flat.shape), flat):
            return flat[:size].copy()
    return flat


def restored(kept: np.ndarray, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Returns the array that `stored` made smaller."""
    return np.resize(kept.view(dtype), tuple(shape))


def _arrays(directory: pathlib.Path, entry: Mapping[str, Any]) -> tuple[list, list]:
    """Returns a kernel's example inputs and expected outputs."""
    import jax.numpy as jnp

    path = directory / entry["arrays"]
    with np.load(path, allow_pickle=False) as archive:

        def read(part: str, told: Mapping[str, Any], dtype: str) -> np.ndarray:
            return restored(archive[part + told["name"]], jnp.dtype(dtype), told["shape"])

        inputs = [read("input/", told, told["dtype"]) for told in entry["inputs"]]
        outputs = [read("output/", told, told["expected_dtype"]) for told in entry["outputs"]]
    return inputs, outputs


def loaded(text: bytes, entry: Mapping[str, Any]) -> Callable[..., Sequence[Any]]:
    """Returns a kernel as a function of JAX, which gives up the inputs that it updates.

    Args:
      text: the module in StableHLO.
      entry: what the manifest says of it.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    takes, gives = (
        [jax.ShapeDtypeStruct(tuple(told["shape"]), jnp.dtype(told["dtype"])) for told in part]
        for part in (entry["inputs"], entry["outputs"])
    )

    def alike(*_: Any) -> tuple[Any, ...]:
        return tuple(jnp.zeros(told.shape, told.dtype) for told in gives)

    # A function of the same signature, with the kernel's module in the place of its own.
    shell = export.export(jax.jit(alike, keep_unused=True))(*takes)
    kernel = dataclasses.replace(shell, mlir_module_serialized=_portable(text))
    updated = tuple(sorted({t["input"] for t in entry["outputs"] if t["input"] is not None}))
    return jax.jit(kernel.call, donate_argnums=updated)


def _portable(text: bytes) -> bytes:
    """Returns a module as JAX reads it."""
    from jax.extend import mlir

    return mlir.serialize_portable_artifact(text, "1.0.0")


def difference(found: Any, expected: np.ndarray, told: Mapping[str, Any]) -> float:
    """Returns the largest difference of an output, in units of what is allowed."""
    wide = np.float64 if expected.dtype.kind == "f" else np.int64
    distance = np.abs(np.asarray(found).astype(wide) - expected.astype(wide))
    allowed = told["absolute"] + told["relative"] * np.abs(expected.astype(wide))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(distance == 0, 0.0, distance / allowed)
    worst = float(np.max(parts, initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


def run(directory: pathlib.Path, entry: Mapping[str, Any], torch: Any, timed: Timed) -> Result:
    """Runs a kernel: checks it, times it, and times torch's beside it."""
    import jax

    inputs, expected = _arrays(directory, entry)
    step = loaded((directory / entry["module"]).read_bytes(), entry)
    given = [jax.device_put(array) for array in inputs]
    found = step(*given)
    names = [told["name"] for told in entry["outputs"]]
    errors = [difference(*triple) for triple in zip(found, expected, entry["outputs"])]
    error, worst = max(zip(errors, names))
    moved = sum(array.nbytes for array in (*inputs, *found))
    # The step gave up the inputs that it updates.
    kept = dict(enumerate(jax.device_put(array) for array in inputs))

    def again() -> None:
        for told, output in zip(entry["outputs"], step(*kept.values())):
            if told["input"] is not None:
                kept[told["input"]] = output

    seconds = timed(again, lambda: jax.block_until_ready(list(kept.values())))
    peer = None
    if torch is not None and entry["torch"] is not None:
        peer = torch_seconds(torch, entry, jax.devices()[0].platform, timed)
    return Result(entry["name"], entry["parameters"], error, worst, seconds, moved, peer)


def median_time(seconds: float, call: Callable[[], None], wait: Callable[[], Any]) -> float:
    """Returns the median time of a call that may return before its work is done.

    Args:
      seconds: for so long it is called again and again, in each of five rounds.
      call: what is timed.
      wait: returns once all work is done.
    """
    call()
    wait()
    began = time.perf_counter()
    call()
    wait()
    calls = max(1, int(seconds / (time.perf_counter() - began)))
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        taken.append((time.perf_counter() - began) / calls)
    return float(np.median(taken))


def bandwidth(megabytes: int, timed: Timed) -> float:
    """Returns the bytes per second of a copy: an array is read, negated and written."""
    import jax
    import jax.numpy as jnp

    negated = jax.jit(lambda array: -array, donate_argnums=0)
    kept = [jnp.ones(megabytes * 250_000, jnp.float32)]

    def again() -> None:
        kept[0] = negated(kept[0])

    return 2 * kept[0].nbytes / timed(again, lambda: kept[0].block_until_ready())


def torch_seconds(torch: Any, entry: Mapping[str, Any], platform: str, timed: Timed) -> float:
    """Returns the time of a step of torch's fused AdamW on a weight of the same shape."""
    device = "cuda" if platform in ("gpu", "cuda", "rocm") else "cpu"
    weight = torch.zeros(entry["inputs"][0]["shape"], device=device, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight], fused=True, **entry["torch"])
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return timed(lambda: optimizer.step() and None, wait)


def table(results: Sequence[Result], speed: float) -> str:
    """Returns the results as a table in Markdown."""
    lines = [
        "| Kernel | Parameters | Error / allowed | Time | Bytes | Of the copy | torch, fused |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results:
        peer = "" if found.peer is None else f"{_time(found.peer)} "
        peer += "" if found.peer is None else f"({found.peer / found.seconds:.2f})"
        lines.append(
            f"| {found.name} | {found.parameters:,} | {found.error:.2g} | "
            f"{_time(found.seconds)} | {found.moved / 1e6:,.1f} MB | "
            f"{found.moved / found.seconds / speed:.0%} | {peer} |"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"


def _require_jax() -> None:
    """Refuses to run without a JAX that reads modules.

    Raises:
      ValueError: there is none.
    """
    if importlib.util.find_spec("jax") is None:
        raise ValueError("run_kernels.py needs jax and numpy: pip install jax.")
    import jax
    from jax.extend import mlir

    if not hasattr(mlir, "serialize_portable_artifact"):
        raise ValueError(f"jax {jax.__version__} is too old. It must be 0.7.2 or later.")


def _torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the kernels of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("directory", nargs="?", type=pathlib.Path, default=here)
    parser.add_argument("--kernels", help="names, separated by commas; all by default")
    parser.add_argument(
        "--copy_megabytes", type=int, default=512, help="of the array that is copied"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="of each of five rounds of a measurement"
    )
    parsed = parser.parse_args(arguments)
    try:
        _require_jax()
        entries = _chosen(read_manifest(parsed.directory)["kernels"], parsed.kernels)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import jax

    jax.config.update("jax_enable_x64", True)  # the number of updates is an int64
    torch, device = _torch(), jax.devices()[0]
    timed = functools.partial(median_time, parsed.seconds)
    beside = "not installed" if torch is None else torch.__version__
    speed = bandwidth(parsed.copy_megabytes, timed)
    print(
        f"{device.device_kind} ({device.platform}), jax {jax.__version__}, torch {beside}; "
        f"a copy of {parsed.copy_megabytes} MB: {speed / 1e9:,.1f} GB/s\n"
    )
    results = [run(parsed.directory, entry, torch, timed) for entry in entries]
    print(table(results, speed))
    wrong = [found for found in results if found.error > 1.0]
    for found in wrong:
        print(f"WRONG  {found.name}: {found.worst} is {found.error:.3g} of what is allowed")
    print(f"\n{len(results) - len(wrong)} of {len(results)} kernels are as expected.")
    return 1 if wrong else 0


def _chosen(entries: Sequence[Mapping[str, Any]], names: str | None) -> Sequence[Any]:
    if names is None:
        return entries
    known = {entry["name"]: entry for entry in entries}
    for name in names.split(","):
        if name not in known:
            raise ValueError(
                f"--kernels: unknown name {name!r}. There are: {', '.join(known)}."
            )
    return [known[name] for name in names.split(",")]


if __name__ == "__main__":
    sys.exit(main())
