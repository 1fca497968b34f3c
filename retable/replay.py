"""Run cells of one checkout on request and tell what came out, for `retable prove`.

    PYTHONPATH=CHECKOUT python -P CHECKOUT/retable/replay.py CHECKOUT

Reads one request a line and answers with one line, both JSON. A proof talks to two of these, each with the code of its
own checkout, so this file keeps its requests and answers when everything else changes. A checkout from before this
file is run by the file of a later one.

- `{"ask": "where"}`: the files that `retable` and `methods` were imported from.
- `{"ask": "plan", "scale": ...}`: the cells of a scale: identity -> their fields and the meaning hash of their sources.
- `{"ask": "run", "scale", "identity", "seed", "settings", "raw", "folder"}`: runs a seed of a cell with these settings
  in place of its own, in a child process; answers with metrics, series, the curve and a digest of each kept tensor.
"""

import functools
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 1
# The answer for a run whose process left none; `retable prove` knows a killed one by it.
ENDED = "the run's process ended with status {}"


def main() -> None:
    """Answer requests until stdin ends. What the runs print goes to stderr."""
    root = Path(sys.argv[1]).resolve()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked: dict[str, Callable[[Path, dict], Any]] = {"where": where, "plan": plan, "run": run}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = asked[request["ask"]](root, request)
        except Exception as error:  # whatever it is, the other side says it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def where(root: Path, request: dict) -> dict[str, str]:
    """Which files the code comes from."""
    specs = {name: importlib.util.find_spec(name) for name in ("retable", "methods")}
    return {
        name: str(Path(spec.origin).resolve()) if spec and spec.origin else "nowhere" for name, spec in specs.items()
    }


def plan(root: Path, request: dict) -> dict[str, dict]:
    """The cells of a scale, by identity."""
    from retable.sources import source_sha256

    workspace = _workspace(root, request["scale"])
    found = {}
    for cell in workspace.cells:
        fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"}
        control = workspace.papers[cell.paper].recipe(cell.recipe).variants[cell.variant].control
        module = _module(workspace, cell)
        source = source_sha256(workspace.root, cell.paper, module)
        found[cell.identity] = {"fields": fields, "source_sha256": source, "control": control, "module": module}
    return found


def run(root: Path, request: dict) -> dict:
    """What one seed of a cell gives; a child process runs it, so that one run leaves nothing behind for the next."""
    _prepare(root, request)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            answer = _run(root, request)
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
        sys.stderr.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(text) if text else {"error": ENDED.format(status)}


def _run(root: Path, request: dict) -> dict:
    import dataclasses

    import torch
    from threadpoolctl import threadpool_limits

    from retable.run import make_deterministic
    from retable.train.context import Context, Diverged

    workspace = _workspace(root, request["scale"])
    (cell,) = (cell for cell in workspace.cells if cell.identity == request["identity"])
    cell = dataclasses.replace(cell, settings=cell.settings | request["settings"], seeds=(request["seed"],))
    folder = Path(request["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = _watch_weights(Context)
    before = _cpu()
    with threadpool_limits(THREADS):
        torch.set_num_threads(THREADS)
        device = torch.device("cpu")
        make_deterministic(device)
        context = Context(
            cell=cell,
            seed=request["seed"],
            card=workspace.datasets[cell.dataset],
            raw=Path(request["raw"]),
            folder=folder,
            device=device,
            fingerprint="replay",
        )
        state, metrics, series = "ok", {}, {}
        try:
            measured = _experiment(cell.paper, _module(workspace, cell))(cell, context)
            metrics, series = measured.metrics, measured.series
        except Diverged as problem:
            state = f"diverged: {problem}"
    curves = sorted(path for path in folder.glob("*.jsonl") if path.is_file())
    rows = [json.loads(line) for path in curves for line in path.read_text(encoding="utf-8").splitlines()]
    answer = {
        "state": state,
        "metrics": {name: _number(value) for name, value in metrics.items()},
        "series": {name: [_number(value) for value in values] for name, values in series.items()},
        "curve": [{name: _number(value) for name, value in row.items()} for row in rows],
        "weights": tensors,
        "cpu_s": _cpu() - before,
    }
    shutil.rmtree(folder, ignore_errors=True)
    return answer


def _watch_weights(context: type) -> list[str]:
    """A list that gets a digest of each tensor that a run keeps, in the order in which it keeps them."""
    found: list[str] = []
    name = next(name for name in ("save_weights", "keep") if hasattr(context, name))
    original = getattr(context, name)

    def watched(self, label, weights, *more, **named):
        for tensor in weights.values():
            array = tensor.detach().cpu().contiguous()
            head = f"{array.dtype} {tuple(array.shape)}\n".encode()
            found.append(hashlib.sha256(head + array.flatten().view(_bytes_of(array)).numpy().tobytes()).hexdigest())
        return original(self, label, weights, *more, **named)

    setattr(context, name, watched)
    return found


def _bytes_of(tensor):
    import torch

    return torch.uint8 if tensor.dtype != torch.bool else torch.bool


def _number(value: float | str) -> str:
    """Every bit of a number, as text; the name of a phase as it is."""
    return value if isinstance(value, str) else float(value).hex()


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _module(workspace, cell) -> str:
    """The module of a cell's experiment, whatever the checkout calls that."""
    named = getattr(workspace, "experiment", None) or workspace.story
    return named(cell)


_OPEN: dict[str, Any] = {}


def _workspace(root: Path, scale: str):
    from retable.config import Config, Workspace

    if scale not in _OPEN:
        _OPEN[scale] = Workspace(root, Config.model_validate({"scale": scale, "device": "cpu"}))
    return _OPEN[scale]


def _prepare(root: Path, request: dict) -> None:
    """Import once in this process what each child would import."""
    import torch

    from retable.run import make_deterministic

    make_deterministic(torch.device("cpu"))  # imports torch's compiler
    importlib.import_module("scipy.linalg")
    workspace = _workspace(root, request["scale"])
    (cell,) = (cell for cell in workspace.cells if cell.identity == request["identity"])
    _experiment(cell.paper, _module(workspace, cell))


def _experiment(paper: str, module: str) -> Callable:
    """What runs a cell: of a base older than `retable.experiment`, the module's own `run`."""
    from retable import run

    if hasattr(run, "load_method"):
        return run.load_method(paper, module).run
    return functools.partial(run.measure, run.load_paper_module(paper, module))


if __name__ == "__main__":
    main()
