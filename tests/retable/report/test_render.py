"""Figures and tables in a process of their own."""

import pytest

from retable.report.render import FEW, Renderer, latex

SPEC = {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a", "type": "quantitative"}}}
TABLE = {"columns": ["a_b", "c"], "lines": [["50 %", "x|y"], ["−1 ± 2", "<b>"]], "caption": "A & B", "label": "tab:a"}


@pytest.mark.parametrize("count", [1, FEW + 2])
def test_all_files_are_there_in_the_end_and_equal_however_many_they_are(tmp_path, count):
    renderer = Renderer()
    for number in range(count):
        renderer.ask(tmp_path / f"{number}.svg", spec=SPEC)
        renderer.ask(tmp_path / f"table-{number}", **TABLE)
    renderer.finish()
    svgs = {(tmp_path / f"{number}.svg").read_text() for number in range(count)}
    assert len(svgs) == 1
    assert svgs.pop().startswith("<svg")
    assert (tmp_path / "0.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "table-0.csv").read_text() == "a_b,c\n50 %,x|y\n−1 ± 2,<b>\n"
    assert r"x\|y" in (tmp_path / "table-0.md").read_text()
    tex = (tmp_path / "table-0.tex").read_text()
    assert all(text in tex for text in (r"a\_b", r"50 \%", r"$-$1 $\pm$ 2", r"\caption{A \& B}", r"\toprule"))


def test_a_failure_is_one_line(tmp_path):
    renderer = Renderer()
    for number in range(FEW + 1):
        renderer.ask(tmp_path / f"{number}.svg", spec={"mark": "no such mark"})
    with pytest.raises(OSError, match="drawing figures and tables failed: "):
        renderer.finish()


def test_latex_keeps_what_it_would_read_otherwise():
    assert latex("a_b & 5 % {x} \\") == r"a\_b \& 5 \% \{x\} \textbackslash{}"


def test_too_few_addresses_for_figures_are_said_before_anything_is_drawn(monkeypatch):
    monkeypatch.setattr("retable.report.render.resource.getrlimit", lambda kind: (8 * 10**9, -1))
    with pytest.raises(OSError, match="ulimit -v is 8 GB: figures cannot be drawn here"):
        Renderer()
