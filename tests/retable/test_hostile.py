"""Input that nobody meant: each kind is answered in one line, writes nothing elsewhere and takes no memory.

What is tried at random is in test_fuzz.py; here is a case of each kind that was met.
"""

import json
import resource
from pathlib import Path

import pytest
import yaml

from retable.cards import (
    CardError,
    DatasetCard,
    PaperCard,
    load_claims,
    load_datasets,
    load_paper,
    load_papers,
    load_unpinned,
    read_text,
)
from retable.cli import main
from retable.config import load_config, parse_config
from retable.plan import find_cell, plan
from retable.records import load_own, load_published

ROOT = Path(__file__).resolve().parents[2]
HEAD = (
    "id,paper,table,task,dataset,model,method,setting,metric,unit,mean,std,runs,higher_is_better,evidence,source,reach"
)
ROW = "a,mine,T1,nodes,Cora,GCN,none,depth=2,test accuracy,%,81.5,0.4,5,true,source,Table 1,here"
CLAIMS = f"{HEAD}\n{ROW}\n"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def claims_of(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "claims.csv"
    path.write_bytes(data)
    return path


def one_line(call, *words: str) -> None:
    """`call` raises CardError: one line with all the words."""
    with pytest.raises(CardError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    assert not [word for word in words if word not in said], said


# Text files as people and spreadsheets save them


@pytest.mark.parametrize(
    "data",
    [
        CLAIMS.encode(),
        CLAIMS.encode("utf-8-sig"),
        CLAIMS.replace("\n", "\r\n").encode(),
        CLAIMS.replace("\n", "\r").encode(),
        CLAIMS.rstrip().encode("utf-8-sig"),
    ],
    ids=["plain", "byte-order mark", "Windows", "old Macintosh", "no last newline"],
)
def test_a_text_is_read_however_it_was_saved(tmp_path, data):
    (claim,) = load_claims(claims_of(tmp_path, data))
    assert (claim.id, claim.mean, claim.reach) == ("a", 81.5, "here")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (CLAIMS.encode("utf-16"), ["claims.csv:1:", "UTF-16"]),
        (CLAIMS.replace("Cora", "Córa").encode("latin-1"), ["claims.csv:2:", "not UTF-8"]),
        (CLAIMS.encode().replace(b"Cora", b"Co\0ra"), ["claims.csv:2:", "zero byte"]),
        (CLAIMS.replace(",", ";").replace("81.5", "81,5").encode(), ["claims.csv:1:", "no column 'id'", "by commas"]),
        (CLAIMS.replace("81.5", '"81,5"').encode(), ["claims.csv:2:", "mean"]),
        (CLAIMS.replace("81.5,0.4", "81,5,0,4").encode(), ["claims.csv:2:", "19 cells, but the head has 17"]),
        (CLAIMS.replace(",setting", ",settings").encode(), ["claims.csv:1:", "no column 'setting'"]),
        (CLAIMS.replace(",table,", ",paper,").encode(), ["claims.csv:1:", "table"]),
        (CLAIMS.replace("Table 1", '"Table" 1').encode(), ["claims.csv:2:", "not CSV"]),
        (b"", ["claims.csv:1:", "empty"]),
        (f"{HEAD}\n".encode(), ["claims.csv", "no claims"]),
        (CLAIMS.replace("81.5", "nan").encode(), ["claims.csv:2:", "mean", "finite"]),
        (CLAIMS.replace(",0.4,", ",-0.4,").encode(), ["claims.csv:2:", "std"]),
        (CLAIMS.replace("0.4,5,", "0.4,0,").encode(), ["claims.csv:2:", "runs"]),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else " ".join(value),
)  # fmt: skip
def test_claims_that_cannot_be_used_name_file_line_and_cause(tmp_path, data, words):
    one_line(lambda: load_claims(claims_of(tmp_path, data)), *words)


@pytest.mark.parametrize("data", [b"\xff\xfea", b"a: \xe9\n", b"a: \0\n"])
def test_cards_and_settings_go_through_the_same_reader(tmp_path, data):
    for path, load in (
        (tmp_path / "config.yaml", load_config),
        (tmp_path / "paper" / "card.yaml", load_paper),
        (tmp_path / "datasets" / "unpinned" / "x.yaml", lambda path: load_unpinned(path.parents[2], "x")),
        (tmp_path / "datasets" / "x.yaml", lambda path: load_datasets(path.parents[1])),
    ):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        one_line(lambda load=load, path=path: load(path), f"{path}:1:")


def test_a_card_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "contranorm" / "card.yaml"
    path.parent.mkdir()
    text = (ROOT / "methods/contranorm/card.yaml").read_text(encoding="utf-8")
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_paper(path) == load_paper(ROOT / "methods/contranorm/card.yaml").model_copy(
        update={"recipes": load_paper(path).recipes}
    )


@pytest.mark.parametrize("text", ["[1, 2]", "text", "3", "- papers"])
def test_a_file_of_another_shape_is_told_so(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    one_line(lambda: load_config(path), str(path), "mapping")


def test_a_date_that_is_none_and_a_number_without_a_point_are_told(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("scale: 2020-13-45\n")
    one_line(lambda: load_config(path), str(path), "not YAML")
    assert read_text(path) == "scale: 2020-13-45\n"


# Free text is never a path


def dataset_data() -> dict:
    return yaml.safe_load((ROOT / "datasets/cora.yaml").read_text(encoding="utf-8"))


def small_paper() -> dict:
    return {
        "id": "toy",
        "title": "Toy",
        "venue": "Nowhere",
        "year": 2020,
        "link": "l",
        "code": "c",
        "summary": "s",
        "statements": [{"id": "s", "text": "t", "refuted_by": "r", "scope": "s", "numbers": ["a"]}],
        "tables": {},
        "recipes": [
            {
                "name": "r",
                "title": "R",
                "task": "t",
                "protocol": {"name": "p", "version": 1, "description": "d", "spread": "seeds"},
                "metric": "accuracy",
                "unit": "%",
                "variants": {"v": {"label": "v"}},
                "hyper": {"lr": {"value": 0.1, "source": "ours"}},
                "scales": {
                    "demo": {"datasets": {"digits-knn": "default"}, "axes": {"kind": ["x"]}, "seeds": 1, "cost": "s"}
                },
            }
        ],
    }


ELSEWHERE = ["../x", "/etc/x", "a/../../x", "a//b", ".hidden", "a/.complete/x", "a\\b", "a\nb", "a\0b", "", "é"]


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("place", ["file", "local", "archive"])
def test_a_cards_path_stays_below_the_data_folder(path, place):
    data = dataset_data()
    if place == "file":
        data["files"][0]["path"] = path
    elif place == "local":
        data |= {"files": [], "local": path}
    else:
        data["files"][0] |= {"url": None, "member": "m", "archive": {"url": "https://x.org/a.zip", "path": path}}
    with pytest.raises(ValueError, match="must be relative"):
        DatasetCard.model_validate(data)


@pytest.mark.parametrize(
    "value", ["../../../evil", "a/b", "{scale}", "a\nb", "é" * 300, "a" * 300, "..", "", "%2e%2e/"]
)
def test_an_axis_value_is_a_part_of_no_path(value, tmp_path):
    data = small_paper()
    data["recipes"][0]["scales"]["demo"]["axes"] = {"kind": [value, "other"]}
    paper = PaperCard.model_validate(data)
    first, second = plan({"toy": paper}, load_datasets(ROOT), "demo")
    folder = first.folder(tmp_path)
    assert folder.parent == second.folder(tmp_path).parent
    assert folder.name.isascii()
    assert not set(folder.name) & set("/\\{}\n%")
    assert ".." not in folder.relative_to(tmp_path).parts
    folder.mkdir(parents=True)
    assert first.slug != second.slug


@pytest.mark.parametrize("key", ["../a", "a/b", "{x}", "A b", ""])
def test_an_axis_has_the_name_of_a_setting(key):
    data = small_paper()
    data["recipes"][0]["scales"]["demo"]["axes"] = {key: ["x"]}
    with pytest.raises(ValueError, match="pattern"):
        PaperCard.model_validate(data)


def test_a_papers_id_is_a_modules_name():
    with pytest.raises(ValueError, match="pattern"):
        PaperCard.model_validate(small_paper() | {"id": "a.b"})


@pytest.mark.parametrize("name", ["paper", "recipe", "dataset", "variant", "split"])
def test_a_record_that_names_another_place_is_a_trouble(name, tmp_path):
    (source,) = list((ROOT / "results/published/contranorm").glob("node-depth-full-cora.jsonl"))
    line = source.read_text(encoding="utf-8").splitlines()[0]
    fields = json.loads(line) | {name: "../../../../tmp/evil"}
    published = tmp_path / "published" / "contranorm" / source.name
    published.parent.mkdir(parents=True)
    published.write_text(json.dumps(fields) + "\n")
    own = tmp_path / "full" / "a" / "b" / "c" / "d" / "seed-0.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(fields))
    for loaded in (load_published(tmp_path), load_own(tmp_path)):
        assert not loaded.records
        (trouble,) = loaded.troubles
        assert name in trouble.what
        assert "\n" not in str(trouble)


# An empty selection is no selection of all


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "/"],
        ["run", ""],
        ["run", "contranorm/"],
        ["run", "/node-depth"],
        ["run", "--papers", ""],
        ["run", "--papers", ","],
        ["run", "--recipes", "node-depth,"],
        ["plan", "--datasets", " "],
        ["run", "--cell", ""],
        ["publish", "/"],
        ["campaign", "--papers", "", "--dry-run"],
        ["prove", "", "--base", "HEAD"],
        ["prove", "--datasets", "", "--base", "HEAD"],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_refused_before_anything_runs(arguments, capsys, monkeypatch):
    monkeypatch.setattr("retable.prove.require_clean", lambda *_: "c" * 40)
    monkeypatch.setattr("retable.prove._commit", lambda *_: "d" * 40)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert any(words in error for words in ("names nothing", "selects nothing", "0 planned cells"))


def test_an_empty_list_in_the_settings_is_refused_and_none_is_all():
    assert parse_config({"papers": None}).papers is None
    for value in ([], "", [""], ["contranorm", ""]):
        one_line(lambda value=value: parse_config({"papers": value}), "papers", "selects nothing")
    papers, datasets = load_papers(ROOT), load_datasets(ROOT)
    one_line(lambda: plan(papers, datasets, "demo", []), "nothing to run")
    one_line(lambda: find_cell(plan(papers, datasets, "demo"), ""), "0 planned cells")


# No number from outside sizes an allocation


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--seeds", "100000000"],
        ["run", "--seed", "100000000000"],
        ["run", "--threads", "100000000"],
        ["run", "--threads", "-1"],
        ["run", "--runs-per-gpu", "100000000"],
        ["background", "start", "--jobs", "100000000"],
        ["campaign", "--jobs", "100000000"],
        ["campaign", "--steps", "100000000"],
    ],
    ids=" ".join,
)
def test_a_number_without_measure_is_refused_at_once(arguments, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 10**8}, "less than or equal"),
        ({"seeds": 0}, "greater than or equal"),
        ({"axes": {"epochs": [10**12]}}, "no number of a setting"),
        ({"axes": {"epochs": []}}, "at least 1 item"),
        ({"axes": {"lr": ["1e-3"]}}, "write the number with a point"),
    ],
)
def test_a_card_without_measure_is_refused(change, words):
    data = small_paper()
    data["recipes"][0]["scales"]["demo"] |= change
    with pytest.raises(ValueError, match=words):
        PaperCard.model_validate(data)


