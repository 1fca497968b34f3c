from pathlib import Path

import pytest

from retable.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_plan_lists_cells(capsys: pytest.CaptureFixture) -> None:
    assert main(["plan", "--scale", "demo", "--papers", "contranorm", "--recipes", "node-depth"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert "contranorm/node-depth  digits-knn  contranorm  depth=8 norm_scale=1.0  x3" in lines[9]


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
