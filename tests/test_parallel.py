"""stream: all keys once, few at a time, on threads and on a cluster; what is said when that cannot; ahead; apart."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
import torch
from distributed import Client, LocalCluster

from geosynth import cluster, parallel
from geosynth.errors import ClusterError, GridError, RasterError, SettingsError
from geosynth.models.device import choose_device
from geosynth.parallel import ahead, apart, behind, open_client, stream


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes of two threads each."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["threads", "cluster"])
def where(request: pytest.FixtureRequest) -> Client | None:
    return request.getfixturevalue("client") if request.param == "cluster" else None


def whose(shared: str, key: int) -> tuple[int, str]:
    return os.getpid(), shared


def gpu_of(count: int, key: int) -> tuple[int, str]:
    """The process, and the GPU that it takes where there are so many."""
    torch.cuda.is_available = lambda: count > 0  # of the worker, whose threads share it
    torch.cuda.device_count = lambda: count
    time.sleep(0.05)  # so that all get some
    return os.getpid(), choose_device()


def test_workers_take_turns_at_gpus(client: Client) -> None:
    for count, expected in ((2, {"cuda:0", "cuda:1"}), (1, {"cuda"}), (0, {"cpu"})):
        results = set(dict(stream(gpu_of, count, range(24), name="out", client=client)).values())
        assert len(results) == 2, "each process keeps to its own"
        assert {device for _, device in results} == expected


def test_each_key_is_done_once(where: Client | None) -> None:
    results = dict(stream(whose, "shared", range(40), name="out", client=where))
    assert sorted(results) == list(range(40))
    assert {text for _, text in results.values()} == {"shared"}
    processes = {process for process, _ in results.values()}
    assert processes == {os.getpid()} if where is None else len(processes - {os.getpid()}) == 2
    assert where is None or not any(where.run(plugins).values()), "nothing stays with the workers"


def plugins(dask_worker: Any) -> list[str]:
    return [name for name in dask_worker.plugins if name.startswith("geosynth")]


def test_no_keys_no_results(where: Client | None) -> None:
    assert list(stream(whose, "shared", [], name="out", client=where)) == []


def test_only_a_few_are_in_flight(where: Client | None) -> None:
    """So keys can come from an iterator without end, and an early end is an end."""
    drawn = itertools.count()
    results = stream(whose, "shared", drawn, name="out", client=where, threads=2)
    with closing(results):
        for _ in zip(range(20), results, strict=False):
            pass
    assert next(drawn) < 40


@pytest.mark.parametrize("one_a_worker", [False, True])
def test_keys_may_wait_for_results(where: Client | None, one_a_worker: bool) -> None:
    """Of a chain, each key is there when the one before it is done."""
    todo, ready = list(range(6)), [True]

    def keys() -> Iterator[int | None]:
        while todo:
            yield todo.pop(0) if ready and ready.pop() else None

    order = []
    for key, _ in stream(whose, "shared", keys(), name="out", client=where, one_a_worker=one_a_worker):
        order.append(key)
        ready.append(True)
    assert order == list(range(6))


def fail_at_three(shared: None, key: int) -> int:
    if key == 3:
        raise RasterError("number 3")
    return key


def test_a_failure_stops_all(where: Client | None) -> None:
    done: list[int] = []
    with pytest.raises(RasterError, match=r"^number 3$"):
        for key, _ in stream(fail_at_three, None, itertools.count(), name="out", client=where):
            done.append(key)
    assert 3 not in done


def test_when_it_is_closed_no_thread_is_at_work_any_more() -> None:
    begun, ended = [], []
    go_on = threading.Event()

    def work(shared: None, key: int) -> None:
        begun.append(key)
        if key:
            go_on.wait()
        ended.append(key)

    with closing(stream(work, None, range(100), name="out", threads=2)) as results:
        next(results)
        go_on.set()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 100


# --- Clusters that are not there, or die.


def die(shared: None, key: int) -> int:
    if key == 1:
        os._exit(1)
    return key


@pytest.mark.parametrize("killed", [None, lambda key: -key])
def test_a_task_that_kills_worker_after_worker(killed: Any) -> None:
    def results(client: Client) -> dict[int, int]:
        return dict(stream(die, None, range(4), name="image.tif", client=client, one_a_worker=True, killed=killed))

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        if killed is not None:
            assert results(client) == {0: 0, 1: -1, 2: 2, 3: 3}
            return
        with pytest.raises(ClusterError, match=r"^image\.tif: workers died repeatedly on one part") as caught:
            results(client)
        assert "\n" not in str(caught.value)


@contextmanager
def impatient_client(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """One that looks for a scheduler that went away for a second only."""
    with open_client(scheduler=address) as client:
        assert client is not None
        monkeypatch.setattr(client, "_timeout", 1)
        yield client


def test_a_scheduler_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        open_scheduler() as (process, address),
        impatient_client(address, monkeypatch) as client,
        pytest.raises(ClusterError, match=r"^out: the Dask scheduler went away; run again to go on$"),
    ):
        for _ in stream(whose, "shared", itertools.count(), name="out", client=client):
            process.kill()


class OnItsWay:
    """A result that is on its way from the scheduler for ever."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def __reduce__(self) -> str:
        self.begun.touch()
        time.sleep(600)
        return ""


