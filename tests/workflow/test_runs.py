"""Real runs of a tiny paper: what is done once is not done again; what changed, failed or was killed is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest


def plan(checkout) -> str:
    done = checkout.snakemake("--dry-run")
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy(checkout) -> float:
    (path,) = checkout.results("seed-0.json")
    return json.loads(path.read_text())["metrics"]["accuracy"]


def test_a_run_leaves_a_record_a_log_and_a_page(measured):
    assert len(measured.results("cell.json")) == 1
    assert 0 < accuracy(measured) < 3
    bundle, cell = sorted((measured.folder / "logs/measure").rglob("*.log"), key=lambda path: len(path.parts))
    assert bundle.read_text().count("seed 0: ok, accuracy") == 1
    assert cell.relative_to(measured.folder / "logs/measure").parts[:4] == ("demo", "tiny", "numbers", "digits-knn")
    assert "seed 0: started" in cell.read_text()
    assert "A tiny paper" in (measured.folder / "reports/site/index.html").read_text()


def test_a_second_run_has_nothing_to_do(measured):
    assert "Nothing to be done" in plan(measured)


def test_cosmetic_edits_measure_nothing_again(measured):
    measured.edit("methods/tiny/run.py", '"""A walk."""', '"""A random walk."""\n\n# Explained at length.')
    assert "Nothing to be done" in plan(measured)


def test_real_edits_measure_again(measured):
    measured.edit("methods/tiny/run.py", "walk.place + ", "walk.place - ")
    said = plan(measured)
    assert said.count(": Measuring ") == 1
    assert said.count(": Drawing ") == 1


@pytest.mark.slow
def test_a_record_that_was_deleted_is_measured_again(measured):
    before = measured.results("seed-0.json")[0].read_bytes()
    measured.results("seed-0.json")[0].unlink()
    assert plan(measured).count(": Measuring ") == 1
    assert measured.snakemake("--cores", "1").returncode == 0
    after = measured.results("seed-0.json")[0].read_bytes()
    assert json.loads(after)["metrics"] == json.loads(before)["metrics"]
    assert "Nothing to be done" in plan(measured)


@pytest.mark.slow
def test_one_seed_by_hand_does_not_finish_the_cell(tiny):
    tiny.edit("methods/tiny/card.yaml", "seeds: 1", "seeds: 2")
    for arguments in (["--seed", "1"], ["--seed", "7"]):
        done = tiny.retable("run", "tiny/numbers", *arguments)
        assert done.returncode == 0, done.stderr
        assert not tiny.results("cell.json")
    assert plan(tiny).count(": Measuring ") == 1
    assert tiny.snakemake("--cores", "1").returncode == 0
    (index,) = tiny.results("cell.json")
    assert json.loads(index.read_text())["seeds"] == {"0": "ok", "1": "ok", "7": "ok"}


@pytest.mark.slow
def test_two_processes_on_one_seed_do_not_disturb_each_other(tiny):
    tiny.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 400,")
    command = [sys.executable, "-u", "-m", "retable", "run"]
    first, second = (
        subprocess.Popen(command, cwd=tiny.folder, env=tiny.environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    said = first.communicate()[0] + second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert said.count("seed 0: started") == 1
    assert said.count("another process measures it; waiting") == 1
    (curve,) = (tiny.folder / "results/.state").glob("*/seed-0/curve.jsonl")
    assert [json.loads(line)["epoch"] for line in curve.read_text().splitlines()] == list(range(1, 401))


@pytest.mark.slow
def test_the_log_is_written_while_it_runs_and_a_first_try_survives(tiny):
    tiny.edit("methods/tiny/run.py", "        time.sleep(0.01)", "        print('a step'); time.sleep(0.01); 1 / 0")
    assert tiny.snakemake("--cores", "1").returncode == 1
    tiny.edit("methods/tiny/run.py", "; 1 / 0", "")
    assert tiny.snakemake("--cores", "1").returncode == 0
    for pattern in ("logs/measure/demo/tiny/*.log", "logs/tries/measure/demo/tiny/*.log", "logs/measure/*/*/*/*/*.log"):
        (log,) = tiny.folder.glob(pattern)
        assert "ZeroDivisionError" in log.read_text()
        assert "seed 0: ok, accuracy" in log.read_text()


@pytest.mark.slow
def test_two_checkouts_with_one_environment_are_not_mixed_up(tiny, root):
    alien = tiny.environment() | {"PYTHONPATH": str(root)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", *arguments]
        return subprocess.run(command, cwd=tiny.folder, env=alien, capture_output=True, text=True, check=False)

    refused = call("retable", "run")
    assert refused.returncode == 2
    assert f"{tiny.folder} is a checkout, but `retable` is imported from {root / 'retable'}" in refused.stderr
    assert f"PYTHONPATH={tiny.folder}" in refused.stderr
    # Snakemake takes the code beside the Snakefile, in its jobs too.
    tiny.edit("methods/tiny/run.py", "float(walk.place)})", "float(walk.place) + 100})")
    done = call("snakemake", "--cores", "1", "paper_tiny")
    assert done.returncode == 0, done.stderr
    assert accuracy(tiny) > 100
    assert "1 ok" in tiny.retable("status").stdout


def test_an_edit_of_the_card_draws_the_page_again_and_measures_nothing(measured):
    measured.edit("methods/tiny/card.yaml", "summary: It draws numbers.", "summary: It draws random numbers.")
    said = plan(measured)
    assert ": Measuring " not in said
    assert ": Drawing " in said


def test_a_redraw_takes_over_what_did_not_change(measured):
    # The measured checkout is a copy: its site is of another place.
    assert measured.snakemake("--cores", "1", "--forcerun", "site").returncode == 0
    pages = [measured.folder / "reports/site" / name for name in ("papers/tiny.html", "index.html")]
    before = [page.stat().st_ino for page in pages]
    assert measured.snakemake("--cores", "1", "--forcerun", "site").returncode == 0
    assert [page.stat().st_ino for page in pages] == before
    assert "Nothing to be done" in plan(measured)


@pytest.mark.slow
def test_a_further_seed_keeps_the_measured_one(measured):
    before = measured.results("seed-0.json")[0].read_bytes()
    (index,) = measured.results("cell.json")
    done = measured.snakemake("--cores", "1", "paper_tiny", "--config", "seeds=2")
    assert done.returncode == 0, done.stderr
    assert json.loads(index.read_text())["seeds"] == {"0": "ok", "1": "ok"}
    assert measured.results("seed-0.json")[0].read_bytes() == before


def test_a_failed_seed_is_counted_shown_and_tried_again_by_the_next_call(tiny):
    tiny.edit("methods/tiny/run.py", "        self.model = Walk()", "        raise ValueError('a bug')")
    done = tiny.snakemake("--cores", "1")
    assert done.returncode == 1
    assert "0 of 1 seeds are measured at scale demo, 1 failed or diverged" in done.stdout
    assert "1 seeds failed; `retable status` says why" in done.stderr
    assert (tiny.folder / "reports/site/index.html").exists()
    for log in (tiny.folder / "logs/measure").rglob("*.log"):
        assert "ValueError: a bug" in log.read_text()
    assert plan(tiny).count(": Measuring ") == 1
    verified = tiny.snakemake("--cores", "1", "verify")
    assert verified.returncode == 1
    assert "seed 0: failed" in verified.stdout
    assert "seed 0 failed: ValueError: a bug" in tiny.retable("status").stdout
    assert tiny.retable("run").returncode == 1


@pytest.mark.slow
def test_a_download_that_fails_is_said_in_a_line_and_holds_up_its_own_seeds_only(tiny):
    both = "datasets: {cora: public, digits-knn: default}"
    tiny.edit("methods/tiny/card.yaml", "datasets: {digits-knn: default}", both)
    tiny.edit("datasets/cora.yaml", "https://", "http://127.0.0.1:9/")
    tiny.edit("retable/data/download.py", "in (*DELAYS_SECONDS, None)", "in (None,)")
    done = tiny.snakemake("--cores", "1")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("retable: ")]
    assert any("http://127.0.0.1:9/" in line for line in said)
    assert said[-1] == "retable: 1 of 2 seeds are not measured; more is in logs/, the same call goes on"
    assert "Traceback" not in done.stderr + done.stdout
    assert len(tiny.results("seed-0.json")) == 1


@pytest.mark.slow
def test_a_run_that_crashed_is_shown_and_the_other_seeds_are_measured(tiny):
    tiny.edit("methods/tiny/card.yaml", "seeds: 1", "seeds: 3")
    tiny.edit("methods/tiny/run.py", "import time\n", "import os\nimport time\n")
    crash = "        if self.context.seed == 1: os.kill(os.getpid(), 9)\n"
    tiny.edit("methods/tiny/run.py", "        for epoch in", f"{crash}        for epoch in")
    done = tiny.snakemake("--cores", "1")
    assert done.returncode == 1
    assert "2 of 3 seeds are measured at scale demo, 1 failed" in done.stdout
    assert "1 seeds failed; `retable status` says why" in done.stderr
    assert (tiny.folder / "reports/site/index.html").exists()
    assert "seed 1 failed: the run's process was ended by SIGKILL" in tiny.retable("status").stdout


@pytest.mark.slow
def test_a_job_that_reads_the_plan_again_finds_its_bundle_though_other_seeds_are_measured(tiny):
    tiny.edit("methods/tiny/card.yaml", "seeds: 1, cost: seconds", "seeds: 2, cost: seconds, seconds: 60")
    assert plan(tiny).count(": Measuring ") == 2
    (listed,) = (tiny.folder / "results/bundles").glob("*.json")
    before = listed.read_bytes()
    first, second = json.loads(before)["bundles"]
    assert tiny.retable("run", "tiny/numbers", "--seed", "0").returncode == 0
    # As an executor of a cluster calls it.
    target = f"measure:scale=demo,paper=tiny,bundle={second['name']}"
    job = ("--mode", "remote", "--target-jobs", target, "--allowed-rules", "measure")
    done = tiny.snakemake("--cores", "1", "--workflow-profile", "none", "--force", "--no-hooks", "--nolock", *job)
    assert done.returncode == 0, done.stderr
    assert len(tiny.results("seed-1.json")) == 1
    assert (tiny.folder / f"results/bundles/demo/tiny/{second['name']}.json").exists()
    # The head finds the first one measured by hand.
    assert ": Measuring " not in plan(tiny)
    assert (tiny.folder / f"results/bundles/demo/tiny/{first['name']}.json").exists()
    assert listed.read_bytes() == before


def test_the_report_holds_tables_with_captions(measured, tmp_path):
    done = measured.snakemake("--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = archive.namelist()
        page = archive.read(next(name for name in names if name.endswith("report.html"))).decode()
    assert any(name.endswith("tiny_numbers_demo.csv") for name in names)
    assert "Every row of the recipe numbers at the demo scale" in page


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_killed_run_resumes_to_the_same_number(tiny, number):
    tiny.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 1000,")
    tiny.edit("retable/train/context.py", "CHECKPOINT_SECONDS = 20.0", "CHECKPOINT_SECONDS = 0.5")
    undisturbed = type(tiny)(Path(shutil.copytree(tiny.folder, tiny.folder.with_name("undisturbed"))))
    with subprocess.Popen(
        tiny.command("--cores", "1"), cwd=tiny.folder, env=tiny.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((tiny.folder / "results/.state").glob("*/seed-0/state-*.pt")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, number)
    assert not tiny.results("cell.json")
    if number == signal.SIGKILL:
        assert tiny.snakemake("--unlock").returncode == 0
    for checkout in (tiny, undisturbed):
        done = checkout.snakemake("--cores", "1", "--rerun-incomplete", "paper_tiny")
        assert done.returncode == 0, done.stderr
    (record,) = tiny.results("seed-0.json")
    assert json.loads(record.read_text())["cost"]["resumed"] == 1
    assert accuracy(tiny) == accuracy(undisturbed)
