"""How long a row that is not measured would take, from what its like took, or from its card."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from retable.preflight import GPU_RATE, counted_operations
from retable.records import RunRecord
from retable.rows import DeviceHours, Row, device_hours


class Hours:
    """Hours of rows, from the runs of rows of the same recipe, scale, data set and variant, of any variant, or of any
    data set.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._runs: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
        self._means: dict[tuple[str, ...], DeviceHours | None] = {}
        for row in rows:
            where = (row.recipe.name, row.scale)
            self._runs[where] += row.records
            self._runs[*where, row.dataset] += row.records
            self._runs[*where, row.dataset, row.variant] += row.records

    def _mean(self, *where: str) -> DeviceHours | None:
        if where not in self._means:
            self._means[where] = device_hours(runs) if (runs := self._runs.get(where)) else None
        return self._means[where]

    def of(self, row: Row) -> DeviceHours | None:
        """Hours for all planned seeds: of the kind of device that most of such runs were on, else of a processor by the
        seconds on the card, else of a GPU by its count of operations. None if nothing tells.
        """
        where, scale = (row.recipe.name, row.scale), row.recipe.scales[row.scale]
        each = self._mean(*where, row.dataset, row.variant)
        if not each and (others := self._mean(*where, row.dataset) or self._mean(*where)):
            each = replace(others, guessed=True)
        each = each or (DeviceHours(scale.seconds / 3600) if scale.seconds else None)
        if each:
            return each.times(sum(len(cell.seeds) for cell in row.cells))
        counted = sum(counted_operations(row.recipe, cell) * len(cell.seeds) for cell in row.cells)
        return DeviceHours(gpu=counted / GPU_RATE / 3600) if counted else None
