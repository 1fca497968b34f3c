import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retable.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def without_results(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout's code and cards in another folder, the current one: what was measured here is not there."""
    for name in ("methods", "datasets", "retable", "Snakefile"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("scale: demo\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plan_lists_cells(capsys: pytest.CaptureFixture) -> None:
    assert main(["plan", "--scale", "demo", "--papers", "contranorm", "--recipes", "node-depth"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert "contranorm/node-depth  digits-knn  contranorm  depth=8 norm_scale=1.0  x3" in lines[7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "--scale", "big"], "unknown scale 'big'"),
        (["plan", "--papers", "contranrom"], "did you mean 'contranorm'?"),
        (["run", "contranorm/nodes"], "unknown recipe 'nodes'"),
        (["run", "contranorm", "--cell", "zz"], "0 planned cells"),
        (["data", "check", "korea"], "unknown data set 'korea'"),
        (["plan", "--seeds", "0"], "seeds: needs at least 1"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_outside_of_a_checkout_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan"]) == 2
    assert "not inside a retable checkout" in capsys.readouterr().err


def test_an_unknown_config_key_is_named_with_the_valid_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("methods", "datasets", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("sclae: demo\n")
    monkeypatch.chdir(tmp_path)
    assert main(["plan"]) == 2
    error = capsys.readouterr().err
    assert "unknown key 'sclae'; did you mean 'scale'?" in error


def test_data_list_names_state_and_licence(capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "list", "digits-knn", "cora"]) == 0
    out = capsys.readouterr().out
    assert "digits-knn" in out
    assert "licence:" in out


@pytest.mark.parametrize(
    "arguments", [["contranrom"], ["contranorm/node-dept"], ["--cell", "zz"], ["--seed", "-1"], ["--scale", "ful"]]
)
def test_a_slip_of_run_is_answered_before_torch_is_imported(root: Path, arguments: list[str]) -> None:
    code = "import sys; from retable.cli import main; print(main(['run', *sys.argv[1:]]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr.startswith("retable: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("config", "mode"), [("", "offline"), ("wandb: {mode: disabled}\n", "disabled")])
def test_wandb_by_hand_replays_offline_unless_the_config_says_otherwise(
    config: str, mode: str, without_results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (without_results / "config" / "config.yaml").write_text(f"scale: demo\n{config}")
    monkeypatch.setattr("retable.wandb_sink.replay", lambda workspace: 0)
    assert main(["wandb"]) == 0
    assert capsys.readouterr().out == f"0 runs replayed, mode {mode}\n"


@pytest.mark.parametrize("command", ["plan", "status", "verify", "estimate"])
@pytest.mark.usefixtures("without_results")
def test_json_is_for_programs(command: str, capsys: pytest.CaptureFixture) -> None:
    status = main([command, "--json", "--scale", "demo", "--papers", "contranorm", "--recipes", "node-depth"])
    found = json.loads(capsys.readouterr().out)
    if command == "plan":
        assert (status, len(found)) == (0, 10)
        assert {"identity", "settings", "axes", "seeds", "command"} <= set(found[0])
    elif command == "status":
        assert (status, len(found)) == (0, 10)
        assert set(found[0]["seeds"]["0"]) == {"state", "reason"}
    elif command == "verify":
        assert found["good"] is (status == 0)
        assert sum(found["measured"].values()) == 30
    else:
        assert found["total"]["seeds"] == sum(row["seeds"] for row in found["recipes"]) == 30
        assert found["data"][0]["name"] == "digits-knn"
