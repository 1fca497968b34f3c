"""Tables, figures and pages from verdicts. Nothing here imports torch or opens a connection."""

from pathlib import Path

from retable.config import Workspace


def build_site(workspace: Workspace) -> Path:
    """Draw `reports/site` of a checkout and return its index; at once where nothing changed since the last time."""
    from retable.report.changes import keys_of
    from retable.report.folder import drawn, sweep

    out = workspace.reports / "site"
    now = keys_of(workspace)
    if drawn(out).is_of(now.of):
        sweep(out)
        return out / "index.html"
    from retable.report.site import build_site

    return build_site(workspace, out, now)
