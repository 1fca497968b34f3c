"""Figures become SVG and tables become CSV, Markdown and LaTeX, in a process of its own while pages are drawn.

Run as a file (`python render.py`), it reads lines of JSON: nothing of retable is imported then. Figures are drawn by
vl-convert, tables written by pandas; the pages wait for neither.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

# Inside an <img>, the page's style sheet does not reach; this one answers the same media query.
STYLE = "<style>text{fill:#333}@media (prefers-color-scheme: dark){text{fill:#d5d8dc}}</style>"
# Starting the other process takes as long as doing so many things.
FEW = 10
# Of addresses, not of memory: V8, which draws the figures, reserves so many, and ends the process where it may not.
ADDRESS_BYTES = 64 * 10**9


def limited() -> str:
    """Why figures cannot be drawn in this process; empty where they can."""
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space == resource.RLIM_INFINITY or space >= ADDRESS_BYTES:
        return ""
    return f"ulimit -v is {space / 1e9:.0f} GB: figures cannot be drawn here; say `ulimit -v unlimited`"


def to_svg(spec: dict[str, Any]) -> str:
    """SVG text without script that follows the reader's light or dark setting; the same data gives the same bytes."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    # Vega numbers its clip paths through the life of the process.
    numbers = {name: f"clip{rank}" for rank, name in enumerate(dict.fromkeys(re.findall(r"\bclip\d+\b", svg)))}
    svg = re.sub(r"\bclip\d+\b", lambda match: numbers[match.group()], svg)
    return svg.replace(">", f">{STYLE}", 1)


def to_pdf(svg: str) -> bytes:
    """The picture for a paper. Its fonts come in any order, so that the bytes of the same picture differ."""
    import vl_convert

    return vl_convert.svg_to_pdf(svg)


def write_table(
    base: Path, columns: Sequence[str], lines: Sequence[Sequence[Any]], caption: str = "", label: str = ""
) -> None:
    """`base.csv` and, of a table with a caption, `base.md` and `base.tex`."""
    import pandas

    frame = pandas.DataFrame(lines, columns=list(columns))
    base.with_suffix(".csv").write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    if caption:
        texts = frame.map(lambda text: str(text).replace("|", "\\|").replace("\n", " "))
        markdown = texts.to_markdown(index=False, disable_numparse=True)
        base.with_suffix(".md").write_text(f"{markdown}\n", encoding="utf-8")
        frame.columns = [latex(name) for name in columns]
        style = frame.style.hide(axis="index").format(latex)
        text = style.to_latex(hrules=True, caption=latex(caption), label=label)
        base.with_suffix(".tex").write_text(text, encoding="utf-8")


def latex(text: Any) -> str:
    """Text as LaTeX shows it."""
    found = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        "±": r"$\pm$",
    }
    found |= {char: f"\\{char}" for char in "&%$#_{}"}
    return "".join(found.get(char, char) for char in str(text))


def do(job: dict[str, Any]) -> None:
    """A figure as `path` with .svg and .pdf, or a table to the files that begin with it."""
    path = Path(job["path"])
    if "spec" in job:
        svg = to_svg(job["spec"])
        path.with_suffix(".svg").write_text(svg, encoding="utf-8")
        path.with_suffix(".pdf").write_bytes(to_pdf(svg))
    else:
        write_table(path, job["columns"], job["lines"], job["caption"], job["label"])


class Renderer:
    """Does such jobs; `finish` returns once all files are there. Raises OSError where figures cannot be drawn."""

    def __init__(self) -> None:
        if why := limited():
            raise OSError(why)
        self._waiting: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()

    def ask(self, path: Path, **job: Any) -> None:
        """Do a job, now or later."""
        self._waiting.append({"path": str(path), **job})
        if self._process is None and len(self._waiting) > FEW:
            command = [sys.executable, str(Path(__file__).resolve())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            Thread(target=self._feed, daemon=True).start()
        if self._process is not None:
            for one in self._waiting:
                self._lines.put(json.dumps(one).encode() + b"\n")
            self._waiting = []

    def _feed(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            while (line := self._lines.get()) is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            self._process.stdin.close()
        except BrokenPipeError:  # its own words are on their way
            pass

    def finish(self) -> None:
        """Raises OSError with the words of the other process where that failed."""
        for job in self._waiting:
            do(job)
        self._waiting = []
        if self._process is not None:
            self._lines.put(None)
            assert self._process.stderr is not None
            words = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self._process.stderr.close()
            if self._process.wait():
                raise OSError(f"drawing figures and tables failed: {words[-1] if words else 'without a word'}")
            self._process = None


def main() -> None:
    """Do what standard input asks for."""
    for line in sys.stdin:
        do(json.loads(line))


if __name__ == "__main__":
    main()
