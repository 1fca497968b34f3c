"""`retable new`: a paper's or a data set's folder that runs at once and says at each place what to fill in."""

import shutil
from pathlib import Path

import yaml

from retable.cards import CardError, DatasetCard, load_datasets, load_papers, refuse_filled
from retable.homes import PACKAGE, home

TEMPLATES = PACKAGE / "templates"
MARK = "FILL IN"
# What Snakemake needs of the suite beside the installed package.
WORKSPACE = ("Snakefile", "config", "profiles", "workflows")
IGNORED = (".snakemake/", "__pycache__/", ".check/", "datasets/raw/", "logs/", "reports/", "results/", "wandb/")


def new_paper(folder: Path) -> list[Path]:
    """Write the folder of a paper whose id is the folder's name; returns its files. Raises CardError, and then writes
    nothing, for a name that is no id or is taken, and for a folder that is there.
    """
    name = _free(folder, "paper", load_papers(home()))
    return _write(folder, name, TEMPLATES / "paper")


def new_dataset(folder: Path) -> list[Path]:
    """The same for a data set: its card, with the hashes of what its reader gives, and the reader."""
    from retable.data.pin import pin
    from retable.outside import teach_readers

    name = _free(folder, "data set", load_datasets(home()))
    written = _write(folder, name, TEMPLATES / "dataset")
    card, reader = folder / "datasets" / f"{name}.yaml", folder / "datasets" / f"{name}_reader.py"
    (folder / "datasets" / "card.yaml").rename(card)
    (folder / "datasets" / "reader.py").rename(reader)
    teach_readers({str(reader): reader})
    facts = yaml.safe_load(card.read_text(encoding="utf-8")) | {"reader": str(reader)}
    unpinned = DatasetCard.model_validate(facts | {"counts": {}, "content_sha256": "0" * 64, "splits": {}})
    with card.open("a", encoding="utf-8") as file:
        file.write(pin(unpinned, folder).replace("note: ''", f'note: "{MARK}: how it is divided"'))
    moved = {folder / "datasets" / "card.yaml": card, folder / "datasets" / "reader.py": reader}
    return [moved.get(path, path) for path in written]


def lay_out(folder: Path) -> list[Path]:
    """`retable init`: the folder of runs without a clone: workflow, configuration, and where papers of yours go. The
    suite's papers and data cards are read where it is installed. Raises CardError for a folder that is not empty.
    """
    refuse_filled(folder)
    for name in WORKSPACE:
        source = home() / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for name in ("papers", "datasets"):
        (folder / name).mkdir()
    (folder / ".gitignore").write_text("".join(f"{line}\n" for line in IGNORED), encoding="utf-8")
    return [folder / name for name in (*WORKSPACE, "papers", "datasets")]


def places_to_fill(folder: Path) -> list[str]:
    """`file:line` of each place that still says what to fill in."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".csv", ".md", ".py")):
        if ".check" not in path.relative_to(folder).parts:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if MARK in line:
                    found.append(f"{path.relative_to(folder)}:{number}")
    return found


def _free(folder: Path, kind: str, taken: dict) -> str:
    name = folder.name
    if not (name.isidentifier() and name.isascii() and name == name.lower()) or name.startswith("_"):
        raise CardError(f"{name!r} cannot be the id of a {kind}: lower-case letters, digits and `_`, a letter first")
    if name in taken:
        raise CardError(f"there is a {kind} {name!r} already; choose another id")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CardError(f"{folder} is there already, and not empty; choose another place, or take it away")
    return name


def _write(folder: Path, name: str, template: Path) -> list[Path]:
    written = []
    for source in sorted(path for path in template.rglob("*") if path.is_file()):
        path = folder / source.relative_to(template)
        # Code is kept as text, so that no tool takes a template for a module.
        path = path.with_name(".gitignore") if source.name == "gitignore.txt" else path
        path = path.with_suffix("") if path.name.endswith(".py.txt") else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.read_text(encoding="utf-8").replace("@ID@", name), encoding="utf-8")
        written.append(path)
    return written
