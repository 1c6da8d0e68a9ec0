"""Steps of torch and optax, one at a time, for the process that asks.

Runs under an interpreter that may have no TensorFlow: imports NumPy and, when asked,
torch or jax and optax.
"""

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.bench import shapes
from tools.bench.workers import serve

Step = Callable[[], None]


def torch_step(side: str, name: str, values: Sequence[Any], gradients: Sequence[Any]) -> Step:
    """Returns one step of `torch.optim`.

    Args:
      side: "loop", "foreach" or "fused".
      name: name of the optimizer in lower case.
      values: what the parameters start from, as arrays.
      gradients: tensors, shared by all sides.
    """
    import torch

    classes = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "nadam": torch.optim.NAdam,
        "sgd": torch.optim.SGD,
    }
    parameters = [torch.from_numpy(value.copy()).requires_grad_() for value in values]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    options: dict[str, Any] = {"lr": 1e-3, "foreach": side == "foreach"}
    if side == "fused":
        options["fused"] = True
    if name == "adamw":
        options["weight_decay"] = 0.004
    if name == "rmsprop":
        options["alpha"] = 0.9
    optimizer = classes[name](parameters, **options)
    return lambda: optimizer.step() and None


def optax_step(name: str, values: Sequence[Any], gradients: Sequence[Any]) -> Step:
    """Returns one compiled step of optax, with donated parameters and state.

    Args:
      name: name of the optimizer in lower case.
      values: what the parameters start from, as arrays.
      gradients: JAX arrays.
    """
    import jax
    import optax

    options = {"weight_decay": 0.004} if name == "adamw" else {}
    if name == "lion":
        options = {"weight_decay": 0.0}
    optimizer = getattr(optax, name)(1e-3, **options)

    def update(parameters: Any, state: Any, given: Any) -> Any:
        updates, state = optimizer.update(given, state, parameters)
        return optax.apply_updates(parameters, updates), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    parameters = [jax.numpy.array(value) for value in values]
    kept = [parameters, optimizer.init(parameters)]

    def step() -> None:
        kept[:] = compiled(*kept, gradients)
        jax.block_until_ready(kept)

    return step


class Peer:
    """Answers requests to make a side, to take a step of it, and to drop it."""

    def __init__(self, library: str):
        self._library = library
        self._steps: dict[str, Step] = {}
        self._gradients: list[Any] = []
        self._shapes: list[shapes.Shape] = []

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what `request["do"]` asks for: versions, make, step or drop."""
        if request["do"] == "versions":
            return self._versions(request["threads"])
        if request["do"] == "drop":
            self._steps.clear()
            self._gradients, self._shapes = [], []
            return {}
        if request["do"] == "make":
            self._make(request["side"], request["optimizer"], request["shapes"])
            return {}
        began = time.perf_counter()
        self._steps[request["side"]]()
        return {"seconds": time.perf_counter() - began}

    def _versions(self, threads: int) -> dict[str, Any]:
        needed = {"torch": ["torch"], "optax": ["jax", "optax"]}[self._library]
        if any(importlib.util.find_spec(module) is None for module in needed):
            return {"versions": None}
        if self._library == "torch":
            import torch

            torch.set_num_threads(threads)
        modules = [importlib.import_module(module) for module in needed]
        return {"versions": {module.__name__: module.__version__ for module in modules}}

    def _make(self, side: str, name: str, sizes: Sequence[Sequence[int]]) -> None:
        wanted = [tuple(shape) for shape in sizes]
        if self._shapes != wanted:
            self._shapes = wanted
            arrays = shapes.gradients(wanted)
            if self._library == "torch":
                import torch

                self._gradients = [torch.from_numpy(array) for array in arrays]
            else:
                import jax

                self._gradients = [jax.numpy.array(array) for array in arrays]
        values = shapes.weights(wanted)
        if self._library == "torch":
            self._steps[side] = torch_step(side, name, values, self._gradients)
        else:
            self._steps[side] = optax_step(name, values, self._gradients)


if __name__ == "__main__":
    serve(Peer(sys.argv[1]).answer)
