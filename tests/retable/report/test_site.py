"""The site as a whole: complete, safe, stable, and usable from disk."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from retable.cards import CardError, PaperCard
from retable.config import Workspace, load_config
from retable.report import build_site, compact
from retable.report.paper import PaperPages, setting_sources
from retable.report.site import build, web_address

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}"
CHROMIUM = Path("/usr/bin/chromium")


class Links(HTMLParser):
    """Tags, addresses and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.loaded, self.ids, self.tags, self.attributes = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.attributes += values
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.addresses.append(values["href"])
        self.loaded += [
            value for key, value in attributes if key in ("src", "srcset") or (tag == "link" and key == "href")
        ]


def measured(world):
    """A world with a result in every state."""
    for depth in (2, 4):
        world.claim("plain", depth, 80.1)
        world.claim("Ours", depth, 85.0)
    world.claim("Other", 2, 60.0)
    world.claim("plain", 2, 79.0, table="third-party X", evidence="second-hand")
    world.measure(world.cell("plain", depth=2), VALUES, series={"loss": [2.0, 1.0], "similarity/norm": [0.1, 0.9]})
    world.measure(world.cell("plain", depth=4), [1.0, 2.0], source_sha256="0" * 64)
    world.measure(world.cell("ours", depth=2, s=0.5), VALUES)
    world.measure(world.cell("ours", depth=2, s=1.0), [70.0] * 5)
    world.measure(world.cell("ours", depth=4, s=1.0), [71.0], state="failed", error="no memory", metrics={})
    world.measure(world.cell("majority"), [30.0] * 5)
    world.measure(world.cell("plain", "demo", depth=2), [12.5, 13.5])
    world.measure(world.cell("plain", depth=2), [81.0], identity="../../evil", variant="gone")
    return world


def with_comparisons(world, source="T1"):
    data = world.paper.model_dump()
    data["recipes"][0]["comparisons"] = [{"reference": "plain", "variants": ["ours", "majority"], "source": source}]
    world.paper = PaperCard.model_validate(data)
    return world


def draw(world, out, results=None):
    cells = {scale: world.cells(scale) for scale in ("full", "demo")}
    claims = {"toy": world.claims}
    datasets = {"cora": world.dataset}
    return build({"toy": world.paper}, claims, datasets, cells, world.records, world.currency, out, results)


def pages(out):
    return {path.relative_to(out).as_posix(): path.read_text() for path in sorted(out.rglob("*.html"))}


def test_every_cell_has_a_page_and_every_link_leads_somewhere(world, tmp_path):
    index = draw(measured(world), tmp_path / "site")
    found = pages(index.parent)
    shared = ["index", "results", "datasets", "search", "troubles", "verdicts", "datasets/cora", "papers/toy"]
    assert set(found) == {f"{name}.html" for name in [*shared, "statements/toy/ours-is-better"]} | {
        f"cells/{cell.identity}.html" for scale in ("full", "demo") for cell in world.cells(scale)
    }
    for name, text in found.items():
        for address in [*(links := Links(text)).addresses, *links.loaded]:
            if re.match(r"https?://|data:", address):
                continue
            file, _, place = address.partition("#")
            target = (index.parent / name).parent / file if file else index.parent / name
            assert target.is_file(), f"{name}: {address}"
            if place:
                assert place in Links(target.read_text()).ids, f"{name}: {address}"


def test_what_all_rows_of_a_data_set_share_stands_above_them(world, tmp_path):
    page = pages(draw(measured(world), tmp_path / "site").parent)["datasets/cora.html"]
    assert 'All of <a href="../papers/toy.html">toy</a>' in page
    ranked = re.search(r"<thead>.*?</thead>", page).group()
    assert "to the best" in ranked
    assert '<th scope="col">method</th>' in ranked
    assert '<th scope="col">paper</th>' not in ranked


def test_nothing_is_loaded_from_elsewhere(world, tmp_path):
    for text in pages(draw(measured(world), tmp_path / "site").parent).values():
        assert not [address for address in Links(text).loaded if re.match(r"https?:|//", address)]
    for path in (tmp_path / "site").rglob("*.*"):
        if path.suffix in (".css", ".js"):
            # The library names its home in comments, and has a method of the name.
            allowed = r"url\(|@import|XMLHttp" + ("" if path.name == "minisearch.js" else r"|https?://|fetch\(")
            assert not re.search(allowed, path.read_text()), path


