"""Records, rows and verdicts as pandas frames, for notebooks and for the files of the site.

`docs/frames.md` names the columns that stay as they are from version to version.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retable.cards import DatasetCard
from retable.records import RunRecord
from retable.rows import Row
from retable.significance import average, deviation, interval_of_mean
from retable.verdicts import Assessment

if TYPE_CHECKING:
    import pandas

RECORD_COLUMNS = ("paper", "recipe", "scale", "dataset", "variant", "axes", "cell", "seed", "state", "reason", "metric",
                  "value", "wall_s", "cpu_s", "gpu_s", "commit", "ended")  # fmt: skip
ROW_COLUMNS = ("paper", "recipe", "scale", "dataset", "variant", "method", "control", "axes", "protocol", "metric",
               "unit", "mean", "std", "low", "high", "n", "state", "note", "cell", "command")  # fmt: skip
VERDICT_COLUMNS = ("paper", "kind", "id", "text", "scale", "dataset", "setting", "metric", "unit", "claimed",
                   "measured", "difference", "low", "high", "n", "p", "state", "note", "cell", "command")  # fmt: skip


class Frames(NamedTuple):
    """A line a metric of a seed, a line a row of a table, a line a verdict."""

    records: "pandas.DataFrame"
    rows: "pandas.DataFrame"
    verdicts: "pandas.DataFrame"


def load(root: Path | str | None = None, papers: Sequence[str] | None = None) -> Frames:
    """The frames of the checkout at `root`, or around the current folder; of all papers, or of some.

    Raises CardError outside of a checkout, and for a paper that has no card.
    """
    from retable.assessments import assessments
    from retable.config import Workspace, find_root, load_config

    root = find_root(Path.cwd() if root is None else Path(root))
    workspace = Workspace(root, load_config(root / "config" / "config.yaml"))
    found = list(assessments(workspace, papers))
    return Frames(
        records=records_frame((record, reason) for each in found for record, reason in each.records),
        rows=rows_frame(row for each in found for row in _rows(each.assessment, workspace.datasets)),
        verdicts=verdicts_frame(line for each in found for line in verdict_lines(each.assessment, workspace.datasets)),
    )


def records_frame(records: Iterable[tuple[RunRecord, str | None]]) -> "pandas.DataFrame":
    """A line for each metric of each run; `reason` says why a run is stale, and is empty for a current one."""
    lines = []
    for record, reason in records:
        shared = (record.paper, record.recipe, record.scale, record.dataset, record.variant, _text(record.axes),
                  record.identity, record.seed, record.state, reason or "")  # fmt: skip
        cost = (record.cost.wall_s, record.cost.cpu_s, record.cost.gpu_s, record.commit or "", record.ended)
        lines += [(*shared, name, value, *cost) for name, value in record.metrics.items() or [("", None)]]
    return _frame(lines, RECORD_COLUMNS)


def rows_frame(lines: Iterable[tuple[Any, ...]]) -> "pandas.DataFrame":
    """A line for each metric of each row."""
    return _frame(list(lines), ROW_COLUMNS)


def verdicts_frame(lines: Iterable[tuple[Any, ...]]) -> "pandas.DataFrame":
    """A line for each verdict: numbers, statements of recipes, comparisons, statements of the abstract."""
    return _frame(list(lines), VERDICT_COLUMNS)


def _frame(lines: list[tuple[Any, ...]], columns: tuple[str, ...]) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(lines, columns=list(columns))


def _rows(assessment: Assessment, datasets: Mapping[str, DatasetCard]) -> Iterable[tuple[Any, ...]]:
    for row in assessment.rows:
        recipe = row.recipe
        names = dict.fromkeys([recipe.metric, *(name for record in row.records for name in record.metrics)])
        for metric in names:
            values = list(row.values(metric).values())
            mixed = row.condition(metric) == "mixture"
            around = None if mixed else interval_of_mean(values)
            yield (
                assessment.paper.id, recipe.name, row.scale, _title(row.dataset, datasets), row.variant, row.label,
                recipe.variants[row.variant].control, _text(row.axes), row.cell.protocol, metric,
                recipe.unit if metric == recipe.metric else "", average(values) if values and not mixed else None,
                None if mixed else deviation(values), *(around or (None, None)), len(values),
                row.condition(metric) or row.state, row.note, row.cell.identity, row.cell.command,
            )  # fmt: skip


def verdict_lines(assessment: Assessment, datasets: Mapping[str, DatasetCard]) -> list[tuple[Any, ...]]:
    """The lines of a paper's verdicts, in the order of `VERDICT_COLUMNS`."""
    # What puts verdicts into words belongs to the pages.
    from retable.report import words

    paper, lines = assessment.paper.id, []
    for value in assessment.values:
        claim, row = value.claim, value.row
        lines.append((
            paper, "number", claim.id, words.claim_name(claim), row.scale if row else "", claim.dataset,
            words.settings(claim.setting), claim.metric, claim.unit, claim.mean,
            None if value.state == "mixture" else value.mean, value.difference,
            *(value.difference_interval or (None, None)), value.n, value.p_differ, value.state, value.note,
            *_where(row),
        ))  # fmt: skip
    for verdict, text in words.statements(assessment):
        recipe, asked = verdict.first.recipe, verdict.asked
        lines.append((
            paper, verdict.kind, f"{recipe.name}/{asked.id}", text, verdict.scale,
            _title(verdict.first.dataset, datasets), _text(verdict.first.axes),
            asked.metric or recipe.metric, recipe.unit, None, None, verdict.difference,
            *(verdict.interval or (None, None)), verdict.n, verdict.p, verdict.state, verdict.note,
            *_where(verdict.first),
        ))  # fmt: skip
    for compared in assessment.comparisons:
        recipe = compared.recipe
        text = f"{recipe.variants[compared.variant].label} against {recipe.variants[compared.reference].label}"
        lines.append((
            paper, "comparison", f"{recipe.name}/{compared.variant}", text, compared.scale,
            ", ".join(_title(name, datasets) for name in compared.datasets), "", recipe.metric, recipe.unit, None, None,
            compared.mean, None, None, len(compared.differences), compared.p, compared.state, compared.note, "", "",
        ))  # fmt: skip
    for said in assessment.statements:
        lines.append((
            paper, "statement", said.statement.id, said.statement.text, said.scale, "", "", "", "", None, None, None,
            None, None, len(said.parts), None, said.state, said.note, "", "",
        ))  # fmt: skip
    return lines


def _where(row: Row | None) -> tuple[str, str]:
    return (row.cell.identity, row.cell.command) if row else ("", "")


def _title(name: str, datasets: Mapping[str, DatasetCard]) -> str:
    return datasets[name].title if name in datasets else name


def _text(axes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in axes.items())
