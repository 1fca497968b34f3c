"""Whether a program that a model wrote does what its test asks.

To score such a program is to run it, and nobody has read it. It runs in a process of its own with an empty folder, no
settings of yours, and limits on time, memory and files; that keeps accidents in, not malice. So nothing runs unless you
say so, in a container or on a machine that holds nothing of value:

    RETABLE_RUN_GENERATED_CODE=1 retable run seqtopk/finetune-code --scale full
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from retable.data.containers import DataError

PERMISSION = "RETABLE_RUN_GENERATED_CODE"
MEMORY = 2 << 30  # bytes
FILE = 1 << 20  # bytes of a file that a program writes
# Read by the child before the program: the limits hold for whatever it starts, too.
LAUNCHER = """
import resource, runpy, sys
memory, seconds, file = map(int, sys.argv[2:])
for what, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, file)):
    resource.setrlimit(what, (limit, limit))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def check_permission() -> None:
    """Raises DataError in one line unless the user has allowed generated programs to run."""
    if os.environ.get(PERMISSION) != "1":
        raise DataError(
            f"this is scored by running code that a model wrote: set {PERMISSION}=1 where that can do no harm"
        )


def passes(program: str, seconds: int = 10) -> bool:
    """Whether the program runs to its last line, without an error, within some seconds.

    Raises DataError without the user's permission.
    """
    check_permission()
    # A program that ends itself early, with whatever status, does not know what its last line would have written.
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        file, sign = Path(folder, "program.py"), Path(folder, "passed")
        file.write_text(f"{program}\nopen({str(sign)!r}, 'w').write({token!r})\n", encoding="utf-8", errors="replace")
        limits = [str(limit) for limit in (MEMORY, seconds, FILE)]
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", LAUNCHER, str(file), *limits],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath},
            start_new_session=True,
        )
        try:
            ended = child.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            # Its children, too; the group is gone when there are none.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        return ended and sign.is_file() and sign.read_text(errors="replace") == token