def test_hostile_text_is_shown_and_never_run(world, tmp_path):
    data = world.paper.model_dump()
    recipe = data["recipes"][0]
    data |= {"title": HOSTILE, "summary": HOSTILE, "venue": HOSTILE, "link": "javascript:alert(1)"}
    data["deviations"] = [{"what": HOSTILE, "paper": HOSTILE, "ours": HOSTILE, "why": HOSTILE}]
    data["tables"]["T1"] = {"title": HOSTILE, "where": HOSTILE, "caption": HOSTILE}
    recipe |= {"title": HOSTILE, "notes": [HOSTILE]}
    recipe["protocol"] |= {"description": HOSTILE, "spread": HOSTILE}
    recipe["variants"]["plain"] |= {"label": HOSTILE, "note": HOSTILE}
    recipe["hyper"]["lr"]["source"] = HOSTILE
    recipe["orderings"][0]["source"] = HOSTILE
    recipe["comparisons"] = [{"reference": "plain", "variants": ["majority", "ours"], "source": HOSTILE}]
    world.paper = PaperCard.model_validate(data)
    world.dataset = world.dataset.model_copy(update={"title": HOSTILE})
    world.claim(
        HOSTILE,
        2,
        80.0,
        source=HOSTILE,
        dataset=HOSTILE,
        setting={"depth": "2", HOSTILE: HOSTILE},
        id="t1-cora-plain-2",
    )
    world.claim(HOSTILE, 4, 80.0, table=f"third-party {HOSTILE}", evidence="second-hand")
    bad = {HOSTILE: HOSTILE}
    world.measure(world.cell("plain", depth=2), VALUES, environment=bad, series={HOSTILE: [1.0, 2.0]})
    world.measure(world.cell("plain", depth=4), VALUES, metrics={HOSTILE: 1.0, "accuracy": 1.0, "val_accuracy": 1.0})
    world.measure(world.cell("majority"), [1.0], state="failed", error=HOSTILE, metrics={})
    out = draw(world, tmp_path / "site").parent
    for name, text in pages(out).items():
        links = Links(text)
        scripts = [values for tag, values in links.tags if tag == "script"]
        assert all(re.fullmatch(r"(\.\./)*static/[a-z]+\.js", values["src"]) for values in scripts), name
        assert not [key for key in links.attributes if key.startswith("on")], name
        assert not [address for address in links.addresses if address.startswith("javascript:")], name
    paper = (out / "papers" / "toy.html").read_text()
    assert "&lt;script&gt;alert(1)" in paper
    assert "{{ 7*7 }}" in paper
    for path in [*(out / "figures").glob("*.svg"), *(out / "badges").glob("*.svg")]:
        assert "<script" not in path.read_text()
    assert "</script" not in (out / "static" / "entries.js").read_text().replace(json.dumps(HOSTILE)[1:-1], "")


def test_records_beside_are_the_records(world, tmp_path):
    out = draw(measured(world), tmp_path / "site").parent
    cell = world.cell("plain", depth=2)
    stored = json.loads((out / "records" / f"{cell.identity}.json").read_text())
    assert compact.expand(stored) == [r.model_dump(mode="json") for r in world.records if r.identity == cell.identity]


def test_the_verdicts_stand_beside_the_pages(world, tmp_path):
    out = draw(measured(world), tmp_path / "site").parent
    stored = json.loads((out / "verdicts.json").read_text())
    assert len(stored["papers"]["toy"]["numbers"]) == len(world.assess("full", "demo").values)


def test_a_records_identity_cannot_leave_the_site(world, tmp_path):
    draw(measured(world), tmp_path / "site")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".site.lock", "site"]
    assert "../../evil" in (tmp_path / "site" / "papers" / "toy.html").read_text()


def test_failed_and_stale_runs_are_shown_with_the_reason_and_without_a_number(world, tmp_path):
    out = draw(measured(world), tmp_path / "site").parent
    paper = (out / "papers" / "toy.html").read_text()
    assert "1 of 1 seeds failed: no memory" in paper
    assert "the code changed since it ran" in paper
    stale = (out / "cells" / f"{world.cell('plain', depth=4).identity}.html").read_text()
    now, _, before = stale.partition('id="before"')
    assert "1.50" not in paper + now
    assert "1.50 ± 0.71" in before


