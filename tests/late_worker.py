"""Parameter servers with a worker that starts late, is killed again and again and comes back.

Prints a line of JSON: the steps that each start of a worker took, and what was counted.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import forks


def serve(cluster, job, index):
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    spec = tf.train.ClusterSpec(cluster)
    tf.distribute.Server(spec, job_name=job, task_index=index, config=config).join()


def coordinate(cluster, steps, report):
    """Takes the steps; writes to `report` how far it is."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), rpc_layer="grpc"
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weights = [tf.Variable(np.zeros(4, "f"), name=f"count_{i}") for i in range(3)]
        optimizer = tko.SGD(1.0, jit_compile=False)  # an update is several operations
        optimizer.build(weights)

    @tf.function(autograph=False)
    def numbers():
        """The same number again and again, another one for each start of a worker."""
        number = tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
        return tf.data.Dataset.from_tensors(number).repeat()

    @tf.function(autograph=False)
    def step(data):
        def replica():
            optimizer.apply_gradients([(-tf.ones([4]), v) for v in weights])

        strategy.run(replica)
        return next(data)

    data = iter(coordinator.create_per_worker_dataset(numbers))
    taken = [coordinator.schedule(step, args=(data,)) for _ in range(steps)]
    while not coordinator.done():
        print(int(optimizer.iterations.numpy()), file=report, flush=True)
        time.sleep(0.05)
    coordinator.join()
    by = [int(number) for number in coordinator.fetch(taken)]
    found = {
        "steps": [by.count(number) for number in dict.fromkeys(by)],
        "iterations": int(optimizer.iterations.numpy()),
        "counts": [float(count) for v in weights for count in v.numpy()],
    }
    print(json.dumps(found), flush=True)


def run(steps, kills):
    """Trains on two workers and a server; the second worker starts late and is killed."""
    ports = [f"localhost:{port}" for port in forks.free_ports(3)]
    cluster = {"worker": ports[:2], "ps": ports[2:]}
    children = [forks.start(serve, cluster, "ps", 0), forks.start(serve, cluster, "worker", 0)]
    read, write = os.pipe()
    try:
        with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
            coordinator = forks.start(coordinate, cluster, steps, writer)
            writer.close()
            time.sleep(1)
            children.append(forks.start(serve, cluster, "worker", 1))
            ends = [steps * (i + 1) // (kills + 2) for i in range(kills)]
            for line in reader:
                if ends and int(line) >= ends[0]:
                    ends.pop(0)
                    forks.kill([children.pop()])
                    children.append(forks.start(serve, cluster, "worker", 1))
        forks.finish([coordinator])
    finally:
        forks.kill(children)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3000)
    asked = parser.parse_args()
    run(asked.steps, asked.kills)


if __name__ == "__main__":
    main()
