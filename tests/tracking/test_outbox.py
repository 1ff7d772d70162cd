import json
import tempfile
import time
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from codesign.core.errors import TrackingError
from codesign.tracking import outbox as module
from codesign.tracking import processes
from codesign.tracking.outbox import Outbox, header_of

HEADER = {"run_id": "r", "uri": "u", "process": "p"}


class Crash(BaseException):
    """What kill -9 is to the program: nothing after it runs."""


class Server:
    """Takes entries; may be away, or see its client die before or after an entry took effect."""

    def __init__(self):
        self.is_away, self.crash, self.taken, self.repeated = False, "", [], 0

    def __call__(self, entry):
        crash, self.crash = self.crash, ""
        if crash == "before":
            raise Crash
        if self.is_away:
            raise requests.ConnectionError("refused")
        files = {p.name: p.read_bytes() for p in entry.files.glob("*")}
        if (entry.content, files) in self.taken:
            assert entry.is_repeated
            self.repeated += 1
        else:
            self.taken.append((entry.content, files))
        if crash == "after":
            raise Crash


EVENTS = ("add", "add with file", "leaves", "returns", "crash before", "crash after", "cut off")


@given(st.lists(st.sampled_from(EVENTS), max_size=25))
def test_whatever_happens_every_entry_takes_effect_once_and_in_order(events):
    server, added = Server(), []
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PAUSES_S", (0.0,))
        folder = Path(temporary) / "outbox"
        box = Outbox(folder, server, HEADER)
        for event in events:
            if event.startswith("add"):
                files = {"f": bytes([len(added)])} if event == "add with file" else {}
                added.append(({"n": len(added)}, files))
                try:
                    box.add({"n": len(added) - 1}, files)
                except Crash:
                    box = Outbox(folder, server, HEADER)
            elif event == "cut off":  # killed in the middle of a line that nobody was promised
                with (folder / "entries.jsonl").open("a") as file:
                    file.write('{"number": 99, "cont')
                box = Outbox(folder, server, HEADER)
            elif event.startswith("crash"):
                server.crash = event.split()[1]
            else:
                server.is_away = event == "leaves"
        server.is_away, server.crash = False, ""
        assert header_of(folder) == HEADER
        box.flush(1)
        assert server.taken == added
        assert len(box) == 0
        assert [p.name for p in folder.iterdir()] == ["entries.jsonl"]
        assert len(Outbox(folder, server, HEADER)) == 0
        box.remove()
        assert not folder.exists()


def test_an_entry_is_on_disk_before_it_is_sent(tmp_path):
    def send(entry):
        lines = (tmp_path / "box" / "entries.jsonl").read_text().splitlines()
        assert json.loads(lines[-1]) == {"number": 0, "content": {"a": 1}}
        assert (entry.files / "x").read_bytes() == b"x"

    Outbox(tmp_path / "box", send, HEADER).add({"a": 1}, {"x": b"x"})


def test_while_the_server_is_away_it_is_asked_seldom(tmp_path, monkeypatch):
    asked = []

    def away(entry):
        asked.append(entry.number)
        raise requests.ConnectionError("refused")

    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 10)
    box = Outbox(tmp_path / "box", away, HEADER)
    for n in range(100):
        box.add({"n": n})
    assert len(box) == 100
    assert 2 <= len(asked) <= 5
    assert set(asked) == {0}


def test_what_is_declined_is_reported_and_blocks_nothing(tmp_path):
    taken = []

    def send(entry):
        if entry.content["n"] == 0:
            raise MlflowException(
                "Changing param values is not allowed.\n\nIt was 1.", error_code=1000
            )  # invalid value
        taken.append(entry.content["n"])

    box = Outbox(tmp_path / "box", send, HEADER)
    with pytest.raises(TrackingError) as error:
        box.add({"n": 0})
    assert str(error.value) == (
        "The tracking server declined an entry: Changing param values is not allowed. It was 1."
    )
    box.add({"n": 1})
    assert taken == [1]
    assert len(Outbox(tmp_path / "box", send, HEADER)) == 0


def test_flush_says_where_the_results_are(tmp_path):
    def away(entry):
        raise requests.ConnectionError("refused")

    box = Outbox(tmp_path / "box", away, HEADER)
    box.add({"n": 0})
    start = time.monotonic()
    with pytest.raises(TrackingError) as error:
        box.flush(0.3)
    assert time.monotonic() - start < 2
    assert str(error.value) == (
        f"The tracking server has been away for 0.3 s; 1 entries wait in {tmp_path / 'box'}. "
        "Nothing is lost: the next stage that is started while it is back sends them."
    )
    box.remove()
    assert (tmp_path / "box" / "entries.jsonl").exists()


def test_only_a_process_of_this_machine_that_ended_is_dead():
    mark = processes.this_process()
    host, number, start = mark.split(" ")
    assert not processes.is_dead(mark)
    assert processes.is_dead(f"{host} {number} {start}0")  # the number was given to another process since
    assert processes.is_dead(f"{host} 4194304999 1")
    assert not processes.is_dead(f"another-{host} {number} {start}0")
    assert not processes.is_dead("")
