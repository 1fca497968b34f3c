import hashlib
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from retable.data.fetch import DataError, check, fetch

CONTENT = bytes(range(256)) * 4000
PATH = "made/up/file.bin"


@pytest.fixture
def card(make_card, entry, server):
    server.files["/file.bin"] = CONTENT
    return make_card(entry(PATH, CONTENT, url=f"{server.address}/file.bin"))


def leftovers(raw: Path) -> list[str]:
    return sorted(path.name for path in (raw / PATH).parent.iterdir())


def test_a_file_comes_from_upstream_and_is_not_asked_for_twice(card, server, tmp_path):
    assert fetch(card, tmp_path) == [tmp_path / PATH]
    assert (tmp_path / PATH).read_bytes() == CONTENT
    assert fetch(card, tmp_path) == [tmp_path / PATH]
    assert server.ranges == [None]
    assert check(card, tmp_path) == []
    assert leftovers(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    ("behaviours", "requests"),
    [
        (["breaks off"], 2),
        (["no length"], 2),
        (["breaks off", "ignores ranges"], 2),
        (["breaks off", "other range"], 3),
        (["breaks off", "416"], 3),
        (["500", "503"], 3),
        (["429", "breaks off", "500"], 4),
    ],
)
def test_a_transfer_survives_what_servers_do(card, server, tmp_path, behaviours, requests):
    server.behaviours = list(behaviours)
    fetch(card, tmp_path)
    assert (tmp_path / PATH).read_bytes() == CONTENT
    assert len(server.ranges) == requests


def test_a_transfer_that_broke_off_goes_on_where_it_stopped(card, server, tmp_path):
    server.behaviours = ["breaks off"]
    fetch(card, tmp_path)
    first, second = server.ranges
    assert first is None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert len(CONTENT) // 2 - (1 << 16) < start <= len(CONTENT) // 2


def test_a_partial_file_of_other_content_is_thrown_away(card, server, tmp_path):
    part = tmp_path / f"{PATH}.part"
    part.parent.mkdir(parents=True)
    for stale in (b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)):
        part.write_bytes(stale)
        fetch(card, tmp_path)
        assert (tmp_path / PATH).read_bytes() == CONTENT
        (tmp_path / PATH).unlink()


def test_a_server_that_stays_broken_is_named(card, server, tmp_path):
    server.behaviours = ["500"] * 4
    with pytest.raises(DataError, match=rf"made-up: cannot fetch {PATH}: {server.address}/file.bin answers 500"):
        fetch(card, tmp_path)
    assert not (tmp_path / PATH).exists()


def test_an_altered_file_is_named_and_kept_aside(card, server, tmp_path):
    altered = b"\xff" + CONTENT[1:]
    server.files["/file.bin"] = altered
    with pytest.raises(DataError) as caught:
        fetch(card, tmp_path)
    message = str(caught.value)
    got = hashlib.sha256(altered).hexdigest()
    for part in (PATH, f"{server.address}/file.bin", got, card.files[0].sha256):
        assert part in message
    assert "\n" not in message
    assert leftovers(tmp_path) == [f"file.bin.rejected-{got[:8]}"]
    assert check(card, tmp_path) == [f"{PATH} is missing"]


