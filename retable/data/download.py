"""Bytes from an address into a file: streamed, resumed, retried. What they are worth is decided elsewhere."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import requests

CHUNK = 1 << 16  # what a broken transfer loses at most
TIMEOUT_SECONDS = (10, 60)
DELAYS_SECONDS = (0.5, 2.0, 8.0)

Advance = Callable[[int], None]


class Miss(Exception):
    """This origin cannot give the file; another one may."""


class _Interrupted(Exception):
    """The transfer broke off or the server is overloaded: worth another try."""


class _Restart(_Interrupted):
    """What is here cannot be continued: another try must begin at the start."""


def copy(source: Path, part: Path, advance: Advance) -> Path:
    """Copy a mirror's file to `part`, and return that. Raises Miss where the mirror lacks it."""
    if not source.is_file():
        raise Miss(f"{source} does not exist")
    with source.open("rb") as reader, part.open("wb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK)
    advance(source.stat().st_size)
    return part


def download(url: str, part: Path, limit: int | None, advance: Advance) -> bool:
    """Download `url` to `part`, going on from what `part` holds; True if it did go on.

    A server that ignores the request for a range starts over. `limit` is the expected size in bytes: what
    goes beyond it is cut off, and a transfer that ends before it, without the server having announced so,
    counts as broken off. Raises Miss when the server lacks the file, or after four tries; `part` stays for a
    later one.
    """
    resumed = _size(part) > 0
    advance(_size(part))
    for delay in (*DELAYS_SECONDS, None):
        try:
            _transfer(url, part, limit, advance)
            return resumed
        except (_Interrupted, requests.ConnectionError, requests.Timeout) as error:
            if isinstance(error, _Restart):
                part.unlink(missing_ok=True)
            if delay is None:
                raise Miss(f"{url} {_reason(error)}") from None
            resumed = resumed or _size(part) > 0
            time.sleep(delay)
        except requests.RequestException as error:
            raise Miss(f"{url} cannot be asked for: {error}") from None
    raise AssertionError("unreachable")


def _transfer(url: str, part: Path, limit: int | None, advance: Advance) -> None:
    start = _size(part)
    if limit is not None and start >= limit:
        return
    # Compressed transfer would make sizes and ranges mean something else than the file's.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if not _continues(response, url, start):
            start = 0
        written, announced = start, response.headers.get("Content-Length")
        try:
            with part.open("ab" if start else "wb") as stream:
                for block in response.iter_content(CHUNK):
                    stream.write(block)
                    written += len(block)
                    advance(len(block))
                    if limit is not None and written > limit:
                        return
        except requests.exceptions.ChunkedEncodingError:
            raise _Interrupted(f"broke off after {written:,} bytes") from None
        # With neither a length nor chunks a closed connection is the only end mark, and cannot be trusted.
        unmarked = announced is None and "chunked" not in response.headers.get("Transfer-Encoding", "")
        if unmarked and limit is not None and written < limit:
            raise _Interrupted(f"broke off after {written:,} bytes")


def _continues(response: requests.Response, url: str, start: int) -> bool:
    """Whether the body goes on from `start`; raises for every answer that is no body."""
    status = response.status_code
    if status >= 500 or status == requests.codes.too_many_requests:
        raise _Interrupted(f"answers {status} {response.reason}")
    if start and status == requests.codes.requested_range_not_satisfiable:
        raise _Restart("refuses to continue a partial download")
    if status >= 400:
        raise Miss(f"{url} answers {status} {response.reason}")
    if status != requests.codes.partial_content:
        return False
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Restart("sends another range than asked for")
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, _Interrupted):
        return str(error)
    if isinstance(error, requests.Timeout):
        return "does not answer in time"
    return "cannot be reached"
