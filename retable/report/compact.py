"""The runs of a cell as one table of columns: what all share stands once, everything else is an array over the runs.

`expand` gives the records back, each as it was.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from retable.records import RunRecord

NESTED = ("metrics", "series", "cost")


def columns(records: Sequence[RunRecord]) -> dict[str, Any]:
    """`common` fields, and `each`: a list over the runs; of nested ones a list for each name, null where it lacks."""
    common: dict[str, Any] = {}
    each: dict[str, Any] = {}
    for name, first in records[0].model_dump(mode="json").items():
        values = [record.__dict__[name] for record in records]
        if name in NESTED:
            nested = [value if isinstance(value, dict) else value.__dict__ for value in values]
            each[name] = {key: _column(nested, key) for key in dict.fromkeys(chain.from_iterable(nested))}
        elif len(set(map(id, values))) == 1 or all(repr(value) == repr(values[0]) for value in values):
            common[name] = first
        else:
            each[name] = values
    return {"runs": len(records), "common": common, "each": each}


def _column(nested: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), nested))
    except KeyError:
        return [value.get(key) for value in nested]


def expand(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of a table of columns."""
    found = []
    for index in range(table["runs"]):
        record = dict(table["common"])
        for name, values in table["each"].items():
            if name in NESTED:
                taken = {key: value[index] for key, value in values.items()}
                record[name] = {key: value for key, value in taken.items() if value is not None}
            else:
                record[name] = values[index]
        found.append(record)
    return found
