"""Tables, figures and pages from verdicts. Nothing here imports torch or opens a connection."""

from retable.report.site import assess_workspace, build, build_site

__all__ = ["assess_workspace", "build", "build_site"]
