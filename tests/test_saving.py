"""What saving leaves behind when it is interrupted or killed, and what it keeps of a file."""

import errno
import os
import pathlib
import signal
import stat
import threading
import time
import zipfile

import faults
import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.workplaces as workplaces
from tests.support import forks

MARK = "saved_model.pb"


def save_file(path, value):
    with atomic.replaced(path) as file:
        file.write(b"%d" % value * 1000)


def file_at(path):
    found = set(path.read_bytes().decode())
    assert path.stat().st_size == 1000
    return int(*found)


def save_directory(path, value):
    with atomic.replaced_directory(path, MARK) as directory:
        (directory / "variables").mkdir()
        for name in (MARK, "variables/data"):
            (directory / name).write_text(str(value))


def directory_at(path):
    path = atomic.present(path)
    found = {(path / name).read_text() for name in (MARK, "variables/data")}
    return int(*found)


@pytest.fixture(params=["file", "directory", "directory in two steps"])
def kind(request, monkeypatch):
    """A function that saves a number, and one that reads it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # only for losses of power, and slow
    if request.param == "directory in two steps":
        monkeypatch.setattr(atomic, "_renameat2", lambda: None)
    return (save_file, file_at) if request.param == "file" else (save_directory, directory_at)


def entries(path):
    return sorted(p.name for p in path.parent.iterdir())


@pytest.mark.one_keras
def test_whatever_call_fails_the_earlier_or_the_new_one_is_whole(kind, tmp_path):
    save, read = kind
    path = tmp_path / "saved"
    save(path, 0)
    with faults.Calls() as calls:
        save(path, 1)
    assert calls.count >= 10
    left, before = 0, 1
    for turn, fault in enumerate(faults.faults_of(calls.count)[:200]):
        value = 2 + turn % 7
        try:
            with faults.Calls(**fault):
                save(path, value)
        except (OSError, KeyboardInterrupt) as error:
            assert "injected" in str(error)
        left += len(entries(path)) > 1
        assert read(path) in (before, value), fault
        save(path, value)
        assert entries(path) == ["saved"], fault
        before = value
    assert left > 10


@pytest.mark.one_keras
def test_wherever_a_process_is_killed_the_next_save_leaves_nothing_else(kind, tmp_path):
    save, read = kind
    path = tmp_path / "saved"
    save(path, 1)
    with faults.Calls() as calls:
        save(path, 1)

    def killed(number, after, value):
        with faults.Calls(number, faults.kill, after):
            save(path, value)

    left = 0
    for number in range(1, calls.count + 1):
        after = number % 3 == 0  # before another call is mostly after this one
        child = forks.start(killed, number, after, 2)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, (number, after)
        left += len(entries(path)) > 1
        assert read(path) in (1, 2), (number, after)
        save(path, 1)
        assert entries(path) == ["saved"], (number, after)
    assert left > 5


class Writer:
    """Stands for a model that is slow to save, or whose process is killed meanwhile."""

    def __init__(self, act):
        self.act = act

    def save(self, path, **_):
        pathlib.Path(path).write_bytes(b"x" * 1000)
        self.act()

    save_weights = save


@pytest.mark.one_keras
def test_every_saver_removes_what_another_left(tmp_path):
    model, _ = harness.fit(tko.Adam(), epochs=1)
    tko.export_training(model, tmp_path / "m")
    exported = tko.load_training(tmp_path / "m")
    savers = [
        lambda: tko.save_state(tmp_path / "s", model.optimizer),
        lambda: tko.save_weights(model, tmp_path / "w.weights.h5"),
        lambda: tko.save_model(model, tmp_path / "m.keras"),
        lambda: exported.export(tmp_path / "m"),
    ]
    for save in savers:
        for _ in range(3):
            child = forks.start(tko.save_model, Writer(faults.kill), tmp_path / "x.keras")
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert len(list(tmp_path.glob(".*"))) >= 1
        save()
        assert not list(tmp_path.glob(".*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.keras", "s", "w.weights.h5"]


@pytest.mark.one_keras
def test_a_living_process_keeps_what_it_writes(tmp_path):
    """Also one that has the same number elsewhere: the number is not asked for."""
    (begun, to_parent), (go_on, to_child) = os.pipe(), os.pipe()

    def slow():
        os.write(to_parent, b"x")
        os.read(go_on, 1)

    path = tmp_path / "x.weights.h5"
    child = forks.start(tko.save_weights, Writer(slow), path)
    os.read(begun, 1)
    (place,) = tmp_path.iterdir()
    for value in (1, 2):
        save_file(tmp_path / "other", value)
        assert place.exists()
    os.write(to_child, b"x")
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_bytes().startswith(b"x" * 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "x.weights.h5"]


@pytest.mark.one_keras
def test_what_another_machine_writes_is_kept_for_a_day(tmp_path):
    """Its lock cannot be seen here."""
    place = tmp_path / f".tf_keras_optim-{'a' * 32}-{'b' * 16}.partial"
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "file").write_text("x")
    foreign = [tmp_path / name for name in (".tf_keras_optim-x.partial", ".saving_1")]
    for path in foreign:
        path.mkdir()
    save_file(tmp_path / "saved", 1)
    assert (place / "deep" / "file").exists()
    past = time.time() - 25 * 3600
    for path in (place / "deep", place):
        os.utime(path, (past, past))
    save_file(tmp_path / "saved", 1)
    assert place.exists()  # its file has just changed
    for path in (place / "deep" / "file", place / "deep", place):
        os.utime(path, (past, past))
    save_file(tmp_path / "saved", 1)
    assert sorted(tmp_path.iterdir()) == sorted([*foreign, tmp_path / "saved"])


@pytest.mark.one_keras
def test_where_there_are_no_locks_a_day_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(workplaces, "_lock", lambda *_, **__: None)
    child = forks.start(tko.save_model, Writer(faults.kill), tmp_path / "x.keras")
    os.waitpid(child, 0)
    save_file(tmp_path / "saved", 1)
    (place,) = tmp_path.glob(".*")
    for path in (place / "model.keras", place):
        os.utime(path, (0, 0))
    save_file(tmp_path / "saved", 1)
    assert os.listdir(tmp_path) == ["saved"]


@pytest.mark.one_keras
def test_threads_save_to_one_path(tmp_path):
    model, _ = harness.fit(tko.Adam(), epochs=1)
    tko.export_training(model, tmp_path / "m")
    savers = {
        "s": lambda: tko.save_state(tmp_path / "s", model.optimizer, model.variables),
        "w.weights.h5": lambda: tko.save_weights(model, tmp_path / "w.weights.h5"),
        "m.keras": lambda: tko.save_model(model, tmp_path / "m.keras"),
        "m": lambda: tko.export_training(model, tmp_path / "m"),
        "f": lambda: save_file(tmp_path / "f", 1),
        "d": lambda: save_directory(tmp_path / "d", 1),
    }
    for name, save in savers.items():
        count = 2 if name == "m" else 4
        failed = []

        def run(save=save, failed=failed, rounds=1 if name == "m" else 5):
            try:
                for _ in range(rounds):
                    save()
            except Exception as error:  # whatever a thread raises is a failure of this test
                failed.append(error)

        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, name
        assert not list(tmp_path.glob(".*")), name
    tko.load_state(tmp_path / "s", model.optimizer, model.variables)
    tko.load_weights(model, tmp_path / "w.weights.h5")
    tko.load_model(tmp_path / "m.keras")
    assert zipfile.is_zipfile(tmp_path / "m.keras")
    tko.load_training(tmp_path / "m")


@pytest.mark.one_keras
def test_a_reader_never_finds_a_directory_absent_or_half(tmp_path, monkeypatch):
    path = tmp_path / "saved"
    monkeypatch.setattr(os, "fsync", lambda _: None)
    save_directory(path, 0)
    done, found = threading.Event(), []

    def read():
        while not done.is_set():
            found.append((path / MARK).exists())

    reader = threading.Thread(target=read)
    reader.start()
    for value in range(50):
        save_directory(path, value)
    done.set()
    reader.join()
    assert len(found) > 200
    assert all(found)


@pytest.mark.one_keras
def test_a_model_that_is_replaced_while_it_is_read_is_read_anew(tmp_path, monkeypatch):
    """Never the graph of one and the variables of the other."""
    model, _ = harness.fit(tko.SGD(0.1), epochs=1)
    path, load = tmp_path / "m", tf.saved_model.load
    tko.export_training(model, path)
    calls = []

    def slow(*args):
        loaded = load(*args)
        if not calls:
            for variable in model.variables:
                variable.assign(np.full(variable.shape, 7.0))
            tko.export_training(model, path)
        calls.append(loaded)
        return loaded

    monkeypatch.setattr(tf.saved_model, "load", slow)
    weights = tko.load_training(path).loaded.weights.values()
    assert len(calls) == 2
    assert {float(x) for v in weights for x in v.numpy().ravel()} == {7.0}


@pytest.fixture(scope="module")
def savers(tmp_path_factory):
    """By file name, a function that saves there."""
    model, _ = harness.fit(tko.SGD(0.1), epochs=1)
    first = tmp_path_factory.mktemp("exported") / "first"
    tko.export_training(model, first)
    exported = tko.load_training(first)
    return {
        "x.npz": lambda path: tko.save_state(path, model.optimizer),
        "x.weights.h5": lambda path: tko.save_weights(model, path),
        "x.keras": lambda path: tko.save_model(model, path),
        "x": exported.export,
    }


NAMES = ["x.npz", "x.weights.h5", "x.keras", "x"]


@pytest.mark.one_keras
@pytest.mark.parametrize("name", NAMES)
def test_mode_and_owner_stay(savers, name, tmp_path):
    path, umask = tmp_path / name, os.umask(0o027)
    try:
        savers[name](path)
    finally:
        os.umask(umask)
    is_directory = path.is_dir()
    file = path / MARK if is_directory else path
    assert stat.S_IMODE(path.stat().st_mode) == (0o750 if is_directory else 0o640)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    path.chmod(0o700 if is_directory else 0o600)
    file.chmod(0o600)
    if os.geteuid() == 0:
        try:
            os.chown(path, 1234, 4321)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a sandbox's user namespace knows no other user
                raise
    owner, inode = (path.stat().st_uid, path.stat().st_gid), path.stat().st_ino
    savers[name](path)
    assert path.stat().st_ino != inode
    assert stat.S_IMODE(path.stat().st_mode) == (0o700 if is_directory else 0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (path.stat().st_uid, path.stat().st_gid) == owner


@pytest.mark.one_keras
@pytest.mark.parametrize("name", NAMES)
def test_symbolic_links_are_written_through(savers, name, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    link = tmp_path / name
    link.symlink_to("store/target")
    for _ in range(2):  # to nothing, and to what is there
        savers[name](link)
        assert link.is_symlink()
        assert not (store / "target").is_symlink()
        assert os.listdir(store) == ["target"]
        assert (store / "target").stat().st_size > 100
    assert sorted(os.listdir(tmp_path)) == sorted(["store", name])


@pytest.mark.one_keras
@pytest.mark.parametrize("name", NAMES)
def test_long_names(savers, name, tmp_path):
    path = tmp_path / ("n" * (255 - len(name)) + name)
    for _ in range(2):
        savers[name](path)
    assert os.listdir(tmp_path) == [path.name]
    too_long = tmp_path / ("n" * 256 + name)
    with pytest.raises(OSError, match=too_long.name):
        savers[name](too_long)


def test_an_empty_directory_may_be_exported_to(savers, tmp_path, monkeypatch):
    path = tmp_path / "empty"
    path.mkdir(mode=0o700)
    model, _ = harness.fit(tko.SGD(0.1), epochs=1)
    tko.export_training(model, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    tko.load_training(path)
    monkeypatch.chdir(path)
    with pytest.raises(ValueError, match="is a mount point or the current directory"):
        savers["x"](path)


@pytest.mark.one_keras
@pytest.mark.parametrize("name", NAMES[:3])
def test_what_must_not_be_replaced(savers, name, tmp_path, monkeypatch):
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(OSError, match=f"not a regular file.*{name}"):
        savers[name](path)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=name):
        savers[name](path)
    path.rmdir()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        savers[name](tmp_path / "nowhere" / name)
    path.write_text("mine")
    path.chmod(0o400)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    with pytest.raises(PermissionError, match=name):
        savers[name](path)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == [name]