def test_a_setting_beyond_measure_is_refused():
    data = small_paper()
    data["recipes"][0]["hyper"]["lr"]["value"] = 10**12
    with pytest.raises(ValueError, match="no number of a setting"):
        PaperCard.model_validate(data)


# A remedy is told only where it is true


def test_the_remedy_of_a_full_disk_is_told_for_a_full_disk_only(monkeypatch, capsys):
    for problem, remedy in (
        (OSError(28, "No space left on device", "/x"), True),
        (PermissionError(13, "no", "/x"), False),
    ):

        def refuse(chosen, problem=problem):
            raise problem

        monkeypatch.setattr("retable.cli._plan", refuse)
        assert main(["plan"]) == 1
        assert ("the same command goes on" in capsys.readouterr().err) is remedy


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupt(chosen):
        raise KeyboardInterrupt

    monkeypatch.setattr("retable.cli._plan", interrupt)
    assert main(["plan"]) == 130
    assert capsys.readouterr().err == "retable: interrupted; the same command goes on\n"


def test_a_slip_on_the_command_line_is_not_blamed_on_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seeds: 3\n")
    one_line(lambda: load_config(path, seeds=0), "command line: seeds")
    path.write_text("seeds: 0\n")
    one_line(lambda: load_config(path, seeds=3), f"{path}: seeds")
