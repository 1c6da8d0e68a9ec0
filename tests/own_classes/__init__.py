"""Classes as people write them for Keras' base optimizers, on Keras' base and on ours.

`python -m tests.own_classes` prints a table of all classes in all regimes,
`python -m tests.own_classes --class LazyMomentum --regime fit` one of its cells.

Each class is made twice by one function, on the optimizers of the running Keras and on those of
this package, and must end at the same weights, or be refused by name when it is made.

cases.py      what a class is
listed.py     the list of all
decays.py     weight decay in the class
hooks.py      overridden methods between `apply` and `update_step`
names.py      members that are called as something of ours
state.py      attributes, counters and variables that a class keeps
slots.py      subclasses of concrete optimizers with their own `update_step`
sparse.py     branches for `tf.IndexedSlices`
two.py        as tf_keras documents it
wrappers.py   classes that hand gradients to another optimizer
regimes.py    the ways to train
compare.py    one class in one regime
"""
