import dataclasses
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retable.cards import CardError
from retable.config import Config, Wandb, Workspace
from retable.currency import provenance_of
from retable.records import Cost, RunRecord, write_atomically, write_record
from retable.wandb_sink import config_of, replay, run_id, sync_line

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789" * 4
BLOCK = 32768


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    return Workspace(tmp_path, Config(device="cpu", papers=["contranorm"], wandb=Wandb(mode="offline")))


def leave(workspace: Workspace, seed: int, **change) -> RunRecord:
    """A seed's record with a curve that has a metric's name."""
    cell = next(cell for cell in workspace.cells if cell.variant == "contranorm")
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"}
    fields |= dataclasses.asdict(provenance_of(workspace, cell)) | {"identity": cell.identity, "seed": seed}
    fields |= {"state": "ok", "metrics": {"penalty": 1.53125, "accuracy": 81.5}}
    fields |= {"cost": Cost(wall_s=8.0, cpu_s=4.0, peak_memory_bytes=1), "environment": {"device": "cpu: x"}}
    record = RunRecord(**(fields | {"commit": "c" * 40, "started": "then", "ended": "later"} | change))
    folder = cell.folder(workspace.results)
    write_record(folder / f"seed-{seed}.json", record)
    rows = [{"epoch": epoch, "phase": "a", "penalty": 1.0 / epoch, "loss": 2.0} for epoch in (1, 2, 40)]
    write_atomically(folder / f"seed-{seed}.curve.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return record


def with_mode(workspace: Workspace, mode: str) -> Workspace:
    wandb = Wandb(mode=mode, entity="me" if mode == "online" else None)
    return dataclasses.replace(workspace, config=workspace.config.model_copy(update={"wandb": wandb}))


def entries(data: bytes) -> Iterator[bytes]:
    """The entries of a client's file, which has LevelDB's log format behind a head of seven bytes."""
    place, parts = 7, []
    while place < len(data):
        if (left := BLOCK - place % BLOCK) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def offline(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """What the client's files say, by run id: config, summary, number of history lines, and how the run ended."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for path in (workspace.results / "wandb" / "wandb").glob("offline-run-*/run-*.wandb"):
        run: dict[str, Any] = {"config": {}, "summary": {}, "history": 0, "exit": None}
        for data in entries(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found[record.run.run_id] = run
                run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "summary":
                run["summary"] |= {item.key: json.loads(item.value_json) for item in record.summary.update}
            elif kind == "history":
                run["history"] += 1
            elif kind == "exit":
                run["exit"] = record.exit.exit_code
    return found


def test_the_files_say_what_the_records_say(workspace: Workspace) -> None:
    good = leave(workspace, 0)
    bad = leave(workspace, 1, state="failed", error="ValueError: a bug", metrics={})
    gone = leave(workspace, 2, state="diverged", error="loss is nan", metrics={})
    assert replay(workspace) == 3
    found = offline(workspace)
    assert found.keys() == {run_id(record) for record in (good, bad, gone)}
    for record in (good, bad, gone):
        run = found[run_id(record)]
        assert run["history"] == 3
        # A metric is the record's, whatever a curve of the same name ended with.
        assert {name: run["summary"].get(name) for name in record.metrics} == record.metrics
        assert run["summary"]["state"] == record.state
        assert run["exit"] == (0 if record.state == "ok" else 1)
        for name, value in config_of(record).items():
            assert run["config"][name] == value, name
    assert replay(workspace) == 0


def test_the_config_says_what_was_run_and_what_it_cost(workspace: Workspace) -> None:
    record = leave(workspace, 0)
    record = record.model_copy(update={"settings": record.settings | {"seed": "a setting of that name"}})
    config = config_of(record)
    for name in ("paper", "recipe", "scale", "protocol", "source_sha256", "data_sha256", "commit", "identity", "seed"):
        assert config[name] == getattr(record, name)
    assert config["setting/seed"] == "a setting of that name"
    assert config["lr"] == record.settings["lr"]
    assert (config["cost/wall_s"], config["cost/cpu_s"]) == (8.0, 4.0)
    assert config["environment/device"] == "cpu: x"


def test_disabled_says_so(workspace: Workspace) -> None:
    with pytest.raises(CardError, match=r"wandb\.mode is disabled"):
        replay(with_mode(workspace, "disabled"))


def test_online_without_a_key_gets_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    with pytest.raises(CardError, match="no key is set"):
        replay(with_mode(workspace, "online"))


@pytest.mark.parametrize("line", ["{", "[]", '{"loss": 1.0}', '{"epoch": "x"}'])
def test_a_damaged_curve_is_named_and_a_damaged_list_is_made_again(workspace: Workspace, line: str) -> None:
    record = leave(workspace, 0)
    curve = record.cell.folder(workspace.results) / "seed-0.curve.jsonl"
    whole = curve.read_text()
    curve.write_text(f"{whole}{line}\n")
    write_atomically(workspace.results / "wandb" / "replayed-offline.json", b"{")
    with pytest.raises(CardError, match=r"seed-0\.curve\.jsonl:4: no line of a curve"):
        replay(workspace)


# The real client against a server of our own


class Stub:
    """Answers W&B's client as far as it asks, and keeps what it uploads: run id -> its last summary, config, exit."""

    def __init__(self) -> None:
        self.address, self.runs, self.asked = "", {}, []

    def graphql(self, body: dict) -> dict:
        query, given = body.get("query", ""), body.get("variables") or {}
        self.asked.append(query.split("(")[0].split("{")[0].strip())
        if "upsertBucket" in query:
            run = self.runs.setdefault(given["name"], {"config": {}, "summary": {}, "exit": None, "history": 0})
            run["config"] |= json.loads(given.get("config") or "{}")
            bucket = {
                "id": given["name"], "name": given["name"], "displayName": given.get("displayName") or "",
                "description": "", "config": "{}", "sweepName": "", "historyLineCount": 0, "createdAt": "2026-01-01",
                "project": {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}},
            }  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": []}}
        if "viewer" in query.lower():
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
                    "serverInfo": None}  # fmt: skip
        return {"model": None, "project": None, "entity": None, "serverInfo": None}

    def stream(self, run: str, body: dict) -> dict:
        kept = self.runs.setdefault(run, {"config": {}, "summary": {}, "exit": None, "history": 0})
        for name, file in (body.get("files") or {}).items():
            if "summary" in name:
                kept["summary"] |= json.loads(file["content"][-1])
            elif "history" in name:
                kept["history"] = max(kept["history"], file["offset"] + len(file["content"]))
        if body.get("complete"):
            kept["exit"] = body.get("exitcode")
        return {"exitcode": None, "limits": {}}


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data or b"{}")
        if self.path.endswith("/graphql"):
            answer: dict = {"data": self.stub.graphql(body)}
        elif found := re.fullmatch(r"/files/[^/]*/[^/]*/([^/]*)/file_stream", self.path):
            answer = self.stub.stream(found[1], body)
        else:
            answer = {}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    made = Stub()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stub": made})) as server:
        server.daemon_threads = True
        made.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        for name, value in {
            "WANDB_BASE_URL": made.address, "WANDB_API_KEY": KEY, "WANDB_ENTITY": "me", "WANDB_DATA_DIR": str(tmp_path),
            "WANDB_CACHE_DIR": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path), "NETRC": str(tmp_path / "netrc"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        yield made
        server.shutdown()


REPLAY = """
import sys
from pathlib import Path
from retable.config import Config, Wandb, Workspace
from retable.wandb_sink import replay
wandb = Wandb(mode="online", entity="me")
print(replay(Workspace(Path(sys.argv[1]), Config(device="cpu", papers=["contranorm"], wandb=wandb))))
"""


def call(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return subprocess.run(
        command, cwd=cwd, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )


def uploaded(stub: Stub, record: RunRecord) -> None:
    """The server has the record's numbers, and how the run ended."""
    run = stub.runs[run_id(record)]
    assert {name: run["summary"].get(name) for name in record.metrics} == record.metrics
    assert run["exit"] == (0 if record.state == "ok" else 1)
    assert run["history"] == 3
    assert run["config"]["identity"]["value"] == record.identity


@pytest.mark.slow
def test_online_the_real_client_uploads_what_the_records_say(workspace: Workspace, stub: Stub) -> None:
    records = [leave(workspace, 0), leave(workspace, 1, state="failed", error="a bug", metrics={})]
    done = call(sys.executable, "-c", REPLAY, str(workspace.root), cwd=workspace.root)
    assert done.returncode == 0, done.stderr
    for record in records:
        uploaded(stub, record)


@pytest.mark.slow
def test_the_sync_line_of_the_readme_works_as_printed(workspace: Workspace, stub: Stub) -> None:
    record = leave(workspace, 0)
    assert replay(workspace) == 1
    line = sync_line(workspace)
    assert f"`{line}`" in (ROOT / "README.md").read_text()
    shell = line.replace("wandb", f"{sys.executable} -m wandb", 1)
    done = call("sh", "-c", shell, cwd=workspace.root)
    assert done.returncode == 0, done.stdout + done.stderr
    uploaded(stub, record)