@pytest.mark.parametrize(
    ("page", "hint"),
    [
        (b"<!DOCTYPE html><html>Please log in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    ],
)
def test_a_page_instead_of_data_is_recognised(card, server, tmp_path, page, hint):
    server.files["/file.bin"] = page
    with pytest.raises(DataError, match=hint):
        fetch(card, tmp_path)


def test_no_more_is_read_than_the_card_expects(card, server, tmp_path):
    server.files["/file.bin"] = CONTENT * 8
    with pytest.raises(DataError, match="expected 1,024,000"):
        fetch(card, tmp_path)
    (rejected,) = (tmp_path / PATH).parent.glob("*.rejected-*")
    assert rejected.stat().st_size <= len(CONTENT) + (1 << 20)


def test_a_folder_as_mirror_comes_first(card, server, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / PATH).parent.mkdir(parents=True)
    (mirror / PATH).write_bytes(CONTENT)
    fetch(card, tmp_path / "raw", mirror=str(mirror))
    assert server.ranges == []
    assert (tmp_path / "raw" / PATH).read_bytes() == CONTENT


def test_an_address_as_mirror_comes_first(card, server, tmp_path):
    server.files[f"/mirror/{PATH}"] = server.files.pop("/file.bin")
    fetch(card, tmp_path, mirror=f"{server.address}/mirror/")
    assert len(server.ranges) == 1


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_what_a_mirror_lacks_comes_from_upstream(card, server, tmp_path, kind):
    mirror = str(tmp_path) if kind == "folder" else f"{server.address}/mirror"
    fetch(card, tmp_path / "raw", mirror=mirror)
    assert (tmp_path / "raw" / PATH).read_bytes() == CONTENT


def test_the_environment_names_a_mirror(card, server, tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere' is neither a folder nor an http address"):
        fetch(card, tmp_path / "raw")


def test_a_wrong_file_in_the_mirror_is_an_error(card, server, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / PATH).parent.mkdir(parents=True)
    (mirror / PATH).write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"{mirror} has 1,023,999 bytes, expected 1,024,000"):
        fetch(card, tmp_path / "raw", mirror=str(mirror))
    assert (mirror / PATH).exists()


def test_offline_the_message_says_how_to_go_on(make_card, entry, server, tmp_path):
    card = make_card(entry(PATH, CONTENT, url="http://127.0.0.1:9/file.bin"))
    with pytest.raises(DataError, match=r"cannot be reached\. Without a network, set RETABLE_MIRROR") as caught:
        fetch(card, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_replaced_and_kept_aside(card, server, tmp_path):
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"damaged")
    assert check(card, tmp_path) == [f"{PATH} has 7 bytes, expected 1,024,000"]
    fetch(card, tmp_path)
    assert (tmp_path / PATH).read_bytes() == CONTENT
    assert len(leftovers(tmp_path)) == 2


SCRIPT = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from retable.cards import DatasetCard
    from retable.data.fetch import DataError, fetch
    card = DatasetCard.model_validate_json(Path(sys.argv[1]).read_text())
    if (limit := int(sys.argv[3])) > 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fetch(card, Path(sys.argv[2]))
    except DataError as error:
        sys.exit(str(error))
    """
)


def command(card, tmp_path: Path, limit: int) -> list[str]:
    (tmp_path / "card.json").write_text(card.model_dump_json())
    return [sys.executable, "-c", SCRIPT, str(tmp_path / "card.json"), str(tmp_path / "raw"), str(limit)]


def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_finished(card, server, tmp_path):
    run = subprocess.run(command(card, tmp_path, 300_000), capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("made-up: no space left below")
    assert run.stderr.count("\n") == 1
    assert leftovers(tmp_path / "raw") == ["file.bin.part"]
    fetch(card, tmp_path / "raw")
    assert server.ranges[-1] == "bytes=300000-"
    assert (tmp_path / "raw" / PATH).read_bytes() == CONTENT


def test_a_killed_download_leaves_nothing_that_looks_finished(card, server, tmp_path):
    server.behaviours = ["hangs"]
    part = tmp_path / "raw" / f"{PATH}.part"
    process = subprocess.Popen(command(card, tmp_path, 0))
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert leftovers(tmp_path / "raw") == ["file.bin.part"]
    fetch(card, tmp_path / "raw")
    assert server.ranges[-1] is not None
    assert (tmp_path / "raw" / PATH).read_bytes() == CONTENT


def test_fetching_and_reading_need_no_torch():
    code = (
        "import sys, retable.data.fetch, retable.data.load, retable.data.overview, retable.data.pin; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_complete_data_in_a_folder_that_cannot_be_written_are_taken(card, tmp_path, monkeypatch):
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(CONTENT)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "locks")

    monkeypatch.setattr("retable.data.fetch.FileLock", refuse)
    assert fetch(card, tmp_path) == [tmp_path / PATH]
    (tmp_path / PATH).write_bytes(b"altered")
    with pytest.raises(DataError, match="Permission denied"):
        fetch(card, tmp_path)
