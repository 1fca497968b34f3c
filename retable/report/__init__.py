"""Tables, figures and pages from verdicts. Nothing here imports torch or opens a connection."""

from retable.report.site import build, build_site

__all__ = ["build", "build_site"]
