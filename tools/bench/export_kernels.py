"""Writes kernels as StableHLO, with example inputs and what they must compute.

    python -m tools.bench export_kernels DIR

A kernel is a whole step for one variable, as XLA compiles it inside a user's function:
test of the gradient, clip, decay, update, average. It is traced as where there are
accelerators. The inputs are a state after three steps. What it must compute from them comes
from the same rules in float64, run by TensorFlow operation by operation, without XLA.
`run_kernels.py`, of which the folder gets a copy, runs them without TensorFlow.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.optimizers.records import records
from tools.bench import run_kernels
from tools.bench.run_kernels import FORMAT, MANIFEST, PERIOD
from tools.bench.settings import require_known
from tools.bench.shapes import Shape
from tools.bench.tf_sides import IS_KERAS_2

_STEPS = 3  # before the one that is exported
_SCALE = 1024.0  # of the loss
_LARGE, _WIDE, _SMALL = (4096, 4096), (1024, 4096), (64, 96)
_ADAMW = {"learning_rate": 1e-3, "weight_decay": 0.01}

# What TensorFlow writes beside StableHLO.
_ALIAS = re.compile(r"parameter_number = (\d+).*?output_index = array<i64(?:: (\d+))?>")
_PLACES = re.compile(r' ?loc\((?:#loc\d*|"[^"]*")\)|^#loc.*\n', re.M)
_HEADER = re.compile(r"^module @.*\{$", re.M)
_TRAITS = re.compile(r" \{mhlo\.frontend_attributes = \{[^}]*\}\}")
_COPY = re.compile(r"mhlo\.copy (%\w+) : (tensor<[^>]*>)")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A step of one variable.

    Attributes:
      name: of its files.
      optimizer: name of the optimizer in lower case.
      options: arguments, beside those of the optimizer's example.
      shape: of the variable.
      dtype: of the variable.
      scaled: whether the optimizer is in a `LossScaleOptimizer`.
      tolerance: what a floating output may be off, as a part of its largest size.
    """

    name: str
    optimizer: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shape: Shape = _LARGE
    dtype: str = "float32"
    scaled: bool = False
    tolerance: float = 1e-6


KERNELS = (
    Kernel("adamw", "adamw", _ADAMW),
    Kernel("adamw_vector", "adamw", _ADAMW, (4096,)),
    Kernel("adamw_clip", "adamw", _ADAMW | {"global_clipnorm": 1.0}),
    Kernel("adamw_average", "adamw", _ADAMW | {"use_ema": True}),
    Kernel(
        "adamw_loss_scale",
        "adamw",
        _ADAMW | {"global_clipnorm": 1.0, "use_ema": True},
        scaled=True,
    ),
    Kernel("adamw_bfloat16", "adamw", _ADAMW, dtype="bfloat16"),
    Kernel("adam_int8", "adam", {"slot_dtype": "int8"}),
    Kernel("sgd_nesterov", "sgd", {"momentum": 0.9, "nesterov": True}),
    Kernel("lion", "lion"),
    Kernel("lamb", "lamb"),
    Kernel("adafactor", "adafactor"),
    # Fifteen products in a row round more than the other updates.
    Kernel(
        "muon",
        "muon",
        {"compute_dtype": "float32", "output": None},
        _WIDE,
        tolerance=1e-5,
    ),
    # Its products have 8 bits; the step is a tenth of the largest weight.
    Kernel(
        "muon_bfloat16",
        "muon",
        {"compute_dtype": "bfloat16", "output": None},
        _WIDE,
        tolerance=2e-2,
    ),
)


def wanted(optimizers: Iterable[str] | None = None) -> list[Kernel]:
    """Returns the kernels of some optimizers, of all if `None`.

    Raises:
      ValueError: one of them has none.
    """
    names = list(dict.fromkeys(kernel.optimizer for kernel in KERNELS))
    require_known(optimizers or (), names, "--optimizer")
    return [k for k in KERNELS if optimizers is None or k.optimizer in optimizers]


