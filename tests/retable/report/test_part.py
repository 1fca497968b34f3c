"""What is kept of a paper between two drawings."""

import pytest
from pydantic import ValidationError

from retable.report.part import Entry


def test_what_is_kept_is_read_back_and_anything_else_refused():
    entry = Entry(kind="number", name="x", about="y", page="papers/a.html#claim-x", state="reproduced")
    assert Entry.model_validate_json(entry.model_dump_json()) == entry
    with pytest.raises(ValidationError):
        Entry(kind="rumour", name="x", about="y", page="z")
