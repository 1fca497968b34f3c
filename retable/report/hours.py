"""How long a row that is not measured would take, from what its like took, or from its card."""

from collections import defaultdict
from collections.abc import Iterable

from retable.preflight import GPU_RATE, counted_operations
from retable.rows import Row
from retable.significance import average


class Hours:
    """Hours of rows, from the runs of rows of the same recipe, scale and data set, or of any data set."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._means: dict[tuple[str, ...], float | None] = {}
        for row in rows:
            for record in row.records:
                where = (row.recipe.name, row.scale)
                self._seconds[where].append(record.device_seconds)
                self._seconds[*where, row.dataset].append(record.device_seconds)

    def _mean(self, *where: str) -> float | None:
        if where not in self._means:
            self._means[where] = average(self._seconds[where]) if where in self._seconds else None
        return self._means[where]

    def of(self, row: Row) -> float | None:
        """Hours for all planned seeds: of a processor, or of a GPU where such runs were on one or where only the card
        tells, by its count of operations. None if nothing tells.
        """
        where = (row.recipe.name, row.scale)
        took = self._mean(*where, row.dataset) or self._mean(*where)
        seeds = sum(len(cell.seeds) for cell in row.cells)
        if each := took or row.recipe.scales[row.scale].seconds:
            return each * seeds / 3600
        counted = sum(counted_operations(row.recipe, cell) * len(cell.seeds) for cell in row.cells)
        return counted / GPU_RATE / 3600 or None
