"""A process that stalls for longer than the lease, while another takes over, changes nothing when it wakes up.

Process A and process B run in one process here, each with a cache of its own, as on two machines.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dist_lstm.errors import UserError
from dist_lstm.storage import lease, mark, mirrored, publish, write_text
from dist_lstm.storage.objects import Objects

TAKEN_OVER = "another process took it over"
#: Every write of `work`, in its order where it has one.
POINTS = (
    "send config",
    "put part/.incomplete",
    "delete part/_SUCCESS",
    "delete part/a",
    "delete part/b",
    "send part/a",
    "send part/b",
    "send part/_SUCCESS",
    "delete part/.incomplete",
    "send _SUCCESS",
)


def write_part(folder: Path, content: str) -> None:
    with publish(folder / "part") as temporary:
        temporary.mkdir()
        for name in ("a", "b"):
            (temporary / name).write_text(content)
        mark(temporary)


def work(uri: str, content: str) -> None:
    with mirrored(uri) as folder:
        write_text(folder / "config", content)
        write_part(folder, content)
        mark(folder)


def texts(objects: Objects, tmp_path: Path) -> dict[str, str]:
    """What readers see at the store."""
    names = sorted(objects.listing())
    objects.fetch((name, tmp_path / "seen" / name) for name in names)
    return {name: (tmp_path / "seen" / name).read_text() for name in names}


def result(content: str) -> dict[str, str]:
    return {"_SUCCESS": "", "config": content, "part/_SUCCESS": "", "part/a": content, "part/b": content}


@contextmanager
def before_each_write(uri: str, act: Callable[[str], None]) -> Iterator[None]:
    """Call `act` with the name of the point before each object that this thread writes or deletes."""
    thread = threading.current_thread()
    honest = {verb: getattr(Objects, verb) for verb in ("put", "send", "delete")}

    def reach(objects: Objects, verb: str, name: str) -> None:
        path = f"{objects.uri}/{name}".removeprefix(f"{uri}/")
        if threading.current_thread() is thread and not path.startswith((".owners", ".tokens")):
            act(f"{verb} {re.sub(r'incomplete.*', 'incomplete', path)}")

    def put(self, content, name=""):
        reach(self, "put", name)
        honest["put"](self, content, name)

    def send(self, files):
        for path, name in files:
            reach(self, "send", name)
            honest["send"](self, [(path, name)])

    def delete(self, names):
        for name in sorted(names):
            reach(self, "delete", name)
            honest["delete"](self, [name])

    with pytest.MonkeyPatch.context() as patch:
        for function in (put, send, delete):
            patch.setattr(Objects, function.__name__, function)
        yield


@pytest.fixture
def stalled(monkeypatch) -> None:
    """No claim is renewed, and the lease is short."""
    monkeypatch.setattr(lease.Claim, "_renew", lambda self: None)
    for name, seconds in (("LEASE", 0.2), ("_POLL_INTERVAL", 0.05)):
        monkeypatch.setattr(lease, name, seconds)


def test_the_points_are_all_writes_of_the_work(uri):
    work(uri, "old")
    reached: list[str] = []
    with before_each_write(uri, reached.append):
        work(uri, "A")
    assert sorted(reached) == sorted(POINTS)
    assert reached.index("delete part/_SUCCESS") < reached.index("delete part/a")
    assert reached.index("send part/b") < reached.index("send part/_SUCCESS")
    assert reached[-2:] == ["delete part/.incomplete", "send _SUCCESS"]


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_wakes_up_after_another_finished_is_stopped_and_leaves_no_trace(
    uri, objects, other_machine, stalled, tmp_path, point
):
    work(uri, "old")

    def stall(reached: str) -> None:
        if reached == point:
            other_machine()
            threads = [threading.Thread(target=work, args=(uri, "B"))]  # the points are this thread's
            [one.start() for one in threads]
            [one.join() for one in threads]

    with before_each_write(uri, stall), pytest.raises(UserError, match=TAKEN_OVER):
        work(uri, "A")
    assert texts(objects, tmp_path) == result("B")
    assert set(objects.raw()) == set(result("B"))


@pytest.mark.parametrize("point", [point for point in POINTS if "part" in point])
def test_a_process_that_wakes_up_while_another_sends_a_folder_does_not_make_the_half_visible(
    uri, objects, other_machine, stalled, tmp_path, point
):
    work(uri, "old")
    halfway, go_on = threading.Event(), threading.Event()

    def wait_in_the_middle(reached: str) -> None:
        if reached == "send part/b":
            halfway.set()
            assert go_on.wait(60)

    def take_over() -> None:
        with before_each_write(uri, wait_in_the_middle):
            work(uri, "B")

    other = threading.Thread(target=take_over)

    def stall(reached: str) -> None:
        if reached == point:
            other_machine()
            other.start()
            assert halfway.wait(60)

    with before_each_write(uri, stall):
        try:
            with pytest.raises(UserError, match=TAKEN_OVER):
                work(uri, "A")
            assert not [name for name in objects.listing() if name.startswith("part/")]
        finally:
            go_on.set()
            other.join()
    assert texts(objects, tmp_path) == result("B")
    assert set(objects.raw()) == set(result("B"))


def test_a_late_renewal_does_not_bring_back_the_right_to_write(uri, objects, other_machine, monkeypatch):
    monkeypatch.setattr(lease, "_RENEWAL_INTERVAL", 0.1)
    honest = {verb: getattr(Objects, verb) for verb in ("put", "delete")}
    about_to_renew, wake_up, renewed, withdrawn = (threading.Event() for _ in range(4))
    renewing: list[threading.Thread] = []

    def put(self, content, name=""):
        current = threading.current_thread()
        first = name.startswith(".owners/") and not renewing and current is not threading.main_thread()
        if first:
            renewing.append(current)
            about_to_renew.set()
            assert wake_up.wait(60)
        honest["put"](self, content, name)
        if first:
            renewed.set()

    def delete(self, names):
        honest["delete"](self, names)
        if threading.current_thread() in renewing:
            withdrawn.set()

    monkeypatch.setattr(Objects, "put", put)
    monkeypatch.setattr(Objects, "delete", delete)

    def wake_up_late() -> None:
        with mirrored(uri) as mine:
            assert about_to_renew.wait(60)
            monkeypatch.setattr(lease, "LEASE", 0.5)
            monkeypatch.setattr(lease, "_POLL_INTERVAL", 0.05)
            other_machine()
            with mirrored(uri) as folder:
                wake_up.set()
                assert renewed.wait(60)
                assert len(objects.raw(".owners")) == 2  # the race: the claim of a process that lost it is back
                with pytest.raises(UserError, match=TAKEN_OVER):
                    write_text(mine / "a", "A")
                assert withdrawn.wait(60)
                assert len(objects.raw(".owners")) == 1
                write_text(folder / "a", "B")
            mark(mine)

    with pytest.raises(UserError, match=TAKEN_OVER):
        wake_up_late()
    assert {name: stamp.size for name, stamp in objects.raw().items()} == {"a": 1}


def test_of_two_processes_that_take_over_at_the_same_moment_one_goes_on(uri, objects, other_machine, stalled):
    honest, began = Objects.put, []

    def put(self, content, name=""):
        if name.startswith(".tokens/") and not began:
            began.append(name)
            other_machine()
            rival = mirrored(uri)
            began.append(rival)
            began.append(rival.__enter__())
        honest(self, content, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "put", put)
        with pytest.raises(UserError, match=r"process \d+ on .+ is working on it"):
            work(uri, "A")
    _, rival, folder = began
    write_text(folder / "config", "B")
    rival.__exit__(None, None, None)
    assert set(objects.raw()) == {"config"}


def test_a_process_that_nobody_replaced_goes_on_after_a_stall(uri, objects, stalled):
    with mirrored(uri) as folder:
        objects.delete(objects.raw(".owners"))
        write_text(folder / "a", "x")
    assert set(objects.raw()) == {"a"}
