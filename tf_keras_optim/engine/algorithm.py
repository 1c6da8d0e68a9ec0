"""What an algorithm says of itself: the part of the engine that it overrides."""

from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine.update.scalars import Scalars
from tf_keras_optim.engine.variable_hooks import VariableHooks


class Algorithm(VariableHooks):
    """The pure update of an algorithm, and what is known about it."""

    name: Any
    """What the optimizer is called."""

    elementwise: ClassVar[bool] = False
    """Whether each element of a variable moves by its own gradient and slots alone."""

    corrected: ClassVar[tuple[str, ...]] = ()
    """Decays whose `formulas.bias_correction` it uses: where one of them follows a schedule,
    the product of its values so far is part of the state."""

    slot_meanings: ClassVar[Mapping[str, str]] = {}
    """What the slots mean, by name. Where another class has a slot of that name and of an equal
    meaning, each may take it over from a state of the other. A slot that is not named here has
    the meaning that it has in the class above; without one there, a meaning of its own."""

    counts_updates: ClassVar[bool] = True
    """Whether `prepare` or `update` uses `scalars.step`, or what is carried between steps."""

    draws_noise: ClassVar[bool] = False
    """Whether `update` and `measure` draw random numbers: `scalars.noise_seed` is then a seed,
    int32 of shape [2], of this variable's place and this update alone: the same on all replicas
    and in a run that is resumed."""

    needs_master_weights: ClassVar[bool] = False
    """Whether it compares weights with earlier ones, and so needs all digits of narrow ones:
    float16 and bfloat16 variables without a master copy are refused then."""

    def prepare(self, scalars: Scalars) -> Mapping[str, Any]:
        """Computes, once per step, further scalars that `update` needs.

        Args:
          scalars: `learning_rate`, `step` (from 1; for a variable whose slots came late it
            counts from there), `total_step` (of the optimizer, for what is a schedule),
            `common_rate` (the learning rate without the factors of single variables) and
            the hyperparameters.

        Returns:
          Mapping from name to 0-d tensor; `update` finds them in its `scalars`.
        """
        return {}

    def measure(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> Mapping[str, Any]:
        """Gives numbers of one variable, to be summed over all before any moves. Pure.

        It is called for each variable that takes part in the update, with what `update` will
        be given; where only some rows have a gradient and the update is lazy, with these rows.
        All replicas have the same gradients, so all of them find the same sums.

        Args:
          gradient: as for `update`.
          value: as for `update`.
          slots: as for `update`.
          scalars: as for `update`, but for what `conclude` returns.

        Returns:
          Mapping from name to 0-d tensor, with the same names for every variable.
        """
        return {}

    def conclude(self, sums: Mapping[str, tf.Tensor], scalars: Scalars) -> Mapping[str, Any]:
        """Computes, once in an update, further scalars from the sums of what `measure` gave.

        Args:
          sums: the sums by name, 0-d float64 tensors.
          scalars: as for `prepare`, with what that returned; those of the optimizer itself.

        Returns:
          Mapping from name to 0-d tensor; `update` finds them in its `scalars`. One under the
          name of a step slot is kept for the next step, and is the same for all variables.
        """
        return {}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """The algorithm: one variable's new value and slots. Pure.

        Args:
          gradient: the gradient after summing over replicas, unscaling and clipping, of the
            variable's shape, in float32 (float64 for float64 variables).
          value: the variable's value, same shape and dtype.
          slots: the declared slots by name, same shape and dtype.
          scalars: `learning_rate`, `step` (from 1), the hyperparameters, and what
            `prepare` and `conclude` returned.

        Returns:
          value: the new value.
          slots: a dict with the new value of every slot.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override `update`.")

    @property
    def refresh_every(self) -> int | None:
        """After how many updates `refresh` is run; `None`: never.

        Overridden by a class attribute, a hyperparameter of that name or a property.
        """
        return None

    @property
    def refresh_first(self) -> int | None:
        """The update after which `refresh` is run first, from 1; by default `refresh_every`."""
        return None

    refresh_spread: Any = False
    """Whether `refresh` is run for different variables after different updates, by their places
    in the model, from the second time on: so no single step has all of that work."""

    def refresh(
        self, value: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> Mapping[str, tf.Tensor]:
        """Computes new values of some slots, every `refresh_every` updates. Pure.

        It is for work that is too expensive for each update, such as decompositions. It is run
        after the updates, for each variable that is kept, with a gradient in this step or
        without, outside of kernels: one operation after the other, on the variable's device.
        The updates are counted for each variable from where its slots began. Where one of the
        results is not finite, all slots of that variable stay as they are.

        Args:
          value: the variable's value, in float32 (float64 for float64 variables).
          slots: the slots by name, in that dtype.
          scalars: as for `update`, but for what `conclude` returns; and `compiled`, a bool:
            whether this becomes part of a function that XLA compiles, as a user's with
            `jit_compile=True`. Decompositions take long there, those of eigenvalues a hundred
            times as long as elsewhere: take products instead.

        Returns:
          Mapping from the names of slots to their new values; the others stay. Empty for a
          variable that has nothing to refresh.
        """
        return {}

    def evaluated(self, value: tf.Tensor, slots: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Computes the weight that is to be evaluated from the one that is trained. Pure.

        Overriding it gives the optimizer weights for evaluation.

        Args:
          value: the trained value, in float32 (float64 for float64 variables).
          slots: the slots by name, those that are not kept in 8 bits, in that dtype.

        Returns:
          The value for evaluation, of the same shape and dtype.
        """
        return value

    def trained(self, value: tf.Tensor, slots: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Undoes `evaluated`, to within rounding. Pure.

        Args:
          value: what `evaluated` gave.
          slots: as there.
        """
        return value

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """Does what `update` does by a training operation of TensorFlow, if there is one.

        It is used where that is faster; see `kernel_choice`. It must be written in the class
        that has the `update`, or below it.

        Args:
          gradient: the conditioned gradient, of the variable's shape and dtype.
          variable: the variable, to be assigned to.
          slots: the slots by name, likewise.
          scalars: as for `update`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `update_in_place`.")

    @property
    def fusible(self) -> bool:
        """Whether `update_in_place` does what `update` does with the options as they are."""
        return True
