"""Optimizer state divided among the replicas of one machine: each variable has an owner.

With `shard_slots` all that is kept for a variable is on one device, that of its owner, and the
numbers of the whole optimizer are on the first one; all of it in plain variables. The replicas
sum their gradients, and meet. Then one step is taken for all of them: each variable is updated
by the operations on its owner's device, on the owner's component, whose new value is copied to
the other components. Nothing is added up on that way, so the values are equal bit for bit
(-0.0 and NaN too), and one copy of each value leaves its owner for each other device: what an
all-gather moves. As only one step is traced, conditions in it (an overflow, accumulation) stand
around its copies too, which are no collectives.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow.tensorflow_private import rename

Run = Callable[[list[Any], Any], None]  # a step, of gradients and a flag


class Sharding:
    """Which replica owns a variable, and what follows from it.

    Args:
      strategy: the distribution strategy of the optimizer.

    Attributes:
      is_on: whether the state is divided.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._is_outside = not tf.distribute.has_strategy()
        self.is_on = False
        self._class: Any = None  # of plain variables
        self._owners: dict[int, int] = {}  # by the ids of model variables, numbers of replicas
        self._owned: dict[int, tf.Variable] = {}  # and their components there
        self._loads: list[tuple[int, int]] = []  # by replica: bytes of state, and of variables

    def check(self, wanted: bool, title: str, is_made: bool) -> None:
        """Refuses a strategy under which state cannot be divided, and a change of mind.

        Args:
          wanted: what `shard_slots` says.
          title: what messages call the optimizer.
          is_made: whether the optimizer has variables already.

        Raises:
          ValueError: the strategy is none of those, or there are variables already.
        """
        plain = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
        if wanted and not (self._is_outside or isinstance(self._strategy, plain)):
            raise ValueError(
                f"{title}: `shard_slots`=True needs tf.distribute.MirroredStrategy (or one "
                f"replica, where it has no effect). Received: {type(self._strategy).__name__}, "
                "of whose replicas one cannot reach what another one keeps. Use "
                "MirroredStrategy, or leave `shard_slots` out."
            )
        if is_made and self._divides(wanted) != self.is_on:
            raise ValueError(
                f"{title}: `shard_slots`={wanted} came after the optimizer had made its "
                "variables, which stay where they are. Create a new optimizer with it, and "
                "load the state of this one: `new.load_state_dict(old.state_dict())`."
            )

    def begin(self, wanted: bool) -> None:
        """Divides what is made from now on, if that is wanted and there is more than one."""
        self.is_on = self._divides(wanted)
        if self.is_on:
            self._loads = [(0, 0)] * self._strategy.num_replicas_in_sync
            with distribution.entered(self._strategy):
                made = tf.Variable(0, trainable=False, name="one_of_several")
            self._class = type(made.values[0])

    def _divides(self, wanted: bool) -> bool:
        return wanted and self._strategy.num_replicas_in_sync > 1

    # Owners.

    def assign(self, sizes: Mapping[VariableState, int]) -> None:
        """Gives variables that have none an owner: the largest one first, to who has least.

        Args:
          sizes: by variable, the bytes that are to be kept for it.
        """
        if not self.is_on:
            return
        own = {entry: _bytes(entry.variable.shape, entry.variable.dtype) for entry in sizes}
        new = [entry for entry in sizes if id(entry.variable) not in self._owners]
        for entry in sorted(new, key=lambda e: (sizes[e], own[e]), reverse=True):
            owner = self._loads.index(min(self._loads))
            state, variables = self._loads[owner]
            self._loads[owner] = (state + sizes[entry], variables + own[entry])
            self._owners[id(entry.variable)] = owner
            self._owned[id(entry.variable)] = entry.variable.values[owner]

    def made(
        self,
        name: str,
        start: Callable[[], tf.Tensor],
        beside: tf.Variable | None,
        kind: str | None,
    ) -> tf.Variable:
        """Makes a plain variable, on the device of an owner or on the first one.

        Args:
          name: its name.
          start: gives its first value.
          beside: the model variable that it is for, if there is one.
          kind: a name that many variables share.

        Raises:
          RuntimeError: TensorFlow makes one for each replica.
        """
        owned = None if beside is None else self._owned.get(id(beside))
        device = self._strategy.extended.worker_devices[0] if owned is None else owned.device

        def variable_named(name: str) -> tf.Variable:
            with tf.init_scope(), tf.device(device):
                return self._class(
                    start,
                    trainable=False,
                    name=name,
                    experimental_enable_variable_lifting=False,
                )

        # Not through the strategy's creators, which make `tf.Variable` one for each replica.
        variable = variable_named(kind or name)
        if isinstance(variable, tf.distribute.DistributedValues):
            raise RuntimeError(
                f"TensorFlow {tf.__version__} makes a variable for each replica where one is "
                "asked for, so `shard_slots`=True is not possible. Leave it out."
            )
        if kind and not rename(variable, f"{name}:0"):
            variable = variable_named(name)
        return variable

    def suits(self, variable: tf.Variable, other: tf.Variable) -> bool:
        """Says whether what is kept for a variable elsewhere is where it would be kept here.

        Args:
          variable: the model variable, which has an owner here if any has.
          other: what another optimizer keeps for it.
        """
        has_parts = distribution.is_per_replica(other)
        if not self.is_on:
            return has_parts == distribution.is_per_replica(variable)
        return not has_parts and other.device == self._owned[id(variable)].device

    # Steps.

    def owned(self) -> contextlib.AbstractContextManager[None]:
        """Lets model variables stand for their owners' components in a block, if there are."""
        if not self.is_on:
            return contextlib.nullcontext()
        return distribution.standing_for(self._owned)

    def once(
        self, run: Run, entries: Sequence[VariableState], gradients: Sequence[Any], flag: Any
    ) -> None:
        """Takes one step for all replicas, which meet here.

        Args:
          run: takes the step, with the gradients of the owners.
          entries: the variables.
          gradients: their gradients in this replica, which are equal on all.
          flag: a tensor that is equal on all replicas, or `None`.

        Raises:
          RuntimeError: XLA compiles what a replica does as a whole.
        """
        if distribution.in_xla():
            raise RuntimeError(
                "`shard_slots`=True is not possible in a function with `jit_compile=True`: the "
                "replicas must meet, which XLA cannot do. Leave `jit_compile` to the "
                "optimizer, which compiles its updates itself."
            )
        owners = [self._owners[id(entry.variable)] for entry in entries]

        def step(_: tf.distribute.Strategy, gradients: Any, flag: Any) -> None:
            pairs = zip(gradients, owners)
            own = [distribution.of_replica(gradient, owner) for gradient, owner in pairs]
            with self.owned():
                run(own, distribution.of_replica(flag, 0))

        context = tf.distribute.get_replica_context()
        context.merge_call(step, args=(tuple(gradients), flag))

    def placed(self, entries: Sequence[VariableState], gradients: list[Any]) -> list[Any]:
        """Returns the gradients of a step, each on its owner's device."""
        if not self.is_on:
            return gradients
        found = []
        for entry, gradient in zip(entries, gradients):
            with tf.device(self._owned[id(entry.variable)].device):
                found.append(tf.identity(gradient))
        return found

    def spread(
        self, entries: Iterable[VariableState], rows: Mapping[int, tf.Tensor] | None = None
    ) -> None:
        """Copies the values of owners' components to the other components of variables.

        Args:
          entries: the variables.
          rows: by the ids of entries, the rows that have changed, where that is known.
        """
        if not self.is_on:
            return
        for entry in entries:
            source = self._owned[id(entry.variable)]
            others = [v for v in entry.variable.values if v is not source]
            indices = (rows or {}).get(id(entry))
            with tf.device(source.device):
                value = source.read_value() if indices is None else source.sparse_read(indices)
            for component in others:
                with tf.device(component.device):
                    if indices is None:
                        component.assign(value)
                    else:
                        component.scatter_update(tf.IndexedSlices(value, indices))


def kept_bytes(
    entry: VariableState, slots: Sequence[Slot], dtypes: Mapping[str, tf.DType], others: int
) -> int:
    """Returns how many bytes are kept for a variable.

    Args:
      entry: the variable.
      slots: its slots.
      dtypes: their dtypes, by name.
      others: how many arrays of its shape are kept beside: averages and the like.
    """
    shape = tuple(entry.variable.shape)
    found = [_bytes(slot.shape_for(shape), dtypes[slot.name]) for slot in slots]
    return sum(found) + others * _bytes(shape, entry.dtype)


def _bytes(shape: Iterable[int], dtype: tf.DType) -> int:
    return math.prod(shape) * dtype.size