def send(begun: Path, key: int) -> OnItsWay:
    return OnItsWay(begun)


def test_a_scheduler_that_goes_away_with_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a task that has ended; none other is in flight."""
    begun = tmp_path / "begun"
    with open_scheduler() as (process, address), impatient_client(address, monkeypatch) as client:

        def kill() -> None:
            while not begun.exists():
                time.sleep(0.01)
            process.kill()

        threading.Thread(target=kill, daemon=True).start()
        with pytest.raises(ClusterError, match=r"^out: the Dask scheduler went away; run again to go on$"):
            next(stream(send, begun, itertools.count(), name="out", client=client, one_a_worker=True))


def test_tasks_that_a_client_lost_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may where one is given to it while it finds its connection broken."""
    monkeypatch.setattr(parallel, "_GLANCE", 0.1)
    monkeypatch.setattr(cluster.Tasks, "begin", lambda *_: Future())
    with open_scheduler() as (process, address), impatient_client(address, monkeypatch) as client:
        threading.Timer(0.5, process.kill).start()
        with pytest.raises(ClusterError, match=r"^out: the Dask scheduler went away; run again to go on$"):
            next(stream(whose, "shared", itertools.count(), name="out", client=client))


def test_workers_that_all_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_GLANCE", 0.1)
    monkeypatch.setattr(parallel, "_ALONE", 0.5)
    with (
        LocalCluster(n_workers=0, processes=True, dashboard_address=None) as empty,
        Client(empty, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"^out: the cluster has no workers any more; start some and run again"),
    ):
        next(stream(whose, "shared", range(3), name="out", client=client))


class open_scheduler:
    """A scheduler with a worker, in a process that can be killed."""

    CODE = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
                           protocol="tcp://")
    print(cluster.scheduler_address, flush=True)
    input()
"""

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        path = [entry for entry in sys.path if entry]
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
        assert self.process.stdout is not None
        return self.process, self.process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_no_scheduler_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", "200ms")
    for address in ("tcp://127.0.0.1:1", "nowhere", "nonsense://x"):
        with (
            pytest.raises(ClusterError, match=f"^{address}: no Dask scheduler answers there; check the address$"),
            open_client(scheduler=address),
        ):
            pass
        left = [one for one in gc.get_objects() if type(one) is Client and one.status == "connecting"]
        assert not left, "the garbage collector closes it while the next one starts: a deadlock"


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Client.wait_for_workers
    monkeypatch.setattr(Client, "wait_for_workers", lambda client, count, timeout: wait(client, count, "200ms"))
    with (
        LocalCluster(n_workers=0, processes=True, dashboard_address=None) as empty,
        pytest.raises(ClusterError, match=f"^{empty.scheduler_address}: has no workers; start some"),
        open_client(scheduler=empty.scheduler_address),
    ):
        pass


def test_only_one_way_to_say_who_works() -> None:
    with pytest.raises(SettingsError, match="give one of them"), open_client(scheduler="tcp://127.0.0.1:1", workers=2):
        pass


def test_no_workers_at_all_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^workers: must be .* 1 \(got 0\)$"), open_client(workers=0):
        pass
    open_client(workers=1)  # is enough; it begins nothing until it is entered


def test_a_script_that_its_workers_import_says_where_to_ask_for_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from geosynth.parallel import open_client\nwith open_client(workers=1):\n    pass\n")
    failed = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("geosynth.errors.ClusterError: worker processes do not start")
    assert 'below `if __name__ == "__main__":`' in last


def test_a_client_stays_open_and_nothing_means_threads(client: Client) -> None:
    with open_client(client) as same:
        assert same is client
    assert client.status == "running"
    with open_client() as none:
        assert none is None


def test_networks_run_on_the_threads_that_dask_gives_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was set before: a nanny sets OMP_NUM_THREADS=1."""
    import torch

    handout = cluster.Handout(number_of_threads, None)
    handout.setup(SimpleNamespace(state=SimpleNamespace(nthreads=3)))
    monkeypatch.setattr(cluster, "get_worker", lambda: SimpleNamespace(plugins={handout.name: handout}))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert cluster.work(handout.name, 0) == 3
    finally:
        torch.set_num_threads(before)


