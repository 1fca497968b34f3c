"""Files for other tools."""

import csv

import yaml

from retable.cards import load_papers
from retable.report.files import badge, bibtex, citation_cff, write
from retable.report.folder import Folder, drawn
from retable.report.part import Part
from retable.report.render import Renderer

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def written(world, tmp_path):
    world.claim("plain", 2, 80.1)
    world.claim("Other", 2, 60.0)
    world.measure(world.cell("plain", depth=2), VALUES)
    folder, renderer = Folder(tmp_path, drawn(tmp_path / "none")), Renderer()
    write(world.assess("full", "demo"), {"cora": world.dataset}, folder, renderer)
    renderer.finish()
    return tmp_path


def test_verdicts_are_one_table_with_statements_and_orderings(world, tmp_path):
    lines = list(csv.DictReader((written(world, tmp_path) / "tables/toy_verdicts.csv").open(newline="")))
    assert {line["kind"] for line in lines} == {"number", "ordering", "statement"}
    (number,) = (line for line in lines if line["id"] == "t1-cora-plain-2" and line["scale"] == "full")
    assert (number["state"], float(number["measured"])) == ("reproduced", 80.0)
    assert float(number["low"]) < float(number["difference"]) < float(number["high"])
    assert number["command"].startswith("retable run toy/depth --scale full --cell")


def test_a_table_of_the_paper_is_csv_latex_and_markdown(world, tmp_path):
    base = written(world, tmp_path) / "tables"
    (line,) = csv.DictReader((base / "toy_table-t1.csv").open(newline=""))
    assert (line["method"], line["paper"], line["measured"]) == ("plain", "80.10", "80.00 ± 0.08")
    assert "| plain" in (base / "toy_table-t1.md").read_text()
    assert r"80.00 $\pm$ 0.08" in (base / "toy_table-t1.tex").read_text()


def test_bibtex_names_what_the_card_knows(world):
    text = bibtex(world.paper.model_copy(update={"authors": ["Guo", "Du"], "title": "On {Braces}"}))
    assert text.startswith("@inproceedings{toy,\n")
    assert "author = {Guo and Du}" in text
    assert "title = {{On Braces}}" in text
    assert "author" not in bibtex(world.paper)
    assert bibtex(world.paper.model_copy(update={"venue": "arXiv"})).startswith("@misc{toy")


def test_a_badge_counts_statements(world):
    assert "not measured" in badge(world.assess())
    world.measure(world.cell("plain", depth=2), VALUES)
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [90.0, 90.2, 89.9, 90.1, 89.95])
    text = badge(world.assess())
    assert "holds in part 1" in text
    assert text.startswith("<svg xmlns=")


def test_the_checkouts_own_file_is_current(root):
    said = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert said == citation_cff(list(load_papers(root).values()))
    assert all(paper.authors for paper in load_papers(root).values())


def test_citation_cff_names_the_suite_and_every_paper():
    part = Part.model_construct(title="A: B", authors=["Guo"], year=2020, link="https://example.org")
    found = yaml.safe_load(citation_cff([part]))
    assert found["cff-version"] == "1.2.0"
    assert found["references"][0]["authors"] == [{"family-names": "Guo"}]
