"""Where the words of a job go: into its log, and what a person must read onto the screen too."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from retable.cards import CardError, DataError


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What is missing or mistaken is said in one line, here and where stderr went before; SystemExit then."""
    outside = os.dup(2)
    try:
        yield
    except (CardError, DataError, OSError) as problem:
        line = f"retable: {problem}\n"
        print(line, end="", file=sys.stderr, flush=True)
        if not os.path.sameopenfile(outside, 2):
            os.write(outside, line.encode())
        raise SystemExit(1) from None
    finally:
        os.close(outside)


def log_to(path: Path) -> None:
    """Append all that is printed from now on, by libraries too, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # What is printed is in the log at once, not when a buffer is full.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
