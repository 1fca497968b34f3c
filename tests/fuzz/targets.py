"""What is fuzzed: each target reads bytes as one of the project's files, from examples that are whole.

A target may answer with a result, or with CardError or DataError in one line. Anything else is a fault: another
exception, a second line, a write outside of its folder. `plant` puts a fault back that a target once had, or could
have: the fuzzer must find it with the same budget.
"""

import hashlib
import io
import json
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import yaml

from retable import cards, config, ledger, looks, records, renames, tasks
from retable.cards import CardError, DataError
from retable.data import archive, unpickle
from retable.report import pictures
from retable.report.folder import Folder, drawn
from retable.train import checkpoint

ROOT = Path(__file__).resolve().parents[2]
TOY = """\
id: toy
title: Toy
venue: Nowhere
year: 2020
link: https://example.org/paper
code: https://example.org/code
summary: It is small.
statements: [{id: s, text: t, refuted_by: r, scope: all, parts: [r/o], numbers: [a-1]}]
tables: {T1: {title: Accuracy, where: Table 1}}
recipes:
- name: r
  title: R
  task: nodes
  protocol: {name: last, version: 1, description: d, spread: seeds}
  metric: accuracy
  unit: "%"
  variants:
    plain: {label: plain, settings: {norm: none}, by_dataset: {digits-knn: {lr: 0.1}}}
    ours: {label: ours, axes: {s: [0.1, 1.0]}, select: {metric: val_accuracy, mode: max}}
  hyper: {epochs: {value: 3, source: ours}, lr: {value: 0.1, source: ours}}
  orderings: [{id: o, better: ours, worse: plain, source: T1}]
  answers: [{measured: accuracy, claims: "a-{depth}", margin: 1.0, reason: ours}]
  curves: [{series: rank, x: layer, y: rank, caption: c, at: [1, 2]}]
  scales:
    demo:
      datasets: {digits-knn: default, cora: public}
      axes: {depth: [1, 2]}
      restrict: {ours: {s: [0.1]}}
      seeds: 2
      cost: s
"""
TUNED = "variants,dataset,lr,norm\nours,digits-knn,0.2,none\nplain,cora,1.0e-3,\n"
HEAD = (
    "id,paper,table,task,dataset,model,method,setting,metric,unit,mean,std,runs,higher_is_better,evidence,source,reach"
)
CLAIMS = f"""{HEAD}
a-1,toy,T1,nodes,Cora,GCN,none,depth=2,test accuracy,%,81.5,0.4,5,true,source,Table 1,here
a-2,toy,T1,nodes,Cora,GCN,ours,depth=2;x=y,test accuracy,%,82,,,true,digitised,"Table 1, left",gpu
"""
LOOKS = "identity,paper,recipe,scale,dataset,variant,first,second\n0123456789ab,toy,r,full,cora,plain,5,10\n"
RENAMES = "- paper: toy\n  recipe: old\n  recipes: {old: r}\n  keys: {a: b}\n  values: {depth: {1: 2}}\n"
CONFIG = "scale: demo\npapers: [contranorm, gcl]\nseeds: 3\nwandb: {mode: offline, project: p}\nruns_per_gpu: 2\n"


def record() -> records.RunRecord:
    draft = records.RunRecord(
        identity="", paper="toy", recipe="r", dataset="cora", split="public", variant="plain", axes={"depth": 2},
        settings={"depth": 2, "lr": 0.1}, scale="full", protocol="last v1", seed=0, state="ok",
        metrics={"accuracy": 81.25}, series={"rank": [1.0, 2.0]}, source_sha256="a", data_sha256="b", split_sha256="c",
        cost=records.Cost(wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1), environment={"torch": "2"},
        started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:00:01+00:00",
    )  # fmt: skip
    return draft.model_copy(update={"identity": draft.cell.identity})


def entry() -> bytes:
    side = {"source_sha256": "0" * 64, "commit": "1" * 40, "path": "/base"}
    fields = {
        "paper": "toy", "recipe": "r", "base": side, "tree": side | {"source_sha256": "2" * 64}, "date": "2026-01-01",
        "epochs": 2, "cells": {"0123456789ab": [{"seed": 0, "sha256": "d" * 64}]}, "environment": {}, "cpu_s": 1.0,
    }  # fmt: skip
    return json.dumps(fields).encode() + b"\n"


