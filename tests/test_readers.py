"""Readers of files: one clear error with the path, and nothing changed, whatever a file is."""

import contextlib
import io
import json
import os
import re
import socket
import struct
import threading
import tracemalloc
import zipfile

import h5py
import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.state import assert_equal
from tests.support.steps import trained, variables
from tf_keras_optim.command_line.arrays import arrays_of, table
from tf_keras_optim.keras_compat.running import keras

MEGABYTE = 1 << 20


def optimizer_and_variables():
    optimizer = tko.Adam(0.1)
    return optimizer, trained(optimizer, "net/a", "b")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A whole file of each kind, with the model that wrote it."""
    directory = tmp_path_factory.mktemp("whole")
    optimizer, chosen = optimizer_and_variables()
    tko.save_state(directory / "state.npz", optimizer, chosen)
    ours, _ = harness.fit(tko.Adam(0.05), epochs=1)
    tko.save_model(ours, directory / "ours.keras")
    tko.save_weights(ours, directory / "ours.weights.h5")
    theirs, _ = harness.fit(keras.optimizers.Adam(0.05), epochs=1)
    theirs.save(str(directory / "theirs.keras"))
    theirs.save(str(directory / "theirs.h5"))
    theirs.save_weights(str(directory / "theirs.weights.h5"))
    return directory, ours, theirs


def readers(path, model, template=None):
    """Everything that reads a file, by name."""
    chosen = model.trainable_variables
    found = {
        "load_state": lambda: tko.load_state(path, tko.Adam()),
        "convert": lambda: tko.convert(path, chosen, optimizer=template),
        "inspect": lambda: opened(path),
    }
    if str(path).endswith(".keras"):
        found["load_model"] = lambda: tko.load_model(path)
    if str(path).endswith(".weights.h5"):
        found["load_weights"] = lambda: tko.load_weights(model, path)
    return found


def opened(path):
    with arrays_of(str(path)) as arrays:
        return table(arrays)


def refusals(path, model, template=None):
    """Every reader refuses with the path; returns the messages."""
    found = []
    for name, read in readers(path, model, template).items():
        with pytest.raises(ValueError) as caught:
            read()
        assert str(path) in str(caught.value), name
        found.append(str(caught.value))
    return found


def rewritten(source, target, change=None, **options):
    """Writes an archive again with other contents, or in another way."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name: change(content) for name, content in members.items()} if change else {}
    with zipfile.ZipFile(target, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.one_keras
def test_archives_that_declare_what_cannot_be(files, tmp_path):
    """Bombs, encrypted members, unknown compression: none of them is unpacked."""
    directory, _, theirs = files
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(directory / "theirs.keras") as archive:
        small = {n: archive.read(n) for n in ("config.json", "metadata.json")}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in small.items():
            archive.writestr(name, content)
        with archive.open("model.weights.h5", "w") as member:
            for _ in range(300):
                member.write(bytes(MEGABYTE))
    bare = (directory / "theirs.keras").read_bytes()
    with zipfile.ZipFile(io.BytesIO(bare)) as archive:
        entries = archive.start_dir

    def marked(offset_in_entry, offset_in_header, value):
        """Sets a field of every member, in the list at the end and before the member."""
        content = bytearray(bare)
        place = entries
        while content[place : place + 4] == b"PK\x01\x02":
            name, extra, comment = struct.unpack_from("<HHH", content, place + 28)
            header = struct.unpack_from("<I", content, place + 42)[0]
            struct.pack_into("<H", content, place + offset_in_entry, value)
            struct.pack_into("<H", content, header + offset_in_header, value)
            place += 46 + name + extra + comment
        return bytes(content)

    encrypted, unknown = tmp_path / "encrypted.keras", tmp_path / "unknown.keras"
    encrypted.write_bytes(marked(8, 6, 1))
    unknown.write_bytes(marked(10, 8, 97))
    for path, reason in (
        (bomb, "declares"),
        (encrypted, "encrypted"),
        (unknown, "compression"),
    ):
        tracemalloc.start()
        messages = refusals(path, theirs, tko.Adam())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * MEGABYTE
        assert all(reason in text for text in messages[:3]), messages
    again = tmp_path / "deflated.keras"  # which nobody writes, but is a whole file
    rewritten(directory / "theirs.keras", again, compression=zipfile.ZIP_DEFLATED)
    for ours, other in zip(
        tko.convert(again, theirs.trainable_variables).get_weights(),
        tko.convert(directory / "theirs.keras", theirs.trainable_variables).get_weights(),
    ):
        np.testing.assert_array_equal(ours, other)


JSONS = {
    "nested": b"[" * 200_000 + b"]" * 200_000,
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "text": b'{"compile_config": 3, "arrays": 4, "format": "tf_keras_optim.state"}',
    "latin": b'{"name": "\xe9\xff"}',
    "nan": b'{"compile_config": {"optimizer": {"class_name": "Adam", "config": [NaN]}}}',
    "deep": b'{"compile_config": {"optimizer": %s1%s}}' % (b'{"a":' * 5000, b"}" * 5000),
    "large": b'{"a": "' + b"a" * (20 * MEGABYTE) + b'"}',
}


@pytest.mark.one_keras
@pytest.mark.parametrize("content", list(JSONS.values()), ids=list(JSONS))
def test_json_of_any_other_kind(files, tmp_path, content):
    directory, _, theirs = files
    archive, state = tmp_path / "x.keras", tmp_path / "x.npz"
    for source, target in (("theirs.keras", archive), ("state.npz", state)):
        rewritten(directory / source, target, lambda old: content if old[:1] == b"{" else old)
    for path in (archive, state):
        for read in (tko.convert, lambda p: tko.load_state(p, tko.Adam())):
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read(path)
    with pytest.raises(ValueError, match=re.escape(str(state))):
        opened(state)
    hdf5 = tmp_path / "x.h5"
    if len(content) < 60_000:
        hdf5.write_bytes((directory / "theirs.h5").read_bytes())
        with h5py.File(hdf5, "a") as file:
            file.attrs["training_config"] = np.bytes_(content)
        with pytest.raises(ValueError, match=re.escape(str(hdf5))):
            tko.convert(hdf5, theirs.trainable_variables)
    notes = tmp_path / "x.weights.h5"
    notes.write_bytes((directory / "ours.weights.h5").read_bytes()[:-87])
    with h5py.File(notes, "a") as file:
        attributes = file["optimizer/vars/3"].attrs
        attributes["tf_keras_optim"] = np.bytes_(content[:60_000])
    for read in (opened, lambda p: tko.load_state(p, tko.Adam())):
        with pytest.raises(ValueError, match=re.escape(str(notes))):
            read(notes)


@pytest.mark.one_keras
def test_arrays_that_declare_terabytes(files, tmp_path):
    directory, ours, theirs = files
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)}
    )
    state = tmp_path / "x.npz"
    rewritten(
        directory / "state.npz",
        state,
        lambda old: header.getvalue() + old[-8:] if old[:6] == b"\x93NUMPY" else old,
    )
    with pytest.raises(ValueError, match=r"x\.npz.*declares"):
        tko.load_state(state, tko.Adam())
    for name, model in (("ours", ours), ("theirs", theirs)):
        path = tmp_path / f"{name}.weights.h5"
        for kind in (
            {},
            {"chunks": (1000, 1000)},
            {"chunks": (1000, 1000), "compression": "gzip"},
        ):
            content = (directory / path.name).read_bytes()
            path.write_bytes(content if name == "theirs" else content[:-87])
            with h5py.File(path, "a") as file:
                attributes = dict(file["optimizer/vars/3"].attrs)
                del file["optimizer/vars/3"]
                made = file["optimizer/vars"].create_dataset("3", (10**6, 10**6), "f4", **kind)
                for key, value in attributes.items():
                    made.attrs[key] = value
            reading = readers(path, model, tko.Adam())
            for each in ("inspect", "convert" if name == "theirs" else "load_state"):
                with pytest.raises(ValueError, match=f"{path.name}.*declares"):
                    reading[each]()