def small(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Returns the same kernels for small variables."""
    return [
        dataclasses.replace(kernel, shape=_SMALL[-len(kernel.shape) :]) for kernel in kernels
    ]


def _example(shape: Shape, scale: float, seed: int) -> np.ndarray:
    """Returns float32 values that are normal with this deviation and repeat early."""
    block = np.random.default_rng(seed).standard_normal(PERIOD, dtype=np.float32)
    return np.resize(scale * block, shape)


class Traced:
    """A kernel's variable, state and step.

    Args:
      kernel: which one.
      dtype: of the variable.
      compiled: whether XLA compiles the step.

    Attributes:
      weight: the variable.
      gradient: an example gradient.
      variables: by a name for each, the variable and what the step keeps.
    """

    def __init__(self, kernel: Kernel, dtype: str, compiled: bool):
        self.weight = tf.Variable(_example(kernel.shape, 0.02, 0), dtype=dtype, name="weight")
        record = records()[kernel.optimizer]
        optimizer: Any = record.cls(**{**record.example, **kernel.options})
        if kernel.scaled:
            optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=_SCALE)
        optimizer.build([self.weight])

        def step(gradient: tf.Tensor) -> None:
            gradients = [gradient]
            if kernel.scaled and IS_KERAS_2:
                gradients = optimizer.get_unscaled_gradients(gradients)
            optimizer.apply_gradients(zip(gradients, [self.weight]))

        self.gradient = self._gradient(kernel, 0)
        self._kernel = kernel
        self._step = tf.function(step, jit_compile=compiled, autograph=False)
        self._traced = self._step.get_concrete_function(self.gradient)
        # The trace does not list what operations take by a handle.
        listed = [v if isinstance(v, tf.Variable) else v.value for v in optimizer.variables]
        found = {id(v): v for v in (self.weight, *listed, *self._traced.variables)}
        self.variables = {_label(v): v for v in found.values()}
        if len(self.variables) != len(found):
            raise RuntimeError(f"{kernel.name}: two variables have one name.")

    def _gradient(self, kernel: Kernel, number: int) -> tf.Tensor:
        size = 0.01 * (_SCALE if kernel.scaled else 1.0)
        narrow = tf.cast(_example(kernel.shape, size, 1 + number), kernel.dtype)
        return tf.cast(narrow, self.weight.dtype)

    def run(self, number: int = 0) -> None:
        """Takes the step; each number has a gradient of its own."""
        self._traced(self._gradient(self._kernel, number))

    def inputs(self) -> dict[str, np.ndarray]:
        """Returns the values of all inputs in their order, by name."""
        handles = {id(v.handle): name for name, v in self.variables.items()}
        found = {"gradient": self.gradient.numpy()}
        for number, captured in enumerate(self._traced.captured_inputs):
            if captured.dtype == tf.resource:
                name = handles[id(captured)]
                found[name] = self.variables[name].numpy()
            else:
                found[f"constant_{number}"] = captured.numpy()
        return found

    def module(self) -> str:
        """Returns the step in StableHLO."""
        return self._step.experimental_get_compiler_ir(self.gradient)(stage="stablehlo")


def _label(variable: tf.Variable) -> str:
    return variable.name.split(":")[0].split("/")[-1]


def updated(module: str) -> dict[int, int]:
    """Returns by the numbers of outputs the inputs of which they are the new values."""
    return {int(found[2] or 0): int(found[1]) for found in _ALIAS.finditer(module)}


def cleaned(module: str) -> str:
    """Returns a module in StableHLO alone, without places in source files.

    Raises:
      RuntimeError: it has another operation that is not StableHLO.
    """
    text = _HEADER.sub("module {", _PLACES.sub("", module), count=1)
    text = _TRAITS.sub("", text)
    text = _COPY.sub(r"stablehlo.reshape \1 : (\2) -> \2", text)
    if "mhlo." in text:
        line = next(line for line in text.splitlines() if "mhlo." in line)
        raise RuntimeError(f"this version of TensorFlow writes other dialects too: {line}")
    return text


def expected(narrow: Traced, kernel: Kernel) -> dict[str, np.ndarray]:
    """Returns what a step must make of a state after some steps, which `narrow` is given."""
    wide = Traced(kernel, "float64", compiled=False)
    for number in range(_STEPS):
        wide.run(1 + number)
    for name, variable in narrow.variables.items():
        source = wide.variables[_without_master(name)]
        variable.assign(tf.cast(source, variable.dtype))
    for name, variable in wide.variables.items():
        source = narrow.variables[name]
        if variable is wide.weight:
            source = narrow.variables.get("weight_master", source)
        variable.assign(tf.cast(source, variable.dtype))
    wide.run()
    found = {name: variable.numpy() for name, variable in wide.variables.items()}
    return {name: found[_without_master(name)] for name in narrow.variables}


def _without_master(name: str) -> str:
    """Returns what stands in float64 for a variable: the weight for its master copy."""
    return name.removesuffix("_master")


def write(kernel: Kernel, directory: pathlib.Path) -> dict[str, Any]:
    """Writes a kernel, its inputs and what it must compute; returns what to say of them."""
    narrow = Traced(kernel, kernel.dtype, compiled=True)
    goal = expected(narrow, kernel)
    module, inputs = narrow.module(), narrow.inputs()
    names, aliases = list(inputs), updated(module)
    arrays: dict[str, Any] = {}
    takes: list[dict[str, Any]] = []
    gives: list[dict[str, Any]] = []
    for name, value in inputs.items():
        arrays[f"input/{name}"] = run_kernels.stored(value)
        takes.append({"name": name, "dtype": value.dtype.name, "shape": value.shape})
    for number in sorted(aliases):
        name = names[aliases[number]]
        value = goal[name]
        arrays[f"output/{name}"] = run_kernels.stored(value)
        told: dict[str, Any] = {"name": name, "shape": value.shape}
        told["dtype"] = inputs[name].dtype.name
        told |= {"expected_dtype": value.dtype.name, "input": aliases[number]}
        gives.append(told | allowed(value, inputs[name].dtype, kernel.tolerance))
    (directory / f"{kernel.name}.mlir").write_text(cleaned(module))
    np.savez(directory / f"{kernel.name}.npz", **arrays)
    return {
        "name": kernel.name,
        "optimizer": records()[kernel.optimizer].name,
        "options": dict(kernel.options),
        "parameters": int(np.prod(kernel.shape)),
        "module": f"{kernel.name}.mlir",
        "arrays": f"{kernel.name}.npz",
        "inputs": takes,
        "outputs": gives,
        "torch": torch_arguments(kernel),
    }


def allowed(value: np.ndarray, dtype: np.dtype, tolerance: float) -> dict[str, float]:
    """Returns how far an output may be off: a number, and a part of each value.

    Counts are exact, codes in 8 bits may be the next ones, where a random number is close to
    the bound, and values of bfloat16 too. Others may be off by a part of the largest one.
    """
    if dtype.itemsize == 1:
        return {"absolute": 1.0, "relative": 0.0}
    if dtype.name == "bfloat16":
        return {"absolute": 0.0, "relative": 2.0**-7}
    if dtype.kind != "f":
        return {"absolute": 0.0, "relative": 0.0}
    return {"absolute": tolerance * float(np.max(np.abs(value), initial=0.0)), "relative": 0.0}


def torch_arguments(kernel: Kernel) -> dict[str, float] | None:
    """Returns the arguments of torch's AdamW for a plain one of ours."""
    if kernel.optimizer != "adamw" or kernel.options != _ADAMW or kernel.dtype != "float32":
        return None
    return {"lr": _ADAMW["learning_rate"], "weight_decay": _ADAMW["weight_decay"]}


def export(
    directory: str | pathlib.Path,
    kernels: Sequence[Kernel] = KERNELS,
    report: Callable[[str], None] = print,
) -> None:
    """Writes kernels into a folder, with the program that runs them.

    Args:
      directory: the folder; it is made.
      kernels: which ones.
      report: is told what was written.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    told = []
    with loops.for_accelerators():
        for kernel in kernels:
            told.append(write(kernel, directory))
            report(f"{kernel.name}: {told[-1]['parameters']:,} parameters")
    versions = {"tensorflow": tf.__version__, "tf_keras_optim": tko.__version__}
    content = {"format": FORMAT, "versions": versions, "kernels": told}
    (directory / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
    shutil.copy(run_kernels.__file__, directory / "run_kernels.py")
    report(f"Wrote {directory}. Where there is JAX: python {directory}/run_kernels.py")
