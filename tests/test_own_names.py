"""Members of a user's class that are called as an option or a hook of ours.

`tests.own_classes.names` has classes that must end alike on Keras' base and on ours.
"""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

BAD = tf.constant([float("nan"), 1.0])


class Named(tko.SGD):
    """Hands on an option that no Keras has, or keeps the name for itself."""

    def __init__(self, learning_rate=0.5, skip_nonfinite=True, hands_on=False, **kwargs):
        self.skip_nonfinite = "before"
        if hands_on:
            super().__init__(learning_rate, skip_nonfinite=skip_nonfinite, **kwargs)
            return
        super().__init__(learning_rate, **kwargs)
        if skip_nonfinite is not None:
            self.skip_nonfinite = skip_nonfinite

    def get_config(self):
        return super().get_config() | {"skip_nonfinite": self.skip_nonfinite}


class Attributes(tko.SGD):
    """An attribute of the class, one that is announced, and an ordinary option."""

    sparse = "rows"
    skip_nonfinite: Any

    def __init__(self, **kwargs):
        super().__init__(0.5, weight_decay=0.5, **kwargs)
        self.skip_nonfinite = 7


class Behind:
    """A base class that comes after ours."""

    sparse = "behind"


class Mixed(tko.SGD, Behind):
    pass


def stepped(optimizer, gradient=BAD):
    weight = tf.Variable([1.0, 1.0])
    optimizer.apply_gradients([(gradient, weight)])
    return weight.numpy().tolist()


@pytest.mark.one_keras
def test_an_option_is_the_class_own_where_it_is_not_handed_on():
    optimizer = Named(skip_nonfinite=True)
    assert stepped(optimizer)[1] == 0.5
    assert vars(optimizer)["skip_nonfinite"] is True
    optimizer.skip_nonfinite = "anything"
    assert optimizer.skip_nonfinite == "anything" and stepped(optimizer)[1] == 0.5
    again = Named.from_config(optimizer.get_config())
    assert again.skip_nonfinite == "anything" and stepped(again)[1] == 0.5
    assert Named(skip_nonfinite=None).skip_nonfinite == "before"


@pytest.mark.one_keras
def test_an_option_that_is_handed_on_is_ours():
    optimizer = Named(hands_on=True)
    assert stepped(optimizer) == [1.0, 1.0]
    with pytest.raises(ValueError, match="`skip_nonfinite` must be a bool"):
        optimizer.skip_nonfinite = "anything"
    optimizer.skip_nonfinite = False
    assert optimizer.skip_nonfinite is False and stepped(optimizer)[1] == 0.5


@pytest.mark.one_keras
def test_attributes_of_a_class_are_its_own_and_the_option_is_kept_apart():
    slices = tf.IndexedSlices(tf.ones([1]), tf.constant([1]), tf.constant([2]))
    optimizer = Attributes()
    assert (optimizer.sparse, optimizer.skip_nonfinite) == ("rows", 7)
    assert "sparse" not in optimizer.get_config()
    assert stepped(optimizer, slices) == [0.75, 0.25]
    lazy = Attributes(sparse="lazy")
    assert lazy.sparse == "rows" and lazy.get_config()["sparse"] == "lazy"
    assert stepped(lazy, slices) == [1.0, 0.25]
    with pytest.raises(ValueError, match="Attributes: argument `sparse` must be"):
        Attributes(sparse="rows")
    assert Mixed().sparse == "behind" and stepped(Mixed(1.0), slices) == [1.0, 0.0]


def test_a_loss_scale_stands_around_a_class_with_names_of_its_own():
    optimizer = tko.LossScaleOptimizer(Named(skip_nonfinite=True), initial_scale=4.0)
    weight = tf.Variable([1.0, 1.0])
    for slope in (tf.constant([1.0, 2.0]), BAD):
        optimizer.minimize(lambda slope=slope: tf.reduce_sum(slope * weight), [weight])
    assert weight.numpy().tolist() == [0.5, 0.0]
    assert int(optimizer.skipped_steps) == 1


def test_a_class_that_was_made_for_ours_sets_options_as_before():
    class Plain(tko.SGD):
        def __init__(self):
            super().__init__(0.5)
            self.skip_nonfinite = True

    assert stepped(Plain()) == [1.0, 1.0]


def sets_an_option():
    class Unsaid(tko.SGD):
        def __init__(self, skips, **kwargs):
            super().__init__(**kwargs)
            self.skip_nonfinite = skips

        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(gradient)


def has_another_prepare():
    class Around(tko.Adam):
        def prepare(self, gradients, variables):
            return gradients, variables

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            return super().apply_gradients(grads_and_vars, *args, **kwargs)


def sets_slots():
    class Slotted(tko.Adam):
        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            self.slots = {}
            return super().apply_gradients(grads_and_vars, *args, **kwargs)


REFUSED = {
    sets_an_option: r"Unsaid.__init__ sets `self.skip_nonfinite`.*`super\(\).__init__\(skip_no",
    has_another_prepare: r"Around has `prepare`, .*the `update` of Adam uses.*another",
    sets_slots: r"Slotted.apply_gradients has `slots`, .*the `update` of Adam uses.*another",
}


@pytest.mark.one_keras
@pytest.mark.parametrize("make", REFUSED)
def test_a_name_of_which_it_cannot_be_told_whose_it_is_is_refused(make):
    with pytest.raises(TypeError, match=REFUSED[make]):
        make()


@pytest.mark.one_keras
def test_a_hook_with_its_own_arguments_is_ours_in_every_class():
    class Slower(tko.SGD):
        def options_for(self, variable):
            return {"learning_rate_factor": 0.5}

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            return super().apply_gradients(grads_and_vars, *args, **kwargs)

    np.testing.assert_array_equal(stepped(Slower(1.0), tf.ones([2])), [0.5, 0.5])
