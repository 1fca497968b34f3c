import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from retable.report import figures
from retable.verdicts import assess

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]
SERIES = {"effective_rank/norm": [9.0, 4.0, 1.5], "effective_rank/convolution": [8.0, 3.0, 1.0], "loss": [2.0, 1.0]}


def drawn_world(world, **change):
    for depth in (2, 4):
        world.claim("plain", depth, 81.0)
        world.measure(world.cell("plain", depth=depth), VALUES, series=SERIES, **change)
    world.measure(world.cell("majority"), [30.0] * 5)
    return world


def draw(world, *scales):
    return figures.draw(world.assess(*scales), {"cora": world.dataset})


def test_the_curve_has_ours_the_papers_and_the_controls(world):
    figure = draw(drawn_world(world))[0]
    assert figure.name == "toy_depth_full_cora_by-depth"
    found = {(point["method"], point["by"], point["x"]): point["mean"] for point in figure.data}
    assert found["plain", "measured here", 2] == 80.0
    assert found["plain", "the paper", 4] == 81.0
    assert found["majority", "control", 4] == 30.0
    assert "Dashed: the paper's numbers." in figure.caption


def test_rows_of_a_recipe_without_claims_are_drawn_together(world):
    data = world.paper.model_dump()
    data["recipes"].append(data["recipes"][0] | {"name": "again", "answers": [], "orderings": []})
    world.paper = type(world.paper).model_validate(data)
    cells = world.cells()
    for depth in (2, 4):
        world.claim("plain", depth, 81.0)
    for cell in cells:
        if cell.recipe == "again" and cell.variant != "majority":
            world.measure(cell, VALUES)
    (source,) = world.currency.sources.values()
    currency = replace(world.currency, sources={("toy", recipe): source for recipe in ("depth", "again")})
    drawn = figures.draw(
        assess(world.paper, world.claims, cells, world.records, currency, world.looks), {"cora": world.dataset}
    )
    assert [figure.name for figure in drawn] == ["toy_again_full_cora_by-depth"]
    assert {point["method"] for point in drawn[0].data} == {"plain", "Ours"}


def test_the_papers_numbers_are_not_drawn_at_another_scale(world):
    data = world.paper.model_dump()
    data["recipes"][0]["scales"]["demo"]["axes"] = {"depth": [2, 4]}
    world.paper = type(world.paper).model_validate(data)
    for depth in (2, 4):
        world.claim("plain", depth, 81.0)
        world.measure(world.cell("plain", "demo", depth=depth), [10.0, 11.0])
    (figure,) = draw(world, "demo")
    assert {point["by"] for point in figure.data} == {"measured here"}
    assert "Dashed" not in figure.caption


def test_layers_are_drawn_after_the_normalisation_one_panel_a_depth(world):
    figure = draw(drawn_world(world))[1]
    assert figure.name == "toy_depth_full_cora_effective-rank-norm"
    assert [panel["title"] for panel in figure.spec["hconcat"]] == ["depth 2", "depth 4"]
    assert [p["mean"] for p in figure.data if p["x"] == 4] == [9.0, 4.0, 1.5]
    assert {point["layer"] for point in figure.data} == {1, 2, 3}


def test_without_an_axis_each_row_is_a_point_with_its_spread(world):
    world.measure(world.cell("plain", "demo"), [10.0, 12.0])
    world.measure(world.cell("majority", "demo"), [5.0, 5.0])
    figure = draw(world, "demo")[0]
    assert figure.name == "toy_depth_demo_cora_by-variant"
    found = {point["method"]: (point["low"], point["mean"], point["high"]) for point in figure.data}
    assert found["majority"] == (5.0, 5.0, 5.0)
    assert found["plain, depth=2"] == (11.0 - 2**0.5, 11.0, 11.0 + 2**0.5)
    assert figures.to_svg(figure).startswith("<svg")


def test_a_metric_without_a_unit_has_no_empty_brackets(world):
    titles = []
    for unit in ("%", ""):
        data = world.paper.model_dump()
        data["recipes"][0]["unit"] = unit
        recipe = type(world.paper).model_validate(data).recipes[0]
        titles.append(figures._measure(recipe))
    assert titles[0].endswith(" (%)")
    assert titles[1] == titles[0].removesuffix(" (%)")


