"""What `retable probe` found, `results/probes.jsonl`: a line for each seed, committed like published records."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from retable.cards import CardError, Model, read_text
from retable.records import write_atomically

PROBES = "results/probes.jsonl"


class Probe(Model):
    """Test accuracy in percent of the common probe on one seed's features.

    `cell` is the identity, `value` the run's own headline metric: the line is of the run that has it.
    """

    cell: str
    seed: int
    dataset: str
    value: float
    accuracy: float
    features: int


def read_probes(root: Path) -> list[Probe]:
    """All lines; none where nothing was probed. Raises CardError that names a line that is none."""
    path = root / PROBES
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            found.append(Probe.model_validate_json(line))
        except ValidationError as error:
            what = error.errors()[0]["msg"]
            raise CardError(f"{path}:{number}: no result of a probe ({what}); delete the line") from None
    return found


def write_probes(root: Path, probes: Iterable[Probe]) -> None:
    """Put lines beside those that are there, in the place of those of the same cell and seed, in a stable order."""
    kept = {(probe.cell, probe.seed): probe for probe in [*read_probes(root), *probes]}
    lines = [kept[key].model_dump_json() + "\n" for key in sorted(kept)]
    write_atomically(root / PROBES, "".join(lines).encode())