def test_the_page_begins_with_the_abstract_then_numbers_and_coverage(world, tmp_path):
    out = draw(measured(world), tmp_path / "site").parent
    paper = (out / "papers" / "toy.html").read_text()
    assert re.findall(r'<h2 id="([a-z]+)">', paper)[:3] == ["headlines", "claims", "coverage"]
    assert paper.index("Ours is better at any depth.") < paper.index('id="figure"') < paper.index("<table")
    statement = (out / "statements" / "toy" / "ours-is-better.html").read_text()
    assert "Refuted by: Plain is better at some depth. Scope: Cora." in statement
    assert "Of 5 claims: reproduced 1, differs 1, failed 1, stale 1, not covered 1" in paper
    by_reach = (
        "<b>here</b> (a processor answers it), 5 numbers: reproduced 1, differs 1, failed 1, stale 1, not covered 1"
    )
    assert by_reach in paper


def test_contradicted_parts_are_named_and_the_index_counts_statements(world, tmp_path):
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), [80.0, 80.1, 79.9, 80.05, 79.95])
        for s in (0.5, 1.0):
            world.measure(world.cell("ours", depth=depth, s=s), [70.0, 70.2, 69.8, 70.1, 69.9])
    index = draw(world, tmp_path / "site")
    statement = (index.parent / "statements" / "toy" / "ours-is-better.html").read_text()
    assert "parts: 0 of 2 supported, 2 contradicted, 0 undecided" in statement
    rows = re.findall(r'<tr id="depth-ours-over-plain-full-cora-depth-\d" data-state="(\w+)">', statement)
    assert rows == ["contradicted", "contradicted"]
    assert re.search(r"\[−10\.\d\d, −9\.\d\d\]", statement)  # the interval of the difference
    assert re.search(r"reversed</span> <small>0 of 2 parts shown, 2 against", index.read_text())


def test_same_input_same_bytes_and_a_rebuild_leaves_nothing_behind(world, tmp_path):
    first = draw(measured(world), tmp_path / "one").parent
    second = draw(world, tmp_path / "two").parent
    world.records.reverse()
    (second / "cells" / "left.html").write_text("old")
    draw(world, second)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for path in files:
        same = (first / path).read_bytes() == (second / path).read_bytes()
        assert same or path.suffix == ".pdf", path


def test_another_folder_is_never_replaced(world, tmp_path):
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("x")
    with pytest.raises(CardError, match="is not a site that retable drew"):
        draw(world, precious.parent)
    assert precious.exists()


def test_a_site_without_any_record_can_be_drawn(world, tmp_path):
    world.claim("plain", 2, 80.0)
    index = draw(world, tmp_path / "site")
    assert "Nothing is measured yet" in index.read_text()
    assert "retable run --scale demo" in index.read_text()
    assert "the newest of" not in index.read_text()
    assert "not run 1" in (index.parent / "papers" / "toy.html").read_text()


def test_data_sets_without_a_card_are_named_where_a_variant_is_tuned_for_them(world, tmp_path):
    data = world.paper.model_dump()
    scale = next(iter(data["recipes"][0]["scales"].values()))
    scale["user_provided"] = {"pubmed-own": "public"}
    data["recipes"][0]["variants"]["plain"]["by_dataset"] = {"pubmed-own": {"lr": 0.25}}
    world.paper = PaperCard.model_validate(data)
    draw(world, tmp_path / "site")
    assert "pubmed-own: lr = 0.25" in pages(tmp_path / "site")["papers/toy.html"]


def test_pages_carry_what_assistive_technology_needs(world, tmp_path):
    left_pictures(world, tmp_path / "results", world.cell("plain", depth=2))
    out = draw(measured(with_comparisons(world)), tmp_path / "site", tmp_path / "results").parent
    for name, text in pages(out).items():
        tags = Links(text).tags
        assert ("html", {"lang": "en"}) in tags
        count = [tag for tag, _ in tags].count
        assert count("h1") == count("main") == 1, name
        assert count("caption") == count("table"), name
        assert all("scope" in values for tag, values in tags if tag == "th"), name
        assert all(values.get("alt") for tag, values in tags if tag == "img"), name


