"""Time, memory and size of drawing the pages, against another commit's: README.md records the ratios.

Both checkouts draw in turn, each in a fresh process, the published records of the other commit (f38200d had 1,464):
from nothing, with nothing changed, and with one new record. Then a paper of 1,000 cells with 100 seeds each.

    python benchmarks/site.py OTHER              # the published records, three rounds
    python benchmarks/site.py OTHER many         # 100,000 records; minutes
    python benchmarks/site.py OTHER many --seeds 10

OTHER is a checkout of the other commit (`git worktree add /tmp/other f38200d`). Nothing is written into either: each
draws in a copy of its cards and code.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TAKEN = ("retable", "methods", "datasets", "config", "Snakefile")
# Of this paper's depth study the grid is widened to so many cells.
PAPER, RECIPE, CELLS = "contranorm", "node-depth", 1000

# Runs inside a copy, with that copy's code: records of every cell of the widened recipe.
MAKE = """
import json, random, sys
from pathlib import Path
from retable.cards import load_datasets, load_paper
from retable.plan import recipe_cells
from retable.sources import source_sha256
paper, recipe_name, seeds, like = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(Path(sys.argv[4]).read_text())
root = Path.cwd()
datasets = load_datasets(root)
recipe = load_paper(root / "methods" / paper / "card.yaml").recipe(recipe_name)
source = source_sha256(root, paper, *([recipe.experiment] if hasattr(recipe, "experiment") else []))
for path in (root / "results" / "published").glob("*/*.jsonl"):
    path.unlink()
made = 0
for cell in recipe_cells(paper, recipe, datasets, "full"):
    card, chance = datasets[cell.dataset], random.Random(cell.identity)
    level = chance.uniform(20, 80)
    folder = root / "results" / "published" / paper
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{recipe_name}-full-{cell.dataset}.jsonl").open("a") as file:
        for seed in range(seeds):
            fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"}
            metrics = {name: level + chance.gauss(0, 1) for name in like["metrics"]}
            series = {"similarity/norm": [chance.random() for _ in range(8)]}
            fields |= {"identity": cell.identity, "seed": seed, "metrics": metrics, "series": series,
                       "source_sha256": source, "data_sha256": card.content_sha256,
                       "split_sha256": card.splits[cell.split].sha256}
            file.write(json.dumps(like | fields, sort_keys=True) + "\\n")
            made += 1
print(made)
"""


def copy_of(checkout: Path, records: Path, place: Path) -> Path:
    """A checkout's code and cards with the published records of another."""
    for name in TAKEN:
        source = checkout / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("raw", "__pycache__")
            shutil.copytree(source, place / name, ignore=skipped, symlinks=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place / name)
    shutil.copytree(records / "results" / "published", place / "results" / "published")
    for extra in ("equivalence.jsonl", "renames.yaml"):
        if (checkout / "results" / extra).exists():
            shutil.copy(checkout / "results" / extra, place / "results" / extra)
    return place


def python(place: Path, *arguments: str) -> tuple[str, float, float, float]:
    """What Python prints with a copy's code, seconds of the clock and of all processors, megabytes at most."""
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", WRAPPED, *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{place}: {done.stderr}")
    *text, memory = done.stdout.splitlines()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return "\n".join(text), took, used, float(memory)


# Peak memory of the process itself and of what it started, printed last.
WRAPPED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
code = 0
try:
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        text = open(sys.argv[0]).read()
        exec(compile(text, sys.argv[0], "exec"), {"__name__": "__main__"})
except SystemExit as ended:
    code = ended.code or 0
