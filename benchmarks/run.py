"""Every promised ratio, measured again on this machine, in one table.

    python benchmarks/run.py                     # all, about a quarter of an hour on a quiet core
    python benchmarks/run.py contranorm images   # of these scripts only

`promises.csv` names script, part, row (what its first cells begin with, joined by spaces), column and the ratio that
benchmarks/README.md promises: that of the slower kind of machine, one without AVX-512. A ratio below nine tenths of it
is a broken promise, and the exit status is then 1.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch

HERE = Path(__file__).parent
TOLERANCE = 0.9


def rows(text: str) -> Iterator[dict[str, str]]:
    """The rows of the Markdown tables in `text`: header -> cell, and all cells but the last ones as `what`."""
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        if set(line) <= set("|-"):
            continue
        if not header:
            header = cells
        else:
            yield dict(zip(header, cells, strict=False)) | {"what": " ".join(cells)}


def main(names: list[str]) -> int:
    """Run what `names` select, print the table, return the exit status."""
    with (HERE / "promises.csv").open(newline="", encoding="utf-8") as file:
        promises = list(csv.DictReader(file))
    if unknown := set(names) - {promise["script"] for promise in promises}:
        sys.exit(f"no promise is made by {', '.join(sorted(unknown))}")
    chosen = [promise for promise in promises if not names or promise["script"] in names]
    print(f"instruction set {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}\n")
    print("| script | what | promised | here | |\n|---|---|---|---|---|")
    broken = 0
    for script, group in groupby(chosen, key=lambda promise: promise["script"]):
        asked = list(group)
        parts = list(dict.fromkeys(promise["part"] for promise in asked if promise["part"]))
        command = [sys.executable, str(HERE / f"{script}.py"), *parts]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
        found = list(rows(done.stdout))
        for promise in asked:
            row = next((row for row in found if row["what"].startswith(promise["row"])), None)
            if row is None or promise["column"] not in row:
                sys.exit(f"{script}: no row {promise['row']!r} with a column {promise['column']!r}")
            promised, here = float(promise["promised"]), float(row[promise["column"]])
            kept = here >= TOLERANCE * promised
            broken += not kept
            said = "" if kept else "broken"
            what = f"{promise['row']}: {promise['column']}"
            print(f"| {script} | {what} | {promised:g} | {here:g} | {said} |", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