def test_rows_without_a_result_are_not_drawn(world):
    assert draw(drawn_world(world, source_sha256="0" * 64)) == []


def test_the_same_records_give_the_same_svg(world):
    drawn_world(world)
    first = [figures.to_svg(figure) for figure in draw(world)]
    again = [figures.to_svg(figure) for figure in draw(world)]
    assert first == again


def test_svg_is_xml_without_script_and_follows_the_dark_setting(world):
    data = world.paper.model_dump()
    data["recipes"][0]["variants"]["plain"]["label"] = "<script>alert('&')</script>"
    world.paper = type(world.paper).model_validate(data)
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), VALUES)
    svg = figures.to_svg(draw(world)[0])
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert "script" not in tags
    assert "prefers-color-scheme: dark" in svg


def with_curve(world, **change):
    data = world.paper.model_dump()
    data["recipes"][0]["curves"] = [
        {"series": "spectrum", "x": "place", "y": "eigenvalue", "caption": "Flat is good."} | change
    ]
    world.paper = type(world.paper).model_validate(data)
    return world


def curves_of(world, *scales):
    return [figure for figure in draw(world, *scales) if figure.labels["figure"] == "series-spectrum"]


def test_a_curve_of_the_card_has_a_line_a_row_with_the_deviation_over_runs(world):
    with_curve(world, at=[0.0, 0.5])
    for value in (1.0, 3.0):
        cell = world.cell("plain", depth=2)
        world.measure(cell, [80.0], first_seed=int(value) // 2, series={"spectrum": [value, 2.0]})
    world.measure(world.cell("plain", depth=4), VALUES, series={"spectrum": [5.0, 4.0]})
    (figure,) = curves_of(world)
    points = {(point["method"], point["x"]): (point["low"], point["mean"], point["high"]) for point in figure.data}
    assert points["plain, depth=2", 0.0] == (2.0 - 2**0.5, 2.0, 2.0 + 2**0.5)
    assert points["plain, depth=2", 0.5] == (2.0, 2.0, 2.0)
    assert points["plain, depth=4", 0.0] == (5.0, 5.0, 5.0)
    assert figure.caption.endswith("Flat is good.")
    assert figures.to_svg(figure).startswith("<svg")


def test_places_of_a_curve_count_from_one_and_a_log_axis_leaves_out_what_it_cannot_show(world):
    with_curve(world, log=True)
    world.measure(world.cell("plain", depth=2), VALUES, series={"spectrum": [5.0, 0.5, 0.0]})
    (figure,) = curves_of(world)
    assert [(point["x"], point["mean"]) for point in figure.data] == [(1, 5.0), (2, 0.5)]
    assert figures.to_svg(figure).startswith("<svg")


def test_a_log_axis_ends_above_rounding_noise(world):
    with_curve(world, log=True)
    world.measure(world.cell("plain", depth=2), VALUES, series={"spectrum": [4.0, 1e-6, 1e-12]})
    world.measure(world.cell("plain", depth=4), VALUES, series={"spectrum": [1e-3, 1e-14]})
    (figure,) = curves_of(world)
    assert [(point["x"], point["mean"]) for point in figure.data] == [(1, 4.0), (2, 1e-6), (1, 1e-3)]


def test_lines_of_one_figure_have_different_colours_while_there_are_any():
    own, count = figures.COLOURS, len(figures.COLOURS)
    assert figures._colours([0, 2, count, 1]) == [own[0], own[2], own[3], own[1]]
    assert figures._colours(range(count + 1)) == [*own, own[0]]


def test_of_too_many_lines_those_at_the_middle_of_the_axis_are_drawn(world):
    with_curve(world)
    data = world.paper.model_dump()
    data["recipes"][0]["scales"]["full"]["axes"] = {"depth": list(range(1, 9))}
    world.paper = type(world.paper).model_validate(data)
    for cell in world.cells():
        world.measure(cell, VALUES, series={"spectrum": [2.0, 1.0]})
    (figure,) = curves_of(world)
    assert {point["method"] for point in figure.data} == {"plain, depth=5", "Ours, depth=5", "majority"}
    assert "depth 5" in figure.caption


def test_a_curve_that_no_record_has_is_not_drawn(world):
    assert curves_of(drawn_world(with_curve(world))) == []