def test_comparisons_say_what_the_pairs_are_and_what_they_show(world, tmp_path):
    paper = (draw(measured(with_comparisons(world)), tmp_path / "site").parent / "papers" / "toy.html").read_text()
    part = paper[paper.index('id="comparisons"') :]
    part = part[: part.index("</section>")]
    assert "seeds of Cora; 0 above, 0 below, 5 equal; 1 of 2 places not measured" in part
    assert "seeds of Cora; 0 above, 5 below; 1 of 2 places not measured" in part
    assert "all on one side give p = 0.125" in part
    assert "Against “plain”, full scale: no difference shown on 1 data set: “Ours”; too few pairs" in paper
    assert "too few pairs to tell on 1 data set: “majority”." in paper


def test_comparisons_without_a_common_place_are_only_counted(world, tmp_path):
    measured(with_comparisons(world))
    world.records = [record for record in world.records if record.variant != "ours"]
    paper = (draw(world, tmp_path / "site").parent / "papers" / "toy.html").read_text()
    part = paper[paper.index('id="comparisons"') :]
    part = part[: part.index("</section>")]
    assert "At full scale 1 comparison has no place where both are measured on the same kind of device." in part
    assert "Ours" not in part


def left_pictures(world, folder, cell, caption="A cat.", seed=0):
    place = cell.folder(folder)
    place.mkdir(parents=True)
    Image.new("RGB", (6, 4), "red").save(place / f"seed-{seed}.rebuilt.png")
    entry = {"name": "rebuilt", "caption": caption, "width": 6, "height": 4}
    stray = entry | {"name": "../rebuilt"}
    (place / f"seed-{seed}.pictures.jsonl").write_text(f"{json.dumps(entry)}\n{json.dumps(stray)}\n")
    return place / f"seed-{seed}.rebuilt.png"


def test_pictures_of_the_first_measured_seed_are_on_both_pages_and_of_no_stale_run(world, tmp_path):
    measured(world)
    fine, stale = world.cell("plain", depth=2), world.cell("plain", depth=4)
    source = left_pictures(world, tmp_path / "results", fine, HOSTILE)
    left_pictures(world, tmp_path / "results", stale)
    out = draw(world, tmp_path / "site", tmp_path / "results").parent
    (copied,) = (out / "pictures").iterdir()
    assert copied.read_bytes() == source.read_bytes()
    for name in (f"cells/{fine.identity}.html", "papers/toy.html"):
        links = Links((out / name).read_text())
        (picture,) = [values for tag, values in links.tags if tag == "img" and "picture" in values.get("class", "")]
        assert picture["src"] == f"../pictures/{copied.name}"
        assert picture["alt"] == HOSTILE
        assert "&lt;script&gt;alert(1)" in (out / name).read_text()
    assert 'id="pictures"' not in (out / "cells" / f"{stale.identity}.html").read_text()


def test_a_listed_picture_that_is_gone_is_no_error(world, tmp_path):
    left_pictures(world, tmp_path / "results", world.cell("plain", depth=2)).unlink()
    paper = draw(measured(world), tmp_path / "site", tmp_path / "results").parent / "papers" / "toy.html"
    assert 'id="pictures"' not in paper.read_text()


def test_settings_name_their_source(world):
    recipe = world.paper.recipes[0]
    sources = {key: source for key, _, source in setting_sources(recipe, world.cell("ours", depth=2, s=1.0))}
    assert sources == {"lr": "Section 4", "depth": "the grid", "s": "candidate, chosen by val_accuracy"}
    plain = {key: source for key, _, source in setting_sources(recipe, world.cell("plain", depth=2))}
    assert plain["s"] == "the variant “plain”"


def test_only_web_addresses_become_links():
    assert web_address("https://example.org") == "https://example.org"
    assert web_address("javascript:alert(1)") == "#"