def state() -> bytes:
    """A resume state as `checkpoint` writes it."""
    buffer = io.BytesIO()
    parts = {"walk": {"place": torch.zeros(3), "steps": [1, 2]}}
    torch.save({"cell": "c", "seed": 0, "fingerprint": "f", "phase": "", "epoch": 2, "parts": parts}, buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest().encode() + buffer.getvalue()


def zipped(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in names.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def tarred(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        info = tarfile.TarInfo("a/member.txt")
        info.size = 5
        bundle.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


# Each target writes the bytes to a file below `folder` and reads it as the project does.


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def paper_card(data: bytes, folder: Path) -> None:
    card = cards.load_paper(written(folder / "toy" / "card.yaml", data))
    from retable.plan import recipe_cells

    for recipe in card.recipes:
        for cell in recipe_cells(card.id, recipe, DATASETS, "demo"):
            where = cell.folder(Path("results"))
            assert ".." not in where.parts, where
            assert not where.is_absolute(), where


def tuned(data: bytes, folder: Path) -> None:
    written(folder / "toy" / "card.yaml", TOY.encode())
    written(folder / "toy" / "tuned" / "r.csv", data)
    cards.load_paper(folder / "toy" / "card.yaml")


def dataset_card(data: bytes, folder: Path) -> None:
    card = cards.load_dataset(written(folder / "cora.yaml", data))
    for file in card.files:
        assert (folder / "raw" / file.path).resolve().is_relative_to((folder / "raw").resolve()), file.path


def claims(data: bytes, folder: Path) -> None:
    cards.load_claims(written(folder / "claims.csv", data))


def settings(data: bytes, folder: Path) -> None:
    config.load_config(written(folder / "config.yaml", data))


def _told(troubles: list[records.Trouble]) -> None:
    for trouble in troubles:
        assert "\n" not in str(trouble), trouble


def own_record(data: bytes, folder: Path) -> None:
    path = RECORD.cell.folder(folder) / "seed-0.json"
    written(path, data)
    loaded = records.load_own(folder)
    _told(loaded.troubles)
    assert len(loaded.records) + len(loaded.troubles) == 1


def published(data: bytes, folder: Path) -> None:
    written(records.published_path(folder, RECORD), data)
    _told(records.load_published(folder).troubles)
    records.publish([RECORD], folder)


def proofs(data: bytes, folder: Path) -> None:
    written(folder / "equivalence.jsonl", data)
    _told(list(ledger.load_ledger(folder).troubles))


def table_of_looks(data: bytes, folder: Path) -> None:
    written(folder / "published" / "looks.csv", data)
    looks.load_looks(folder, {})


def table_of_names(data: bytes, folder: Path) -> None:
    written(folder / "renames.yaml", data)
    renames.load_renames(folder).apply(RECORD)


def list_of_tasks(data: bytes, folder: Path) -> None:
    tasks.read_list(OPEN, written(folder / "list.json", data))


def pictures_of_a_seed(data: bytes, folder: Path) -> None:
    place = RECORD.cell.folder(folder)
    written(place / "seed-0.pictures.jsonl", data)
    written(place / "seed-0.a.png", b"png")
    (folder / "out").mkdir(exist_ok=True)
    pictures.of_cell(RECORD.cell, [RECORD], folder, Folder(folder / "out", drawn(folder / "out")))


def resume_state(data: bytes, folder: Path) -> None:
    """With a hash that fits, so that torch's own reader is reached too."""
    damaged, payload = written(folder / "state-000000002.pt", data), data[checkpoint.DIGEST_BYTES :]
    for _, found in checkpoint.load_states(folder, {"cell": "c"}):
        assert isinstance(found, dict)
    damaged.write_bytes(hashlib.sha256(payload).hexdigest().encode() + payload)
    for _, found in checkpoint.load_states(folder, {"cell": "c"}):
        assert isinstance(found, dict)


def member_of_archive(data: bytes, folder: Path) -> None:
    archive.extract(written(folder / "a.zip", data), "a/member.txt", folder / "out", 1000)
    assert (folder / "out").stat().st_size <= 1001


def foreign_pickle(data: bytes, folder: Path) -> None:
    unpickle.restricted_loads(data, "file")


RECORD = record()
DATASETS = cards.load_datasets(ROOT)
OPEN = config.Workspace(ROOT, config.Config())
ARRAYS = [
    np.arange(12, dtype=np.int32).reshape(3, 4),
    scipy.sparse.random(7, 5, density=0.4, format="csr", dtype=np.float32, random_state=0),
    {0: [1, 2], 1: [0]},
]


@dataclass(frozen=True)
class Target:
    """How bytes are read, whole examples, and a fault to plant: an attribute of a module and what it becomes."""

    read: Callable[[bytes, Path], None]
    examples: list[bytes]
    module: Any
    attribute: str
    fault: Any

    def plant(self) -> Callable[[], None]:
        """Put the fault in; returns what takes it out."""
        kept = getattr(self.module, self.attribute)
        setattr(self.module, self.attribute, self.fault)
        return lambda: setattr(self.module, self.attribute, kept)


def plain_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def plain_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def trusting_record(text: bytes, where: str) -> records.RunRecord:
    return records.RunRecord.model_validate(json.loads(text))


class TrustingEntry:
    @staticmethod
    def model_validate_json(line: bytes) -> Any:
        return ledger.Entry.model_validate(json.loads(line))


class TrustingList:
    @staticmethod
    def validate_json(text: bytes) -> list[tasks.Task]:
        return [tasks.Task.model_construct(**each) for each in json.loads(text)]


class TrustingPicture:
    @staticmethod
    def model_validate_json(line: str) -> Any:
        return pictures.Entry.model_construct(**json.loads(line))


class TrustingHash:
    """What takes a state for whole that is not."""

    @staticmethod
    def sha256(data: bytes) -> Any:
        data[len(state()) // 2]
        return hashlib.sha256(data)


TARGETS = {
    "paper card": Target(paper_card, [TOY.encode()], cards, "read_yaml", plain_yaml),
    "tuned settings": Target(tuned, [TUNED.encode()], cards, "read_text", plain_text),
    "data-set card": Target(dataset_card, [(ROOT / "datasets/cora.yaml").read_bytes()], cards, "read_yaml", plain_yaml),
    "claims": Target(claims, [CLAIMS.encode(), CLAIMS.encode("utf-8-sig")], cards, "read_text", plain_text),
    "settings": Target(settings, [CONFIG.encode()], config, "read_yaml", plain_yaml),
    "record": Target(
        own_record, [records.to_json(RECORD.model_dump(mode="json"))], records, "parse_record", trusting_record
    ),
    "published records": Target(
        published, [RECORD.model_dump_json().encode() + b"\n"], records, "parse_record", trusting_record
    ),
    "ledger": Target(proofs, [entry(), entry() * 2], ledger, "Entry", TrustingEntry),
    "looks": Target(table_of_looks, [LOOKS.encode()], looks, "read_text", plain_text),
    "renames": Target(table_of_names, [RENAMES.encode()], renames, "read_yaml", plain_yaml),
    "list of tasks": Target(
        list_of_tasks,
        [records.to_json([{"scale": "demo", "cell": OPEN.cells[0].identity, "seeds": [0]}])],
        tasks,
        "LIST",
        TrustingList,
    ),
    "pictures": Target(
        pictures_of_a_seed,
        [b'{"name": "a", "caption": "c", "width": 3, "height": 4}\n'],
        pictures,
        "Entry",
        TrustingPicture,
    ),
    "resume state": Target(resume_state, [state()], checkpoint, "hashlib", TrustingHash),
    "archive": Target(
        member_of_archive,
        [zipped({"a/member.txt": b"hello", "b": b"x" * 99}), tarred("w"), tarred("w:gz")],
        archive,
        "DAMAGED",
        (EOFError,),
    ),
    "pickle": Target(
        foreign_pickle, [pickle.dumps(each, 4) for each in ARRAYS], unpickle, "_BROKEN", (pickle.UnpicklingError,)
    ),
}


# Watching what is written

WRITES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.symlink": 1, "os.link": 1, "os.truncate": 0}
RUNS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"}


class Watch:
    """While it is on, writing outside of `folder`, or starting anything, raises AssertionError."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        sys.addaudithook(self._hook)  # for the life of the process

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event in RUNS:
            raise AssertionError(f"{event}{arguments!r}")
        path = None
        if event == "open" and isinstance(arguments[0], str | Path) and _writes(arguments):
            path = arguments[0]
        elif event in WRITES:
            path = arguments[WRITES[event]]
        if isinstance(path, str | Path) and not str(path).startswith((str(self.folder), "/dev/")):
            raise AssertionError(f"{event} of {path}")


def _writes(arguments: tuple) -> bool:
    mode, flags = arguments[1], arguments[2]
    return any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool(flags & 3)


WATCH = Watch()


def feed(target: Target, data: bytes, folder: Path) -> bool:
    """Give a target one input. Whether it was taken; raises whatever is no answer."""
    WATCH.folder = folder
    try:
        target.read(data, folder)
    except (CardError, DataError) as refusal:
        if "\n" in str(refusal):
            raise AssertionError(f"more than one line: {refusal}") from refusal
        return False
    finally:
        WATCH.folder = None
    return True
