"""How long a row that is not measured would take, from what its like took, or from its card."""

from collections import defaultdict
from collections.abc import Iterable

from retable.rows import Row
from retable.significance import average


class Hours:
    """Hours of rows, from the runs of rows of the same recipe, scale and data set, or of any data set."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for row in rows:
            for record in row.records:
                where = (row.recipe.name, row.scale)
                self._seconds[where].append(record.device_seconds)
                self._seconds[*where, row.dataset].append(record.device_seconds)

    def of(self, row: Row) -> float | None:
        """Hours of a processor, or of a GPU where such runs were on one, for all planned seeds; None if not known."""
        where = (row.recipe.name, row.scale)
        took = self._seconds.get((*where, row.dataset)) or self._seconds.get(where)
        plan = row.recipe.scales[row.scale]
        each = average(took) if took else plan.seconds
        return None if each is None else each * sum(len(cell.seeds) for cell in row.cells) / 3600