def test_only_what_changed_is_drawn_again_and_nothing_where_nothing_did(root, tmp_path, monkeypatch):
    """A checkout with two papers, of which one gets another published record."""
    for name in ("retable", "datasets"):
        (tmp_path / name).symlink_to(root / name)
    published = tmp_path / "results" / "published" / "umae"
    published.mkdir(parents=True)
    for name in ("umae", "tricl"):
        shutil.copytree(root / "methods" / name, tmp_path / "methods" / name)
    source = next((root / "results" / "published" / "umae").glob("*.jsonl"))
    lines = source.read_text().splitlines(keepends=True)
    (published / source.name).write_text("".join(lines[:-1]))
    monkeypatch.setattr("retable.config.require_running", lambda root: None)
    workspace, out = Workspace(tmp_path, load_config(tmp_path / "none")), tmp_path / "site"
    drawn = []
    draw_paper = PaperPages.draw
    monkeypatch.setattr(PaperPages, "draw", lambda pages: [drawn.append(pages.subject.paper.id), draw_paper(pages)][1])
    build_site(workspace, out)
    assert drawn == ["tricl", "umae"]
    before = (out / "index.html").stat().st_mtime_ns
    build_site(workspace, out)
    assert (drawn, (out / "index.html").stat().st_mtime_ns) == (["tricl", "umae"], before)
    record = json.loads(lines[-1])
    absent = json.dumps(record | {"metrics": dict.fromkeys(record["metrics"], float("nan"))})
    newer = json.dumps(record | {"schema_version": 2})
    (published / source.name).write_text("".join([*lines[:-1], f"no record\n{absent}\n{newer}\n"]))
    build_site(workspace, out)
    assert drawn[2:] == ["umae"]
    troubles = (out / "troubles.html").read_text()
    assert troubles.count("not a run record") == 3
    assert "metrics." in troubles
    assert "schema_version" in troubles
    assert "3 records cannot be used" in (out / "index.html").read_text()
    (published / source.name).write_text("".join(lines))
    (out / "papers" / "tricl.html").unlink()
    build_site(workspace, out)
    assert drawn[3:] == ["tricl", "umae"]
    fresh = build_site(workspace, tmp_path / "fresh").parent
    for path in sorted(fresh.rglob("*")):
        if path.is_file():
            same = path.read_bytes() == (out / path.relative_to(fresh)).read_bytes()
            assert same or path.suffix == ".pdf", path


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"]  # fmt: skip
    with api.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield launched
        launched.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_from_disk_and_keep_to_the_screen(world, tmp_path, browser, width):
    left_pictures(world, tmp_path / "results", world.cell("plain", depth=2))
    out = draw(measured(with_comparisons(world)), tmp_path / "site", tmp_path / "results").parent
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in pages(out):
        page.goto((out / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert not errors
    assert all(url.startswith((out.as_uri(), "data:")) for url in asked)
    page.close()


@pytest.mark.browser
def test_tables_sort_and_filter(world, tmp_path, browser):
    page = browser.new_page()
    page.goto((draw(measured(world), tmp_path / "site").parent / "results.html").as_uri())
    table = page.locator("table[data-filter=full]")
    measured_cells = table.locator("tbody tr td:nth-child(5)")
    button = table.get_by_role("button", name="measured")
    button.click()
    assert measured_cells.first.inner_text().startswith("30.00")
    button.click()
    assert measured_cells.first.inner_text().startswith("80.00")
    assert measured_cells.last.inner_text() == "–"
    page.get_by_label("Filter rows by verdict").first.select_option("failed")
    assert table.locator("tbody tr:visible").count() == 1
    page.get_by_label("Filter rows by verdict").first.select_option("")
    page.get_by_label("Filter rows by words").first.fill("OTHER cora")
    assert table.locator("tbody tr:visible").count() == 1
    page.close()


def opened(browser, path, **options):
    page = browser.new_page(**options)
    page.goto(path if isinstance(path, str) else path.as_uri())
    return page


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding_of_axe(world, tmp_path, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    left_pictures(world, tmp_path / "results", world.cell("plain", depth=2))
    out = draw(measured(with_comparisons(world)), tmp_path / "site", tmp_path / "results").parent
    names = [name for name in pages(out) if not name.startswith("cells/")]
    for name in [*names, f"cells/{world.cell('plain', depth=2).identity}.html"]:
        page = opened(browser, out / name, color_scheme=scheme)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        found = axe.run(page).response["violations"]
        serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, (name, [node["html"] for each in found for node in each["nodes"]][:3])
        page.close()


@pytest.mark.browser
def test_a_view_is_kept_in_the_address(world, tmp_path, browser):
    out = draw(measured(world), tmp_path / "site").parent
    page = opened(browser, out / "results.html")
    table = page.locator("table[data-filter=full]")
    page.get_by_label("Filter rows by words").first.fill("cora plain")
    table.get_by_role("button", name="measured").click()
    address, seen = page.url, table.locator("tbody tr:visible").all_inner_texts()
    assert "#?" in address
    again = opened(browser, address)
    assert again.locator("table[data-filter=full] tbody tr:visible").all_inner_texts() == seen
    assert 0 < len(seen) < table.locator("tbody tr").count()
    assert again.locator("th[aria-sort=ascending]").count() == 1
    page.close()
    again.close()


@pytest.mark.browser
def test_rows_that_are_chosen_are_compared_and_the_choice_is_kept(world, tmp_path, browser):
    out = draw(measured(world), tmp_path / "site").parent
    page = opened(browser, out / "datasets" / "cora.html")
    boxes = page.locator("table[data-select] input.pick")
    assert boxes.count() == 3
    for box in (boxes.nth(0), boxes.nth(2)):
        box.check()
    pairs = page.locator("table.pairs").first
    assert pairs.is_visible()
    again = opened(browser, page.url)
    assert again.locator("input.pick:checked").count() == 2
    assert "+50.00" in again.locator("table.pairs").first.inner_text()
    page.close()
    again.close()


@pytest.mark.browser
def test_search_finds_a_claim_and_its_address_opens_what_is_folded(world, tmp_path, browser):
    out = draw(measured(world), tmp_path / "site").parent
    page = opened(browser, out / "search.html")
    page.get_by_role("searchbox").fill("other 60")
    link = page.locator("#hits a", has_text="Other").first
    page.wait_for_url("**other**", timeout=10_000)
    address = page.url
    link.click()
    assert "papers/toy.html#claim-" in page.url
    page.locator("tr:target").wait_for(state="visible", timeout=10_000)
    opened(browser, address).locator("#hits a").first.wait_for(timeout=10_000)
    page.close()


@pytest.mark.browser
def test_a_long_table_has_pages_and_an_address_leads_to_the_right_one(world, tmp_path, browser):
    for number in range(230):
        world.claim(f"m{number}", 2, 60.0)
    out = draw(world, tmp_path / "site").parent
    page = opened(browser, out / "results.html")
    rows = page.locator("table[data-filter=full] tbody tr:visible")
    assert rows.count() == 100
    page.get_by_role("button", name="Next page").click()
    page.get_by_role("button", name="Next page").click()
    assert rows.count() < 100
    claim = opened(browser, f"{(out / 'papers' / 'toy.html').as_uri()}#claim-t1-cora-m222-2")
    assert claim.locator("tr:target").is_visible()
    page.close()
    claim.close()


@pytest.mark.browser
def test_tables_stand_without_script(world, tmp_path, browser):
    out = draw(measured(world), tmp_path / "site").parent
    page = opened(browser, out / "results.html", java_script_enabled=False)
    assert page.locator("table[data-filter=full] tbody tr").count() > 5
    assert "80.00" in page.inner_text("main")
    page.goto((out / "datasets" / "cora.html").as_uri())
    assert "95 % interval" in page.inner_text("main")
    page.close()


@pytest.mark.browser
def test_two_clicks_lead_to_the_evidence_for_contranorm_at_depth_32_on_cora(browser, root, tmp_path):
    workspace = Workspace(root, load_config(root / "config" / "config.yaml"))
    index = build_site(workspace, tmp_path / "site")
    assert index.stat().st_size < 300_000
    page = opened(browser, index, viewport={"width": 1400, "height": 900})
    page.get_by_role(
        "link", name="From four layers on, a GCN with ContraNorm is more accurate than one without."
    ).click()
    row = page.locator("tr#node-depth-contranorm-over-none-full-cora-depth-32")
    assert "Cora" in row.inner_text()
    text = row.inner_text()
    assert re.search(r"not measured, (about [\d.,]+ (processor|GPU)-hours|time not known)", text) or re.search(
        r"\[[+−][\d.]+, ", text
    )
    row.get_by_role("link", name="ContraNorm").click()
    assert "ContraNorm on Cora" in page.inner_text("h1")
    assert "retable run contranorm/node-depth --scale full --cell" in page.inner_text("main")
    paper = opened(browser, index.parent / "papers" / "contranorm.html", viewport={"width": 1400, "height": 900})
    for place in (".said li:last-child", "#figure img"):
        box = paper.locator(place).bounding_box()
        assert box["y"] + box["height"] <= 900, place
    page.close()
    paper.close()
