"""A web server on this machine that misbehaves on request, and cards for files made up in a test."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from retable.cards import DataFile, DatasetCard
from retable.data import download


@dataclass
class Server:
    """Serves `files`; each request takes the next of `behaviours`, and is normal when none is left."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        wanted = self.headers.get("Range")
        state.ranges.append(wanted)
        behaviour = state.behaviours.pop(0) if state.behaviours else "normal"
        if behaviour.isdigit():
            return self.send_error(int(behaviour))
        if self.path not in state.files:
            return self.send_error(404)
        body = state.files[self.path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(body) and start:
            return self.send_error(416)
        if start and behaviour != "ignores ranges":
            said = start + 1 if behaviour == "other range" else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            self.send_response(200)
        if behaviour != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if behaviour in ("breaks off", "no length", "hangs") else body)
        if behaviour == "hangs":
            self.wfile.flush()
            threading.Event().wait(30)

    def log_message(self, *_: object) -> None:
        pass


class _Httpd(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle of an answer is what some tests are about."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "DELAYS_SECONDS", (0.0, 0.0, 0.0))
    state = Server()
    handler = type("Handler", (_Handler,), {"server_state": state})
    with _Httpd(("127.0.0.1", 0), handler) as httpd:
        httpd.daemon_threads = True
        state.address = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_mirror(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.delenv("RETABLE_MIRROR", raising=False)


@pytest.fixture
def make_card() -> Callable[..., DatasetCard]:
    """A card that pins the files it is given; hashes of parsed arrays are zeros unless given."""

    def make(*files: DataFile, **fields: object) -> DatasetCard:
        filled = {
            "name": "made-up",
            "title": "Made up",
            "task": "node_classification",
            "homepage": "https://example.org",
            "licence": "none stated",
            "citation": "none",
            "reader": "planetoid",
            "counts": {},
            "content_sha256": "0" * 64,
            "splits": {},
        }
        return DatasetCard.model_validate({**filled, "files": list(files), **fields})

    return make


@pytest.fixture
def entry() -> Callable[..., DataFile]:
    """A card's entry for a file with this content."""

    def make(path: str, content: bytes, **origin: object) -> DataFile:
        digest = hashlib.sha256(content).hexdigest()
        return DataFile.model_validate({"path": path, "bytes": len(content), "sha256": digest, **origin})

    return make


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())


@pytest.fixture(scope="session")
def mirror() -> str:
    """The folder of real files that RETABLE_MIRROR names."""
    place = os.environ.get("RETABLE_MIRROR")
    if not place:
        pytest.skip("RETABLE_MIRROR names no folder with the real files")
    return place