who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
print(max(resource.getrusage(one).ru_maxrss for one in who) / 1000)
sys.exit(code)
"""


def draw(place: Path) -> tuple[float, float, float]:
    """Seconds of the clock and of all processors, megabytes at most."""
    return python(place, "-m", "retable", "report")[1:]


def add_record(place: Path, number: int) -> None:
    """One seed more in the first published file."""
    path = sorted((place / "results" / "published" / PAPER).glob("*.jsonl"))[0]
    lines = path.read_text().splitlines()
    record = json.loads(lines[-1])
    path.write_text("\n".join([*lines, json.dumps(record | {"seed": 1000 + number}, sort_keys=True)]) + "\n")


def published(places: dict[str, Path], rounds: int) -> None:
    """The three cases in turns."""
    cases = ("from nothing", "nothing changed", "one new record")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for place in places.values():
        draw(place)  # compiles what Python and Jinja keep, and hashes sources
    for number in range(rounds):
        for name, place in places.items():
            shutil.rmtree(place / "reports")
            for case in cases:
                if case == "one new record":
                    add_record(place, number)
                wall, used, _ = draw(place)
                found.setdefault((name, case), []).append((wall, used))
    print("| case | other, s | here, s | ratio | ratio of processor time |\n|---|---|---|---|---|")
    for case in cases:
        (other, other_cpu), (here, here_cpu) = (
            [statistics.median(column) for column in zip(*found[name, case], strict=True)] for name in ("other", "here")
        )
        print(f"| {case} | {other:.1f} | {here:.2f} | 1/{other / here:.1f} | 1/{other_cpu / here_cpu:.1f} |")


def many(places: dict[str, Path], seeds: int, rounds: int) -> None:
    """A thousand cells, drawn from nothing."""
    made = ""
    for place in places.values():
        draw(place)  # compiles what Python and Jinja keep, and hashes sources
        widen(place, seeds)
        sample = sorted((place / "results" / "published" / PAPER).glob(f"{RECIPE}-full-*.jsonl"))[0]
        like = place / "like.json"
        like.write_text(sample.read_text().splitlines()[0])
        script = place / "make.py"
        script.write_text(MAKE)
        made, *_ = python(place, str(script), PAPER, RECIPE, str(seeds), str(like))
    print("| records | draws | s | processor s | MB | MB of files | files |\n|---|---|---|---|---|---|---|")
    walls: dict[str, list[float]] = {name: [] for name in places}
    for turn in range(rounds):
        for name, place in reversed(places.items()):
            # Moved, not deleted: ext4 looks long for inodes that were not freed just before.
            (place / "reports").rename(place / f"reports-{turn}")
            wall, used, memory = draw(place)
            walls[name].append(wall)
            sizes = [path.stat().st_size for path in (place / "reports" / "site").rglob("*") if path.is_file()]
            megabytes = sum(sizes) / 1e6
            cells = (made, name, f"{wall:.1f}", f"{used:.1f}", f"{memory:.0f}", f"{megabytes:.0f}", str(len(sizes)))
            print(f"| {' | '.join(cells)} |", flush=True)
    other, here = (statistics.median(walls[name]) for name in ("other", "here"))
    print(f"medians: {other:.1f} s and {here:.1f} s, 1/{other / here:.1f}")


def widen(place: Path, seeds: int) -> None:
    """Give the recipe more depths, until it has a thousand cells, and more seeds."""
    import yaml

    path = place / "methods" / PAPER / "card.yaml"
    card = yaml.safe_load(path.read_text())
    recipe = next(recipe for recipe in card["recipes"] if recipe["name"] == RECIPE)
    full = recipe["scales"]["full"]
    count = "from retable.cards import *; from retable.plan import recipe_cells; from pathlib import Path; " \
            f"r = load_paper(Path('methods/{PAPER}/card.yaml')).recipe('{RECIPE}'); " \
            "print(len(recipe_cells('x', r, load_datasets(Path()), 'full')))"  # fmt: skip
    script = place / "count.py"
    script.write_text(count)
    depths = [2, 4, 8, 16, 32]
    counts = []
    for depth in (depths, [*depths, 33]):
        full["axes"]["depth"], full["seeds"] = depth, seeds
        path.write_text(yaml.safe_dump(card, sort_keys=False))
        counts.append(int(python(place, str(script))[0]))
    base, more = counts
    wanted = max(0, round((CELLS - base) / (more - base)))
    full["axes"]["depth"] = [*depths, *range(33, 33 + wanted)]
    path.write_text(yaml.safe_dump(card, sort_keys=False))


def main() -> None:
    """Draw in turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("part", choices=("published", "many"), nargs="?", default="published")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        other = chosen.other.resolve()
        places = {
            "other": copy_of(other, other, Path(scratch) / "other"),
            "here": copy_of(HERE, other, Path(scratch) / "here"),
        }
        if chosen.part == "many":
            many(places, chosen.seeds, chosen.rounds)
        else:
            published(places, chosen.rounds)


if __name__ == "__main__":
    main()