def test_no_other_file_is_opened(files, tmp_path):
    """Links out of a file, arrays whose numbers stand in others."""
    directory, ours, _ = files
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones((8, 16), "f")
    (tmp_path / "raw").write_bytes(bytes(8 * 16 * 4))
    virtual = h5py.VirtualLayout((8, 16), "f4")
    virtual[:] = h5py.VirtualSource(str(other), "secret", (8, 16))
    kinds = {
        "external link": lambda g: g.__setitem__("3", h5py.ExternalLink(str(other), "/secret")),
        "soft link": lambda g: g.__setitem__("3", h5py.SoftLink("/optimizer/vars/4")),
        "virtual": lambda g: g.create_virtual_dataset("3", virtual),
        "external": lambda g: g.create_dataset(
            "3", (8, 16), "f4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        ),
    }
    plain = tko.Adam()
    for kind, act in kinds.items():
        for source in ("ours", "theirs"):
            path = tmp_path / f"{source}.weights.h5"
            content = (directory / path.name).read_bytes()
            path.write_bytes(content if source == "theirs" else content[:-87])
            with h5py.File(path, "a") as file:
                del file["optimizer/vars/3"]
                act(file["optimizer/vars"])
            for read in (
                lambda p=path: tko.load_state(p, tko.Adam()),
                lambda p=path: tko.convert(p, ours.trainable_variables, optimizer=plain),
                lambda p=path: opened(p),
            ):
                with pytest.raises(ValueError, match=f"{path.name}"):
                    read()
            assert kind


@contextlib.contextmanager
def within(seconds):
    """Fails when a block has not come to its end; what it waits for is not waited for."""
    done = threading.Event()
    timer = threading.Timer(seconds, lambda: done.is_set() or os._exit(99))
    timer.start()
    yield
    done.set()
    timer.cancel()


def test_what_is_no_file_is_not_waited_for(files, tmp_path):
    _, ours, _ = files
    for suffix in (".npz", ".keras", ".weights.h5", ".h5"):
        pipe, directory = tmp_path / f"pipe{suffix}", tmp_path / f"directory{suffix}"
        link, ring = tmp_path / f"link{suffix}", tmp_path / f"ring{suffix}"
        os.mkfifo(pipe)
        directory.mkdir()
        link.symlink_to("/dev/zero")
        ring.symlink_to(ring)
        for path, what in ((pipe, "pipe"), (directory, "directory"), (link, "device")):
            with within(60):
                assert all(what in text for text in refusals(path, ours, tko.Adam()))
        with within(60):
            refusals(ring, ours, tko.Adam())
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "s.npz"))
        assert "socket" in refusals(tmp_path / "s.npz", ours, tko.Adam())[0]
    for end in ("index", "data-00000-of-00001"):
        prefix = tf.train.Checkpoint(a=tf.Variable(1.0)).write(str(tmp_path / f"c{end}"))
        os.remove(f"{prefix}.{end}")
        os.mkfifo(f"{prefix}.{end}")
        with within(60):
            refusals(prefix, ours, tko.Adam())


