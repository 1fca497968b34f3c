import tomllib
from pathlib import Path

import pytest

from retable import extras
from retable.cli import main


@pytest.fixture(autouse=True)
def metadata(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installation of this checkout would say."""
    groups = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [f'{text}; extra == "{extra}"' for extra, texts in groups.items() for text in texts]
    monkeypatch.setattr(extras, "requires", lambda name: ["torch>=2.9", *lines])


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("scipy.stats", "run"),
        ("PIL", "run"),
        ("vl_convert", "report"),
        ("torch_geometric", "graphs"),
        ("wandb", "wandb"),
    ],
)
def test_a_missing_package_names_its_extra(module: str, extra: str) -> None:
    said = extras.remedy(ModuleNotFoundError("no", name=module))
    assert f"pip install 'retable[{extra}]'" in said


def test_a_module_of_nobody_is_not_explained() -> None:
    assert extras.remedy(ModuleNotFoundError("no", name="methods.lost")) is None


def test_the_command_line_says_it_in_a_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(*arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")

    monkeypatch.chdir(root)
    monkeypatch.setattr("retable.cli._report", missing)
    assert main(["report"]) == 2
    assert capsys.readouterr().err == (
        "retable: jinja2 is not installed: pip install 'retable[report]' (or the extra `all`)\n"
    )
