"""Which dtypes the slots of a variable have, and which they cannot have."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tf_keras_optim.engine.numerics import quantization
from tf_keras_optim.engine.options import EIGHT_BIT
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.state.store import VariableState


def slot_dtypes(
    entry: VariableState, slots: Sequence[Slot], wanted: str | None, is_lazy: bool, title: str
) -> Mapping[str, tf.DType]:
    """Returns the dtypes of a variable's slots; those that exist must have them.

    Args:
      entry: the variable.
      slots: the slots that are declared for it.
      wanted: what `slot_dtype` says for it.
      is_lazy: whether its rows are updated one by one.
      title: the optimizer, for messages.

    Raises:
      ValueError: a slot has another dtype already, or 8 bits are asked for where rows
        are updated one by one.
    """
    narrow = wanted == EIGHT_BIT
    wide = entry.dtype if narrow or wanted is None else tf.as_dtype(wanted)
    shape, dtypes = tuple(entry.variable.shape), {}
    for slot in slots:
        fits = narrow and quantization.applies(slot.shape_for(shape))
        kind = slot.eight_bit if fits else None
        plain = entry.dtype if slot.keeps_digits else wide
        dtypes[slot.name] = quantization.CODES[kind] if kind else plain
    for name, variable in (entry.unused | entry.slots).items():
        if variable.dtype != dtypes.get(name, variable.dtype):
            raise ValueError(
                f"{title}: slot {name!r} of variable {entry.path!r} is "
                f"{variable.dtype.name} and cannot become {dtypes[name].name}. Create a new "
                "optimizer for another `slot_dtype`."
            )
    if is_lazy and any(dtype.is_integer for dtype in dtypes.values()):
        raise ValueError(
            f"{title}: the slots of variable {entry.path!r} cannot be kept in 8 "
            "bits, as sparse='lazy' updates single rows, while a scale belongs to a block "
            "of elements. Use sparse='exact' for it, or keep its slots whole: "
            f"slot_dtype={{'^{entry.path}$': 'float32', '': 'int8'}}."
        )
    return dtypes


def check_eight_bit(slots: Sequence[Slot], owner: str, slot_dtype: object) -> None:
    """Refuses 8 bits where no slot bears them.

    Args:
      slots: those of a large matrix.
      owner: the class of the optimizer, for messages.
      slot_dtype: the option that asks for them.

    Raises:
      ValueError: no declared slot has `eight_bit`.
    """
    if not any(slot.eight_bit for slot in slots):
        names = ", ".join(slot.name for slot in slots) or "none"
        raise ValueError(
            f"{owner}: argument `slot_dtype`={slot_dtype!r} is not "
            "possible: with these options this algorithm declares no slot that can be "
            f"kept in 8 bits (its slots: {names}). An algorithm that does says so by "
            "`tko.Slot(name, eight_bit='signed')`, or 'unsigned' for a slot that is "
            "never negative. Use 'bfloat16' or leave `slot_dtype` out."
        )
