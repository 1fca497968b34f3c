"""Tables, figures and pages from verdicts. Nothing here imports torch or opens a connection."""

from pathlib import Path

from retable.config import Workspace


def build_site(workspace: Workspace, out: Path | None = None) -> Path:
    """Draw `reports/site` of a checkout, all papers and scales whatever the selection, and return its index.

    At once where nothing changed since the last time: the rest of this package is not imported then.
    """
    from retable.report.changes import keys_of
    from retable.report.folder import drawn, sweep

    out = workspace.reports / "site" if out is None else out
    now, before = keys_of(workspace), drawn(out)
    if before.is_of(now.of):
        sweep(out)
        return out / "index.html"
    from retable.report.site import draw_site

    return draw_site(workspace, out, now, before)
