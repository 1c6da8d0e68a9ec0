"""Suite replicas: two replicas on two logical CPUs, in a loop of one's own."""

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tools.bench import shapes
from tools.bench.peers import Peers
from tools.bench.results import OURS, Comparison
from tools.bench.settings import Settings
from tools.bench.tf_sides import RUNNING, fresh, keras_sides, make_optimizer
from tools.bench.timing import STEP, take_turns, timed

_DIVIDED = f"{OURS}, shard_slots"


@functools.cache
def strategy_of(replicas: int) -> tf.distribute.Strategy:
    """Returns the strategy of 1 or 2 replicas; one of each for the whole process.

    Two mirrored strategies on the same devices would disturb one another.
    """
    if replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


def replicas(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Times a step of two replicas in a `tf.function`, beside the running Keras'.

    Ours once more with state that is divided; matrices of Muon's kind for Muon.
    """
    models = {
        f"tiny ({settings.tensors} tensors)": shapes.tiny(settings.tensors),
        f"{settings.megabytes} MB": shapes.matrices(settings.megabytes),
    }
    for name in settings.optimizers:
        present, absent = keras_sides(name)
        sides = [OURS, *(side for side in present if side == RUNNING)]
        kernels = {"BERT's kernels, 2 layers of 512": shapes.bert(2, 512)}
        for title, sizes in (models | (kernels if name == "muon" else {})).items():
            turns = {side: timed(replicated_step(side, name, sizes)) for side in sides}
            divided = replicated_step(OURS, name, sizes, shard_slots=True)
            turns[_DIVIDED] = timed(divided)
            first, parts = take_turns(turns, settings.steps)
            yield Comparison(
                suite="replicas",
                case=f"2 replicas, {title}, {name}, function",
                figures=parts[STEP],
                context=[_DIVIDED],
                absent={side: why for side, why in absent.items() if side == RUNNING},
                first=first,
                note=f"In turn: {'; '.join(turns)}",
            )
            del turns, divided
            gc.collect()


def replicated_step(
    side: str, name: str, sizes: Sequence[shapes.Shape], **options: Any
) -> Callable[[], None]:
    """Returns a function that sums gradients over two replicas and applies them.

    Args:
      side: `OURS` or the running Keras.
      name: name of the optimizer in lower case.
      sizes: shapes of the variables.
      **options: further arguments of the optimizer.
    """
    strategy = strategy_of(2)
    # Distributed values: Keras does not sum a tensor that replicas share.
    gradients = [
        strategy.experimental_distribute_values_from_function(
            lambda context, array=array: tf.identity(array)
        )
        for array in shapes.gradients(sizes)
    ]
    with strategy.scope():
        variables = fresh(shapes.weights(sizes))
        optimizer = make_optimizer(side, name, **options)
        optimizer.build(variables)

    def apply(given: Sequence[tf.Tensor]) -> None:
        optimizer.apply_gradients(list(zip(given, variables)))

    @tf.function(autograph=False)
    def call(given: Sequence[tf.Tensor]) -> None:
        strategy.run(apply, args=(given,))

    def step() -> None:
        call(gradients)
        for value in strategy.experimental_local_results(variables[-1]):
            value.sparse_read([0]).numpy()

    return step
