"""An exported model for devices, by TensorFlow's own converter to TFLite."""

import os
import re
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tf_keras_optim.saving.atomic as atomic

_NOWHERE = {"SelfAdjointEigV2"}  # operations that the Flex delegate has not either
SIGNATURES = ("train", "infer", "save", "restore")


def export_tflite(
    path: str | os.PathLike,
    target: str | os.PathLike,
    signatures: Sequence[str] = SIGNATURES,
) -> list[str]:
    """Converts an exported model into one that trains on a device.

    What TFLite has no operation for is left to TensorFlow's own, which the app must link as
    the Flex delegate; `save` and `restore` always need it, and so does `train` with Adafactor,
    CAME, Lamb, LARS, MARS, Prodigy, RAdam, a clip by norm, `averaging="equal"`,
    `averaging_start`, `averaging_period` or `ema_warmup`. The other optimizers need none for
    `train`, but for Shampoo and Soap, whose `train` cannot be converted.

    Args:
      path: a directory that `export_training(..., jit_compile=False)` wrote.
      target: the `.tflite` file to write, atomically.
      signatures: which of its signatures to convert.

    Returns:
      flex: names of the TensorFlow operations that need the Flex delegate, sorted; with none
        any TFLite interpreter runs the model.

    Raises:
      FileNotFoundError: there is no SavedModel.
      ValueError: it has no such signature, or compiled functions or operations that cannot
        be converted.
    """
    if not (atomic.present(path) / "saved_model.pb").is_file():
        raise FileNotFoundError(f"There is no SavedModel at {str(path)!r}.")
    _check(path, signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(path), signature_keys=list(signatures)
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    converter.experimental_enable_resource_variables = True
    content = converter.convert()
    with atomic.replaced(target) as file:
        file.write(content)
    return sorted({name.decode() for name in re.findall(rb"\0Flex([A-Z]\w*)\0", content)})


def _check(path: str | os.PathLike, signatures: Sequence[str]) -> None:
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    graph = saved.meta_graphs[0]
    missing = [name for name in signatures if name not in graph.signature_def]
    if missing:
        raise ValueError(
            f"`export_tflite`: {str(path)!r} has no signature {', '.join(missing)}. It has "
            f"{', '.join(sorted(graph.signature_def))}."
        )
    functions = graph.graph_def.library.function
    if any(f.attr["_XlaMustCompile"].b for f in functions if "_XlaMustCompile" in f.attr):
        raise ValueError(
            f"`export_tflite`: {str(path)!r} has functions that XLA compiles, which TFLite "
            "does not know. Export it with `export_training(..., jit_compile=False)`."
        )
    found = {node.op for function in functions for node in function.node_def} & _NOWHERE
    if found and "train" in signatures:
        raise ValueError(
            f"`export_tflite`: the training step of {str(path)!r} has {', '.join(found)} "
            "(eigenvectors), for which TFLite has no operation, with the Flex delegate or "
            "without. Convert the other signatures, or train with another optimizer."
        )
