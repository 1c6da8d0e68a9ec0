"""Shapes of whole models, and the values that every side gets. NumPy only."""

import math
from collections.abc import Callable, Sequence

import numpy as np

Shape = tuple[int, ...]

_BLOCK = 1_000_003  # values that are drawn; larger arrays repeat them


def bert(layers: int, width: int) -> list[Shape]:
    """Returns BERT with its pooler: 30,522 words, 512 positions, inner width 4 * width."""
    norm: list[Shape] = [(width,), (width,)]
    dense: list[Shape] = [(width, width), (width,)]
    inner: list[Shape] = [(width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    embeddings: list[Shape] = [(30_522, width), (512, width), (2, width)]
    return embeddings + norm + layers * (4 * dense + norm + inner + norm) + dense


def bert_base() -> list[Shape]:
    """Returns BERT-base: 199 tensors, 109,482,240 parameters."""
    return bert(12, 768)


def bert_tiny() -> list[Shape]:
    """Returns BERT with 2 layers of 128: 39 tensors, 4,385,920 parameters."""
    return bert(2, 128)


def resnet50() -> list[Shape]:
    """Returns ResNet-50 without biases before norms: 161 tensors, 25,557,032 parameters."""

    def convolution(size: int, inputs: int, outputs: int) -> list[Shape]:
        return [(size, size, inputs, outputs), (outputs,), (outputs,)]

    shapes, inputs = convolution(7, 3, 64), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(1, inputs, width)
            shapes += convolution(3, width, width)
            shapes += convolution(1, width, 4 * width)
            if block == 0:
                shapes += convolution(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (inputs, 1000), (1000,)]


def transformer() -> list[Shape]:
    """Returns the transformer of the suite tasks: 38 tensors, 117,092 parameters."""
    norm: list[Shape] = [(64,), (64,)]
    projection: list[Shape] = [(64, 4, 16), (4, 16)]
    attention: list[Shape] = [*3 * projection, (4, 16, 64), (64,)]
    inner: list[Shape] = [(64, 256), (256,), (256, 64), (64,)]
    block = norm + attention + norm + inner
    return [(100, 64), (64, 64), *block, *block, *norm, (64, 100), (100,)]


def tiny(tensors: int) -> list[Shape]:
    """Returns matrices of 64x64 and vectors of 64 in turn."""
    return [(64, 64) if index % 2 == 0 else (64,) for index in range(tensors)]


def matrices(megabytes: int) -> list[Shape]:
    """Returns float32 matrices of 4 MB (1024x1024), at least one."""
    return [(1024, 1024)] * max(1, megabytes // 4)


def of_model(model: str, tensors: int) -> list[Shape]:
    """Returns the shapes of a model.

    Args:
      model: one of `MODELS`.
      tensors: number of variables of "tiny".
    """
    models: dict[str, Callable[[], list[Shape]]] = {
        "tiny": lambda: tiny(tensors),
        "transformer": transformer,
        "bert_tiny": bert_tiny,
        "resnet50": resnet50,
        "bert_base": bert_base,
        "huge": lambda: [(100_000_000,)],
    }
    return models[model]()


MODELS = ("tiny", "transformer", "bert_tiny", "resnet50", "bert_base", "huge")


def parameters(shapes: Sequence[Shape]) -> int:
    """Returns the number of parameters in all of them."""
    return sum(math.prod(shape) for shape in shapes)


def normals(shape: Shape, scale: float, seed: int) -> np.ndarray:
    """Returns float32 values of this shape, normal with deviation `scale`.

    Large arrays repeat a block of a million values, so that they are made quickly.
    """
    size = math.prod(shape)
    generator = np.random.default_rng(seed)
    block = scale * generator.standard_normal(min(size, _BLOCK), dtype=np.float32)
    return np.resize(block, shape).astype(np.float32, copy=False)


def weights(shapes: Sequence[Shape]) -> list[np.ndarray]:
    """Returns the weights that every side starts from."""
    return [normals(shape, 0.02, 2 * seed) for seed, shape in enumerate(shapes)]


def gradients(shapes: Sequence[Shape]) -> list[np.ndarray]:
    """Returns the gradients that every side gets in every step."""
    return [normals(shape, 0.01, 2 * seed + 1) for seed, shape in enumerate(shapes)]