def number_of_threads(shared: None, key: int) -> int:
    import torch

    return torch.get_num_threads()


def refuse(line: str) -> None:
    raise GridError(line)


def note(path: Path) -> None:
    path.write_text(str(os.getpid()))


def test_a_process_apart_does_the_work(tmp_path: Path) -> None:
    apart(note, tmp_path / "who")
    assert int((tmp_path / "who").read_text()) != os.getpid()
    with pytest.raises(GridError, match="one line"):
        apart(refuse, "one line")
    with pytest.raises(OSError, match="ended with code 3"):
        apart(os._exit, 3)


def wake_who_waits() -> None:
    os.kill(os.getppid(), signal.SIGALRM)
    time.sleep(600)


def test_a_process_apart_is_killed_with_what_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does, here it sleeps where nobody would be heard; and however long its death takes."""
    kill = subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: threading.Timer(1, kill, [process]).start())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before, earlier = signal.signal(signal.SIGALRM, interrupt), {child.pid for child in psutil.Process().children()}
    try:
        with pytest.raises(KeyboardInterrupt):
            apart(wake_who_waits)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert {child.pid for child in psutil.Process().children()} <= earlier


@pytest.mark.parametrize("threads", [1, 3])
def test_items_made_ahead_keep_their_order_and_their_errors(threads: int) -> None:
    def double(item: int) -> int:
        if item == 5:
            raise RuntimeError("at the end")
        time.sleep(0.01 if item == 0 else 0)
        return 2 * item

    found = []
    with pytest.raises(RuntimeError, match="at the end"):
        found.extend(ahead(double, range(7), threads))
    assert list(ahead(double, range(4), threads)) == [0, 2, 4, 6]
    assert list(ahead(double, [], threads)) == []
    makers = list(ahead(lambda item: threading.current_thread(), range(4), threads))
    assert [maker is threading.current_thread() for maker in makers] == [True, False, False, False]
    taken = []
    for got, _ in enumerate(ahead(double, (taken.append(0) or 1 for _ in range(9)), threads)):
        assert len(taken) == min(got + 1 + threads, 9)


def test_what_is_done_behind_keeps_its_order_and_its_errors() -> None:
    """In one other thread, while the next item is made; an error there ends what makes the items."""
    done: list[int] = []
    ends: list[str] = []
    second_made = threading.Event()

    def do(item: int) -> None:
        assert second_made.wait(60)
        time.sleep(0.01)
        if item == 5:
            raise RuntimeError("at the end")
        done.append(item)

    def items(last: int) -> Iterator[int]:
        try:
            for item in range(last):
                assert len(done) >= item - 1
                if item == 1:
                    second_made.set()
                yield item
        finally:
            ends.append("closed")

    behind(do, items(4))
    assert done == [0, 1, 2, 3]
    done.clear()
    with pytest.raises(RuntimeError, match="at the end"):
        behind(do, items(9))
    assert done[:5] == [0, 1, 2, 3, 4]
    assert ends == ["closed", "closed"]
    behind(do, items(0))
