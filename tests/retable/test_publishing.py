"""What `retable publish` takes, and the looks that it begins."""

from dataclasses import asdict, replace

from retable.cli import main
from retable.currency import provenance_of
from retable.looks import load_looks
from retable.records import publish as keep
from retable.records import write_record


def test_publish_stores_the_looks_and_a_third_is_refused_and_named(world, workspace, monkeypatch, capsys):
    (workspace.root / "Snakefile").touch()
    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr("retable.publishing.require_clean", lambda *_: None)
    cell = next(cell for cell in workspace.cells if cell.recipe == "node-depth")  # of 3 seeds
    known = asdict(provenance_of(workspace, cell)) | {"commit": "1" * 40, "clean": True}

    def measure(*seeds):
        for seed in seeds:
            (record,) = world.measure(cell, [80.0], first_seed=seed, **known)
            write_record(cell.folder(workspace.results) / f"seed-{seed}.json", record)

    def published(*arguments):
        return main(["publish", "contranorm/node-depth", *arguments])

    def stored():
        return load_looks(workspace.results, {}).stored.get(cell.identity)

    measure(0, 1)
    assert published() == 0
    assert stored() == (3,)
    measure(2, 3)
    assert published() == 2
    assert "4 seeds are more than look one, which has 3; fix the number" in capsys.readouterr().err
    assert published("--seeds", "6") == 0
    assert (stored(), published()) == ((3, 6), 0)
    measure(4, 5, 6)
    capsys.readouterr()
    assert published("--seeds", "9") == 2
    assert "7 seeds would be a third look; looks were taken at 3 and 6 seeds" in capsys.readouterr().err
    main(["verify", "--seeds", "9", "--recipes", "node-depth", "--papers", "contranorm"])
    assert f"{cell.slug}: 9 seeds would be a third look" in capsys.readouterr().out


def test_published_records_of_an_earlier_protocol_are_counted(world, workspace, monkeypatch, capsys):
    (workspace.root / "Snakefile").touch()
    monkeypatch.chdir(workspace.root)
    cell = next(cell for cell in workspace.cells if cell.recipe == "node-depth")
    keep(world.measure(replace(cell, protocol="an earlier v0"), [80.0, 81.0]), workspace.results)
    main(["verify"])
    out = capsys.readouterr().out
    assert "2 published records (contranorm/node-depth) are of cells that no card plans any more" in out
    keep(world.measure(cell, [80.0, 81.0]), workspace.results)
    main(["verify"])
    assert "no card plans" not in capsys.readouterr().out


def test_a_published_cell_without_a_stored_look_is_named_and_mended(world, workspace, monkeypatch, capsys):
    (workspace.root / "Snakefile").touch()
    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr("retable.publishing.require_clean", lambda *_: None)
    cell = next(cell for cell in workspace.cells if cell.recipe == "node-depth")
    keep(world.measure(cell, [80.0, 81.0, 82.0], **asdict(provenance_of(workspace, cell))), workspace.results)
    selection = ["--recipes", "node-depth", "--papers", "contranorm"]
    main(["verify", *selection])
    assert "published, but its look is not stored; `retable publish contranorm/node-depth`" in capsys.readouterr().out
    assert main(["publish", "contranorm/node-depth"]) == 0
    assert load_looks(workspace.results, {}).stored == {cell.identity: (3,)}
    capsys.readouterr()
    main(["verify", *selection])
    assert "its look is not stored" not in capsys.readouterr().out