def test_the_checksums_that_are_there_are_used(files, tmp_path):
    """Weights and state of Keras' own optimizer, in a file that ends in a checksum."""
    _, _, theirs = files
    path = tmp_path / "x.weights.h5"
    tko.save_weights(theirs, path)
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        places = [file[f"optimizer/vars/{i}"].id.get_offset() for i in (2, 3)]
    expected = tko.convert(path, theirs.trainable_variables, optimizer=tko.Adam()).get_weights()
    for place in places:
        content[place + 1] ^= 4
        path.write_bytes(bytes(content))
        for text in refusals(path, theirs, tko.Adam()):
            assert "SHA-256" in text
        content[place + 1] ^= 4
    path.write_bytes(bytes(content))
    again = tko.convert(path, theirs.trainable_variables, optimizer=tko.Adam()).get_weights()
    for ours, other in zip(again, expected):
        np.testing.assert_array_equal(ours, other)


WRONG = {
    "iterations": [-5, np.float32("nan"), 1.5, 2**70, [1], "3", np.uint64(2**63 + 1)],
    "learning_rate": [np.nan, -1.0, np.inf, 1e300, [0.1, 0.2], "0.1", None],
    "learning_rate_multiplier": [np.nan, -1.0, -np.inf],
    "dynamic_scale": [0.0, np.nan, np.inf, -2.0],
    "step_counter": [-1, np.nan],
    "skipped_steps": [-1],
    "consecutive_skips": [-3],
    "u_product": [np.nan, np.inf],
}


@pytest.mark.one_keras
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("name", list(WRONG))
def test_scalars_that_cannot_be_are_refused_first(name, built):
    schedule = tko.schedules.CosineDecay(0.1, 10)
    rate = schedule if name == "learning_rate_multiplier" else 0.1

    def make():
        inner = tko.Nadam(rate)
        return (
            tko.LossScaleOptimizer(inner) if name not in ("iterations", "u_product") else inner
        )

    source, target = make(), make()
    trained(source, "a", "b")
    good = source.state_dict()
    if built:
        target.build(variables("a", "b"))
    before = target.state_dict()
    for strict in (True, False)[: 1 + built]:
        for value in WRONG[name]:
            bad = good | {"scalars": good["scalars"] | {name: value}}
            with pytest.raises(ValueError, match=f"`{name}`"):
                target.load_state_dict(bad, strict=strict)
            assert_equal(target.state_dict(), before)
    target.load_state_dict(good)
    target.build(variables("a", "b"))
    for key, value in target.state_dict()["scalars"].items():
        assert (value, value.dtype) == (good["scalars"][key], good["scalars"][key].dtype)


