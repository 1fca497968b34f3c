from pathlib import Path

import pytest

from retable.cards import CardError
from retable.config import Workspace, load_config, parse_config


def test_names_may_be_lists_or_comma_separated_text() -> None:
    assert parse_config({"papers": "contranorm, gcl"}).papers == ["contranorm", "gcl"]
    assert parse_config({"papers": ["contranorm"]}).papers == ["contranorm"]


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("scale: full\nseeds: 2\n")
    config = load_config(path, scale="demo", papers=None)
    assert (config.scale, config.seeds, config.papers) == ("demo", 2, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": "huge"}, "unknown scale 'huge'"),
        ({"paper": "x"}, "unknown key 'paper'; did you mean 'papers'?"),
        ({"seeds": "many"}, "seeds"),
        ({"wandb": {"mode": "on"}}, "wandb.mode"),
    ],
)
def test_what_cannot_be_used_gets_one_line(values: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_config(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_mirror_of_the_config_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETABLE_MIRROR", "/from/environment")
    assert Workspace(tmp_path, parse_config({})).mirror == "/from/environment"
    assert Workspace(tmp_path, parse_config({"mirror": "/from/config"})).mirror == "/from/config"


def test_a_mac_s_gpu_gets_a_clear_answer() -> None:
    with pytest.raises(CardError, match=r"device: mps is not supported: .* use cpu"):
        parse_config({"device": "mps"})
