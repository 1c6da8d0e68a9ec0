"""Trains on two workers and two parameter servers, all in this process, and alone.

Prints the largest difference and what the state looks like, as JSON: a line for kernels
that are compiled, and one for kernels that are not. Then both workers take steps without
waiting for each other; a line says what became of these, and one what is refused. Before
all that, one of two workers comes late, is killed and comes back; the first line says how
that went.
"""

import json
import os
import socket

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests import late_worker
from tests.support import state

STEPS = 6
TABLE = np.random.default_rng(0).normal(size=(6, 3)).astype("f")
KERNEL = np.random.default_rng(1).normal(size=(3, 2)).astype("f")


def optimizer_for(jit):
    return tko.Adam(0.1, global_clipnorm=0.5, weight_decay=0.01, jit_compile=jit)


def loss_of(table, kernel, step):
    ids = tf.stack([step % 6, (2 * step) % 6, step % 6])
    rows = tf.nn.embedding_lookup(table, ids)
    return tf.reduce_sum(tf.square(tf.matmul(rows, tf.convert_to_tensor(kernel)) - 1.0))


def alone(jit):
    """The table and the kernel after the last step, and what was measured in it."""
    table, kernel = tf.Variable(TABLE), tf.Variable(KERNEL)
    optimizer = optimizer_for(jit)
    optimizer.statistics()
    for step in range(STEPS):
        with tf.GradientTape() as tape:
            loss = loss_of(table, kernel, tf.constant(step))
        gradients = tape.gradient(loss, [table, kernel])
        optimizer.apply_gradients(zip(gradients, [table, kernel]))
    return [table.numpy(), kernel.numpy()], optimizer.statistics()


def start_cluster():
    sockets = [socket.socket() for _ in range(4)]
    for s in sockets:
        s.bind(("localhost", 0))
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    spec = tf.train.ClusterSpec({"worker": addresses[:2], "ps": addresses[2:]})
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    servers = [
        tf.distribute.Server(spec, job_name=job, task_index=i, protocol="grpc", config=config)
        for job in ("worker", "ps")
        for i in range(2)
    ]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    return servers, resolver


def trained(strategy, coordinator, jit):
    """What the cluster makes of the variables, beside what this process makes of them."""
    expected, numbers = alone(jit)
    with strategy.scope():
        table, kernel = tf.Variable(TABLE, name="table"), tf.Variable(KERNEL, name="kernel")
        optimizer = optimizer_for(jit)
        variables = [*table.variables, *kernel.variables]
        optimizer.build(variables)
    optimizer.statistics()

    @tf.function(autograph=False)
    def step(number):
        def replica():
            with tf.GradientTape() as tape:
                loss = loss_of(table, kernel, number)
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

        strategy.run(replica)

    for number in range(STEPS):
        coordinator.schedule(step, args=(tf.constant(number),))
        coordinator.join()  # one after another
    found = [np.concatenate([v.numpy() for v in v.variables]) for v in (table, kernel)]
    slots = [state.native(v) for v in optimizer.variables if len(v.shape)]
    return {
        "difference": max(float(np.max(np.abs(f - e))) for f, e in zip(found, expected)),
        "moved": float(np.max(np.abs(found[0] - TABLE))),
        "shards": len(table.variables),
        "servers": sorted({slot.device.split("task:")[1][0] for slot in slots}),
        "beside": [slot.device for slot in slots]
        == [v.device for v in variables for _ in range(2)],
        "iterations": int(optimizer.iterations.numpy()),
        "measured": optimizer.statistics(),
        "to be measured": numbers,
    }


LATE_STEPS, KILLS = 300, 1
RATES, CHANGES_AT, ASYNCHRONOUS = (1 / 64, 1 / 128), 500, 1000


def asynchronous(strategy, coordinator):
    """Many steps of both workers at once: each adds 1 to counts, and its rate to a sum."""
    with strategy.scope():
        kinds = {name: tf.Variable(np.zeros(4, "f"), name=name) for name in ("count", "sum")}
        kinds["learned"] = tf.Variable(np.ones(4, "f"), name="learned")
        kinds["rows"] = tf.Variable(np.zeros((4, 2), "f"), name="rows")
        parts = {name: variable.variables for name, variable in kinds.items()}
        counting = tko.SGD(1.0, jit_compile=False, sparse="lazy")  # operation by operation
        schedule = tko.schedules.PiecewiseConstantDecay([CHANGES_AT - 1], RATES)
        optimizer = tko.SGD(schedule, jit_compile=False)
        optimizer.statistics()
        counting.build([*parts["count"], *parts["rows"]])
        optimizer.build([*parts["sum"], *parts["learned"]])

    @tf.function(autograph=False)
    def step():
        def replica():
            pairs = [(-tf.ones(v.shape), v) for v in parts["count"]]
            pairs += [(tf.IndexedSlices(-tf.ones([1, 2]), [1]), v) for v in parts["rows"]]
            counting.apply_gradients(pairs)
            pairs = [(-tf.ones(v.shape), v) for v in parts["sum"]]
            pairs += [(v.read_value(), v) for v in parts["learned"]]  # of the loss v^2 / 2
            optimizer.apply_gradients(pairs)

        strategy.run(replica)

    for _ in range(ASYNCHRONOUS):
        coordinator.schedule(step)
    coordinator.join()
    found = {n: np.concatenate([v.numpy() for v in part]) for n, part in parts.items()}
    return {
        **{name: [float(value.min()), float(value.max())] for name, value in found.items()},
        "rows": [float(row[0]) for row in found["rows"]],
        "iterations": [int(o.iterations.numpy()) for o in (counting, optimizer)],
        "rate": float(optimizer.current_learning_rate),
        "measured": optimizer.statistics(),
    }


def refused(strategy):
    """What optimizers say whose steps must follow one another."""
    said = {}
    for name in ("accumulation", "loss scale"):
        with strategy.scope():
            weights = tf.Variable(np.zeros(4, "f"), name="w").variables
            steps = 2 if name == "accumulation" else None
            optimizer = tko.SGD(0.1, gradient_accumulation_steps=steps)
            optimizer = optimizer if steps else tko.LossScaleOptimizer(optimizer)
            optimizer.build(weights)

        def replica(optimizer=optimizer, weights=weights):
            optimizer.apply_gradients([(tf.ones(v.shape), v) for v in weights])

        try:
            tf.function(lambda run=replica: strategy.run(run), autograph=False)()
        except ValueError as error:
            said[name] = str(error)
    return said


def main():
    late_worker.run(LATE_STEPS, KILLS)  # in processes of their own
    _servers, resolver = start_cluster()  # they end with this process
    partitioner = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    for jit in ("auto", False):
        print(json.dumps(trained(strategy, coordinator, jit)), flush=True)
    print(json.dumps(asynchronous(strategy, coordinator)), flush=True)
    print(json.dumps(refused(strategy)), flush=True)
    os._exit(0)  # the servers have no way to end


if __name__ == "__main__":
    main()