def test_setting_and_loading_a_rate_have_one_rule():
    optimizer = tko.Adam(0.1)
    trained(optimizer, "a")
    for value in (np.nan, -1.0, np.inf):
        with pytest.raises(ValueError, match="learning_rate"):
            optimizer.learning_rate = value
        with pytest.raises(ValueError, match="learning_rate"):
            tko.Adam(value)
    state = optimizer.get_weights()
    if harness.IS_KERAS_3:
        for value in (np.nan, -1.0):
            with pytest.raises(ValueError, match="`learning_rate`"):
                optimizer.set_weights([state[0], np.float32(value), *state[2:]])
    with pytest.raises(ValueError, match="`iterations`"):
        optimizer.set_weights([np.int64(-5), *state[1:]])
    for one, other in zip(optimizer.get_weights(), state):
        np.testing.assert_array_equal(one, other)
    optimizer.learning_rate = 0.0
    optimizer.load_state_dict(optimizer.state_dict())


def test_what_does_not_fit_names_its_file(files):
    directory, _, _ = files
    target = tko.Adam()
    target.build(variables("other"))
    for name in ("state.npz", "ours.keras", "ours.weights.h5"):
        with pytest.raises(ValueError, match=rf"{name}.*saved state does not fit"):
            tko.load_state(directory / name, target)


def test_weights_that_do_not_fit_change_nothing(files, tmp_path):
    """The last layer is another: all before it keep their values, and so does the state."""
    directory, _, _ = files
    for optimizer in (tko.Adam(0.05), keras.optimizers.Adam(0.05)):
        target = harness.small_model(seed=3, units=5)
        loss = harness.classification_loss()
        target.compile(optimizer, loss, metrics=["accuracy"])
        target.fit(*harness.classification_data(), epochs=1, verbose=0)
        kept = [np.array(v.numpy()) for v in everything(target)]
        with pytest.raises(ValueError, match=r"ours\.weights\.h5"):
            tko.load_weights(target, directory / "ours.weights.h5")
        for before, variable in zip(kept, everything(target), strict=True):
            np.testing.assert_array_equal(before, variable.numpy())
        target.fit(*harness.classification_data(), epochs=1, verbose=0)


def test_a_new_optimizer_that_got_no_state_stays_new(files):
    directory, _, _ = files
    target = harness.small_model(seed=3, units=5)
    target.compile(tko.Adam(0.125), harness.classification_loss())
    with pytest.raises(ValueError, match=r"ours\.weights\.h5"):
        tko.load_weights(target, directory / "ours.weights.h5")
    assert float(target.optimizer.learning_rate.numpy()) == 0.125
    target.fit(*harness.classification_data(), epochs=1, batch_size=64, verbose=0)
    assert int(target.optimizer.iterations.numpy()) == 1


def everything(model):
    metrics = [v for metric in model.metrics for v in metric.variables]
    return [*model.variables, *metrics, *model.optimizer.variables]


def test_readers_take_one_array_at_a_time(tmp_path):
    """Ten slots and five weights of 4 MB: a few copies of one of them, and no more.

    TensorFlow may keep an array as a variable's memory, so what stays is not counted. What is
    kept is narrower than what is read: reading all at once takes more than stays.
    """
    size = MEGABYTE
    chosen = [tf.Variable(tf.zeros([size]), name=f"v{i}") for i in range(5)]
    optimizer = tko.Adam(0.1)
    optimizer.build(chosen)
    tko.save_state(tmp_path / "state.npz", optimizer, chosen)
    narrow = tko.Adam(0.1, slot_dtype="bfloat16")
    narrow.build(chosen)

    def more_than_stays(read):
        tracemalloc.start()
        read()
        stays, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak - stays

    one = 4 * size
    load = lambda: tko.load_state(  # noqa: E731
        tmp_path / "state.npz", narrow, chosen, strict=False
    )
    assert more_than_stays(load) < 4 * one
    assert more_than_stays(lambda: opened(tmp_path / "state.npz")) < 4 * one
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        group = file.create_group("optimizer/vars")
        group["0"], group["1"] = np.int64(3), np.float32(0.25)
        for i in range(10):
            group[str(i + 2)] = np.full(size, i, "d")
    made = []
    convert = lambda: made.append(  # noqa: E731
        tko.convert(tmp_path / "x.weights.h5", chosen, optimizer=tko.Adam())
    )
    assert more_than_stays(convert) < 6 * one
    assert made[0].state_dict()["variables"]["v1"]["velocity"][0] == 3.0
    assert json.dumps(int(made[0].iterations.numpy())) == "3"
