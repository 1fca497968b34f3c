"""JSON schemas of the files that people write or read, generated from their models into `workflows/schemas/`."""

from pathlib import Path

from pydantic import BaseModel

from retable.cards import Claim, DatasetCard, PaperCard, UnpinnedCard
from retable.config import Config, find_root
from retable.records import RunRecord, to_json, write_atomically
from retable.report.document import VerdictsFile

MODELS: dict[str, type[BaseModel]] = {
    "claim": Claim,
    "config": Config,
    "dataset-card": DatasetCard,
    "paper-card": PaperCard,
    "run-record": RunRecord,
    "unpinned-card": UnpinnedCard,
    "verdicts": VerdictsFile,
}


def schemas() -> dict[str, bytes]:
    """File name -> the bytes that belong in it."""
    return {f"{name}.schema.json": to_json(model.model_json_schema()) for name, model in MODELS.items()}


def write_schemas(folder: Path) -> None:
    """Write every schema below `folder` and remove those that no model stands behind."""
    wanted = schemas()
    for name, data in wanted.items():
        write_atomically(folder / name, data)
    for path in folder.glob("*.schema.json"):
        if path.name not in wanted:
            path.unlink()


if __name__ == "__main__":
    write_schemas(find_root(Path.cwd()) / "workflows" / "schemas")
