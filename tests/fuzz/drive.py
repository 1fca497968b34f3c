"""Fuzz one target for some seconds, led by coverage: `python drive.py TARGET SECONDS FOLDER [--plant]`.

In a process of its own, which a fault ends with its traceback. `--plant` puts a fault into the target first.
"""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import atheris

READERS = ("cards", "config", "records", "looks", "ledger", "renames", "tasks", "data.unpickle", "train.checkpoint")
with atheris.instrument_imports(include=[f"retable.{name}" for name in READERS]):
    sys.path.insert(0, str(Path(__file__).parent))
    import targets

name, seconds, place, *options = sys.argv[1:]
target, folder = targets.TARGETS[name], Path(place) / "tried"
corpus = Path(place) / "corpus"
corpus.mkdir(parents=True, exist_ok=True)
for number, example in enumerate(target.examples):
    (corpus / str(number)).write_bytes(example)
if options == ["--plant"]:
    target.plant()


def one(data: bytes) -> None:
    """Feed the target; what it says of each input goes nowhere."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        targets.feed(target, data, folder)


limits = [f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=20", "-seed=1", "-max_len=20000"]
atheris.Setup([sys.argv[0], str(corpus), *limits, f"-artifact_prefix={place}/"], one)
atheris.Fuzz()
