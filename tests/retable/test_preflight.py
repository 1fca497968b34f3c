import dataclasses
from pathlib import Path

import pytest

from retable.cards import CardError, DataError
from retable.config import Config, Workspace
from retable.currency import RecordStore, provenance_of
from retable.plan import Cell
from retable.preflight import GPU_RATE, History, check_reachable, estimate, operations, seconds_of_seed
from retable.records import Cost, RunRecord, publish, write_record

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = "cpu: AMD EPYC", "cuda: NVIDIA H200"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the real cards, without data and records."""
    for name in ("methods", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "datasets").mkdir()
    for card in (ROOT / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / card.name).symlink_to(card)
    return tmp_path


def open_at(root: Path, scale: str, paper: str, recipe: str, *datasets: str, **more) -> Workspace:
    chosen = {"scale": scale, "papers": [paper], "recipes": [recipe], "datasets": list(datasets) or None}
    return Workspace(root, Config.model_validate(chosen | more))


def record(workspace: Workspace, cell: Cell, seed: int = 0, **change) -> RunRecord:
    """A current record of 36 processor-seconds (72 of the clock) and a GiB."""
    cost = Cost(wall_s=72.0, cpu_s=36.0, peak_memory_bytes=2**30)
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"}
    fields |= dataclasses.asdict(provenance_of(workspace, cell))
    fields |= {"identity": cell.identity, "seed": seed, "state": "ok", "cost": cost, "environment": {"device": CPU}}
    fields |= {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:12+00:00"}
    return RunRecord(**(fields | change))


def cost(seconds: float, gib: float = 1.0) -> Cost:
    """Of a run with so many seconds of a processor."""
    return Cost(wall_s=10 * seconds, cpu_s=seconds, peak_memory_bytes=int(gib * 2**30))


def gpu_cost(seconds: float) -> Cost:
    return Cost(wall_s=seconds / 2, cpu_s=3 * seconds, gpu_s=seconds, peak_memory_bytes=2**31)


def write(workspace: Workspace, cell: Cell, *seeds: int, **change) -> None:
    """Leave records where `run` leaves its own."""
    for seed in seeds:
        write_record(cell.folder(workspace.results) / f"seed-{seed}.json", record(workspace, cell, seed, **change))


def line(text: str, start: str) -> str:
    (found,) = (row.strip() for row in text.splitlines() if row.strip().startswith(start))
    return found


def at(workspace: Workspace, variant: str, **axes) -> Cell:
    (found,) = (c for c in workspace.cells if c.variant == variant and c.axes == axes)
    return found


# Seeds


def test_published_seeds_are_measured_here_all_the_same(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "node", "cora")
    publish([record(workspace, cell, seed) for cell in workspace.cells for seed in cell.seeds], workspace.results)
    text = estimate(workspace)
    # 75 times 36 seconds
    assert line(text, "gcl/node on cora").startswith(
        "gcl/node on cora: 75 seeds to run, 0.75 processor-hours for 75 of them"
    )
    assert line(text, "total") == "total: 75 seeds to run"
    assert "without history" not in text


def test_the_seeds_are_those_that_run_would_measure(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "node", "cora")
    cell = workspace.cells[0]
    write(workspace, cell, 0)
    write(workspace, cell, 1, state="diverged", error="loss is nan")
    write(workspace, cell, 2, state="failed", error="ValueError")
    write(workspace, cell, 3, source_sha256="0" * 64)
    store = RecordStore.open(workspace)
    assert store.unfinished(cell) == [2, 3, 4]
    assert line(estimate(workspace), "total") == "total: 73 seeds to run"


def test_a_run_is_history_of_the_next_seeds_and_the_card_tells_of_the_others(root: Path) -> None:
    workspace = open_at(root, "demo", "contranorm", "node-depth", device="cpu")
    recipe = workspace.papers["contranorm"].recipe("node-depth")
    controls = sum(len(cell.seeds) for cell in workspace.cells if recipe.variants[cell.variant].control)
    hours = ((30 - controls) * recipe.scales["demo"].seconds + controls) / 3600
    told = f"30 seeds to run, {hours:.2f} processor-hours for 30 of them by the card"
    assert line(estimate(workspace), "contranorm/node-depth on digits-knn").endswith(told)
    assert line(estimate(workspace), "time").endswith(f"{hours:.2f} processor-hours for 30 of them, 0 without a time")
    planned = workspace.cells[0]
    write(workspace, planned, 0, cost=cost(720))
    states = RecordStore.open(workspace).states(planned)
    assert [state for state, _ in states.values()] == ["ok", "not run", "not run"]
    text = estimate(workspace)
    # The cell's other two seeds, and the three at the other depth.
    row = line(text, "contranorm/node-depth on digits-knn")
    assert "29 seeds to run, 1.00 processor-hours for 5 of them and 1.0 GiB of memory at the peak by history" in row
    assert row.endswith("for 24 of them by the card")
    assert line(text, "time").endswith("for 29 of them, 0 without a time")


def test_a_seed_needs_what_history_says_or_the_count_on_a_gpu_or_the_card(root: Path) -> None:
    workspace = open_at(root, "demo", "contranorm", "node-depth")
    trained = next(cell for cell in workspace.cells if cell.variant == "none")
    control = next(cell for cell in workspace.cells if cell.variant == "majority")
    told = workspace.papers["contranorm"].recipe("node-depth").scales["demo"].seconds
    none = History([], "cpu")
    assert seconds_of_seed(workspace, trained, none) == told
    assert seconds_of_seed(workspace, control, none) == min(told, 1.0)
    ran = History([record(workspace, trained, cost=cost(50))], "cpu")
    assert seconds_of_seed(workspace, trained, ran) == 50
    full = open_at(root, "full", "umae", "imagenet-probe")
    counted = next(cell for cell in full.cells if operations(full, cell))
    assert seconds_of_seed(full, counted, History([], "cuda")) == operations(full, counted) / GPU_RATE
    assert seconds_of_seed(full, counted, none) is None


def test_runs_of_an_earlier_protocol_tell_only_where_no_others_do(root: Path) -> None:
    workspace = open_at(root, "demo", "contranorm", "node-depth")
    shallow, deep = (at(workspace, "none", depth=depth) for depth in (2, 8))
    earlier = record(workspace, dataclasses.replace(deep, protocol="an earlier one v0"), cost=cost(10))
    assert History([earlier], "cpu").seconds(deep) == 10
    assert History([earlier, record(workspace, shallow, cost=cost(60))], "cpu").seconds(deep) == 60


def test_what_would_stop_a_run_is_found_before_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "RETABLE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    check_reachable(open_at(root, "reduced", "contranorm", "node-depth"))
    check_reachable(open_at(root, "reduced", "contranorm", "node-depth", mirror=str(tmp_path)))
    check_reachable(open_at(root, "demo", "contranorm", "node-depth", mirror="/nowhere"))
    with pytest.raises(DataError, match="'/nowhere' is neither a folder nor an http address"):
        check_reachable(open_at(root, "reduced", "contranorm", "node-depth", mirror="/nowhere"))
    with pytest.raises(CardError, match="no key is set"):
        check_reachable(open_at(root, "demo", "contranorm", "node-depth", wandb={"mode": "online"}))


# Time


def test_a_demo_takes_no_time_from_another_scale(root: Path) -> None:
    demo = open_at(root, "demo", "contranorm", "node-depth")
    full = open_at(root, "full", "contranorm", "node-depth", "cora")
    slow = [record(full, cell, cost=cost(7200)) for cell in full.cells]
    # Of the demo's data set too.
    slow += [record(demo, dataclasses.replace(cell, scale="reduced"), cost=cost(7200)) for cell in demo.cells]
    publish(slow, demo.results)
    text = estimate(demo)
    assert "processor-hours for 30 of them by the card" in text
    assert "by history" not in text
    assert line(text, "time").startswith("time: 0.0")
    for cell in demo.cells:
        write(demo, cell, 0, cost=cost(36))
    assert line(estimate(demo), "time") == "time: 0.20 processor-hours for 20 of them, 0 without a time"


def test_a_data_set_takes_neither_time_nor_memory_from_another(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "graph", "imdb-binary", "proteins", "reddit-binary")
    publish(
        [record(workspace, cell, cost=cost(36, 13)) for cell in workspace.cells if cell.dataset == "imdb-binary"],
        workspace.results,
    )
    text = estimate(workspace)
    assert (
        line(text, "gcl/graph on imdb-binary")
        == "gcl/graph on imdb-binary: 150 seeds to run, 1.50 processor-hours for 150 of them and 13.0 GiB of memory at "
        "the peak by history"
    )
    for name in ("proteins", "reddit-binary"):
        row = line(text, f"gcl/graph on {name}")
        assert "150 of them without history (card: one CPU core, a seed: seconds to 5 minutes, on REDDIT" in row
        assert "by history" not in row
    assert line(text, "time") == "time: 1.50 processor-hours for 150 of them, 300 without a time"


@pytest.mark.parametrize(
    ("device", "first", "time", "memory"),
    [
        (
            "cpu",
            "scale full on cpu: what would run (processor-hours: divide by the jobs side by side)",
            "time: 0.05 processor-hours for 5 of them, 5 without a time",
            "memory: 1.0 GiB of memory at the peak of the largest run",
        ),
        (
            "auto",
            "scale full on cpu, which `device: auto` is taken as: what would run (processor-hours: divide by the jobs "
            "side by side)",
            "time: 0.05 processor-hours for 5 of them, 5 without a time",
            "memory: 1.0 GiB of memory at the peak of the largest run",
        ),
        (
            "cuda",
            "scale full on cuda: what would run (GPU-hours: as if one run came after the other; runs that shared a "
            "GPU count in full)",
            "time: 0.50 GPU-hours for 5 of them, 5 without a time",
            "memory: 2.0 GiB of GPU memory at the peak of the largest run",
        ),
    ],
)
def test_each_device_has_its_own_history(root: Path, device: str, first: str, time: str, memory: str) -> None:
    workspace = open_at(root, "full", "tricl", "identifiability", "word-pairs-equal", device=device)
    on_cpu, on_cuda = [c for c in workspace.cells if len(c.seeds) == 5][:2]
    selected = dataclasses.replace(workspace)
    selected.__dict__["cells"] = [on_cpu, on_cuda]
    publish(
        [
            record(workspace, on_cpu),
            record(workspace, on_cuda, cost=gpu_cost(360), environment={"device": CUDA}),
            record(workspace, on_cuda, 1, environment={}),
        ],
        workspace.results,
    )
    text = estimate(selected)
    assert text.splitlines()[0] == first
    assert line(text, "time") == time
    assert line(text, "memory") == memory


def test_own_and_published_runs_of_a_seed_are_both_history(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "node", "cora")
    cell = workspace.cells[0]
    publish([record(workspace, cell, 0)], workspace.results)
    write(workspace, cell, 0, cost=gpu_cost(1), environment={"device": CUDA})
    # Four seeds are left, of 36 seconds each.
    assert line(estimate(workspace), "time") == "time: 0.04 processor-hours for 4 of them, 70 without a time"


def test_the_time_of_a_seed_is_the_median_processor_time_of_runs_that_ended_well(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "node", "cora")
    cell = workspace.cells[0]
    for seed, seconds in enumerate([3.6, 360, 3600]):
        # A stale one has a time too.
        write(workspace, cell, seed, cost=cost(seconds), source_sha256="0" * 64)
    write(workspace, cell, 3, cost=cost(9999), state="failed", error="ValueError")
    write(workspace, cell, 4, cost=cost(9999), state="diverged", error="loss is nan")
    # Three stale seeds and the failed one are to be run.
    assert line(estimate(workspace), "time") == "time: 0.40 processor-hours for 4 of them, 70 without a time"


def test_the_most_alike_runs_count(root: Path) -> None:
    workspace = open_at(root, "full", "contranorm", "node-depth", "cora")
    shallow, deep, deeper = (at(workspace, "none", depth=depth) for depth in (2, 16, 32))
    older = [dataclasses.replace(cell, settings=cell.settings | {"lr": 0.5}) for cell in (shallow, deep)]
    other = at(workspace, "pairnorm", depth=2)
    write(workspace, shallow, 0, cost=cost(36))
    write(workspace, older[0], 0, cost=cost(180))
    write(workspace, older[1], 0, cost=cost(360))

    def hours(*cells: Cell) -> str:
        selected = dataclasses.replace(workspace)
        selected.__dict__["cells"] = list(cells)
        return line(estimate(selected), "time").removeprefix("time: ")

    assert hours(shallow) == "0.04 processor-hours for 4 of them, 0 without a time"  # the cell's own
    assert hours(deep) == "0.50 processor-hours for 5 of them, 0 without a time"  # its axes at other settings
    assert hours(deeper) == "0.25 processor-hours for 5 of them, 0 without a time"  # any axes
    assert hours(other) == "0.00 processor-hours for 0 of them, 5 without a time"  # never another variant


def test_gpu_hours_come_from_counted_operations(root: Path) -> None:
    text = estimate(open_at(root, "full", "umae", "imagenet-fine-tune", seeds=1))
    # 2 x 2.84e19 at 3e14 a second
    assert "52.6 GPU-hours for 2 of these: 5.7e+19 counted operations at 300 TFLOP/s" in text
    assert "2 of them without history (card: estimate, ViT-B/16: 26 hours a seed on an H100" in text
    # They are no time of a processor.
    assert line(text, "time") == "time: 0.00 processor-hours for 0 of them, 2 without a time"


def test_on_a_gpu_counted_operations_are_a_time_where_no_run_is(root: Path) -> None:
    workspace = open_at(root, "full", "umae", "imagenet-fine-tune", seeds=2, device="cuda")
    write(workspace, at(workspace, "mae"), 0, cost=gpu_cost(7200), environment={"device": CUDA})
    text = estimate(workspace)
    row = line(text, "umae/imagenet-fine-tune on imagenet")
    assert "3 seeds to run, 2.00 GPU-hours for 1 of them and 2.0 GiB of GPU memory at the peak by history" in row
    assert "2 of them without history" in row
    assert "52.6 GPU-hours for 2 of these" in row
    assert (
        line(text, "time") == "time: 54.59 GPU-hours for 3 of them (52.59 of these hours for 2 by counted operations), "
        "0 without a time"
    )


# Disk and memory


def test_what_lies_below_raw_is_not_downloaded_again(root: Path) -> None:
    workspace = open_at(root, "reduced", "contranorm", "glue")
    cola, rte = workspace.datasets["glue-cola"], workspace.datasets["glue-rte"]
    both = (cola.bytes + rte.bytes) / 1e6
    assert line(estimate(workspace), "disk") == f"disk: {both:.1f} of {both:.1f} MB to download"
    for file in cola.files:
        path = workspace.raw / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(file.bytes))
    cut = workspace.raw / rte.files[0].path
    cut.parent.mkdir(parents=True, exist_ok=True)
    cut.write_bytes(b"cut")
    text = estimate(workspace)
    assert f"data glue-cola: 0.0 of {cola.bytes / 1e6:.1f} MB to download; licence: {cola.licence}" in text
    assert f"data glue-rte: {rte.bytes / 1e6:.1f} of {rte.bytes / 1e6:.1f} MB to download" in text
    assert line(text, "disk") == f"disk: {rte.bytes / 1e6:.1f} of {both:.1f} MB to download"


def test_data_that_is_not_downloaded_says_where_it_comes_from(root: Path) -> None:
    text = estimate(open_at(root, "demo", "contranorm", "node-depth"))
    assert "data digits-knn: derived on this machine; licence: BSD-3-Clause" in text
    text = estimate(open_at(root, "full", "umae", "imagenet-fine-tune"))
    assert "data imagenet: to be provided at datasets/raw/imagenet; licence: non-commercial" in text
    assert line(text, "disk") == "disk: 0.0 of 0.0 MB to download"
    assert line(text, "memory") == "memory: unknown"


def test_the_peak_is_that_of_one_run_that_is_left(root: Path) -> None:
    workspace = open_at(root, "full", "gcl", "graph", "mutag", "ptc-mr")
    mutag = [cell for cell in workspace.cells if cell.dataset == "mutag"]
    ptc = [cell for cell in workspace.cells if cell.dataset == "ptc-mr"]
    publish([record(workspace, mutag[0], seed, cost=cost(1, 1 + seed)) for seed in (0, 1)], workspace.results)
    publish([record(workspace, cell, cost=cost(1, 1.5)) for cell in (mutag[2], ptc[0])], workspace.results)
    write(workspace, mutag[1], *mutag[1].seeds, cost=cost(1, 13))
    text = estimate(workspace)
    assert "2.0 GiB of memory at the peak by history" in line(text, "gcl/graph on mutag")
    assert line(text, "memory") == "memory: 2.0 GiB of memory at the peak of the largest run"
