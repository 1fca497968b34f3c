"""The pages of one paper: statements, cells, what was before, and what is taken over."""

import re

import pytest

from retable.cards import PaperCard
from retable.looks import Looks
from retable.report.folder import new_site
from retable.report.paper import MOST_RUNS, Subject
from retable.report.site import Drawing

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def draw(world, out, base="", **change):
    cells = [cell for scale in ("full", "demo") for cell in world.cells(scale)]
    subject = Subject(world.paper, world.claims, cells, world.records, **change)
    with new_site(out) as folder:
        drawing = Drawing(folder, {"cora": world.dataset}, world.currency, world.looks, None)
        drawing.draw(subject, base)
        drawing.shared([])
    return drawing.parts["toy"]


def page(out, cell):
    return (out / "cells" / f"{cell.identity}.html").read_text()


def test_a_statement_has_a_page_with_its_parts_at_permanent_addresses(world, tmp_path):
    world.measure(world.cell("plain", depth=2), VALUES)
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [90.0, 90.2, 89.9, 90.1, 89.95])
    draw(world, tmp_path / "site")
    text = (tmp_path / "site" / "statements" / "toy" / "ours-is-better.html").read_text()
    shown, lacking = re.findall(r'<tr id="([\w-]+)" data-state="(\w+)">(.*?)</tr>', text, re.S)[:2]
    assert shown[:2] == ("depth-ours-over-plain-full-cora-depth-2", "supported")
    assert "+10.03" in shown[2]
    assert re.search(r"\[\+9\.\d\d, \+10\.\d\d\]", shown[2])
    assert lacking[1] == "open"
    assert "not measured, about" in lacking[2]
    assert "retable run toy/depth --scale full --cell" in re.sub("<.*?>", "", lacking[2])
    assert "<span>retable run toy/depth</span> <span>--scale full</span> <span>--cell" in lacking[2]


def test_a_cell_says_what_its_number_was_before(world, tmp_path):
    cell = world.cell("plain", depth=2)
    world.measure(cell, VALUES)
    own = list(world.records)
    replaced = [record.model_copy(update={"metrics": {"accuracy": 70.0}}) for record in own]
    world.measure(world.cell("plain", depth=4), [60.0, 61.0], source_sha256="0" * 64)
    other = world.measure(cell, [50.0], identity="f" * 12, protocol="last v0")
    draw(world, tmp_path / "site", replaced=replaced)
    before = page(tmp_path / "site", cell).partition('id="before"')[2].partition("</section>")[0]
    assert "published; yours stands for it" in before
    assert "70.00 ± 0.00" in before
    assert "by an earlier protocol or setting (last v0)" in before
    assert other[0].identity in before
    stale = page(tmp_path / "site", world.cell("plain", depth=4)).partition('id="before"')[2]
    assert "the code changed since it ran" in stale
    assert "60.50" in stale
    assert 'id="before"' not in page(tmp_path / "site", world.cell("majority"))


def test_many_runs_are_told_in_groups_and_all_stand_in_the_file(world, tmp_path):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [80.0 + seed / 100 for seed in range(60)], series={"loss": [2.0, 1.0]})
    assert MOST_RUNS < 60
    draw(world, tmp_path / "site")
    text = page(tmp_path / "site", cell)
    assert "0–59" in text
    assert "seed 30" not in text
    assert text.count("<polyline") == 3
    assert '"runs":60' in (tmp_path / "site" / "records" / f"{cell.identity}.json").read_text()


def test_a_cell_whose_records_and_verdicts_are_the_same_is_taken_over(world, tmp_path):
    first, second = world.cell("plain", depth=2), world.cell("majority")
    world.measure(first, VALUES)
    world.measure(second, VALUES)
    draw(world, tmp_path / "site", "base")
    path = tmp_path / "site" / "cells" / f"{second.identity}.html"
    path.write_text("kept")
    world.records = [r.model_copy(update={"metrics": {"accuracy": 1.0}}) if r.identity == first.identity else r
                     for r in world.records]  # fmt: skip
    draw(world, tmp_path / "site", "base")
    assert path.read_text() == "kept"
    assert "1.00 ± 0.00" in page(tmp_path / "site", first)
    draw(world, tmp_path / "site", "another base")
    assert path.read_text() != "kept"


@pytest.mark.parametrize("long", ["x" * 10_000, "wörter " * 1500])
def test_ten_thousand_letters_neither_break_a_page_nor_a_picture(world, tmp_path, long):
    data = world.paper.model_dump()
    data["recipes"][0]["variants"]["plain"]["label"] = long
    world.paper = PaperCard.model_validate(data)
    world.claim(long, 2, 80.0, id="t1-cora-plain-2")
    world.claim("x", 4, 80.0, id="t1-cora-plain-4")
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), VALUES)
    part = draw(world, tmp_path / "site")
    assert long.strip()[:100] in page(tmp_path / "site", world.cell("plain", depth=2))
    assert part.entries


def test_what_all_papers_need_says_state_interval_and_hours(world, tmp_path):
    world.measure(world.cell("plain", depth=2), VALUES)
    part = draw(world, tmp_path / "site")
    (measured,) = (row for row in part.rows if row.mean is not None)
    assert (measured.low < 80.0 < measured.high, measured.hours, len(measured.seeds)) == (True, None, 5)
    assert all(row.hours for row in part.rows if row.mean is None and row.scale == "full")
    assert {entry.kind for entry in part.entries} == {"paper", "statement", "method"}


def test_nothing_measured_is_a_page_that_says_so(world, tmp_path):
    draw(world, tmp_path / "site")
    text = (tmp_path / "site" / "papers" / "toy.html").read_text()
    assert "Nothing current is measured" in text
    assert Looks() == Looks({})
