import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from retable.data.archive import ArchiveError, extract
from retable.data.fetch import DataError, fetch

MEMBERS = {"MUTAG//MUTAG_A.txt": b"1, 2\n" * 1000, "../evil.txt": b"evil", "/etc/evil.txt": b"evil"}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in MEMBERS.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bundle.addfile(link)
    return buffer.getvalue()


PACKED = {"data.zip": zipped(), "data.tar.gz": tarred()}
MEMBER = "MUTAG//MUTAG_A.txt"
PATH = "mutag/MUTAG_A.txt"


@pytest.mark.parametrize("name", PACKED)
def test_a_member_is_fetched_and_nothing_else_is_written(name, make_card, entry, server, tmp_path):
    server.files[f"/{name}"] = PACKED[name]
    archive = {"url": f"{server.address}/{name}"}
    other = entry("mutag/evil.txt", b"evil", archive=archive, member="../evil.txt")
    raw = tmp_path / "inner" / "raw"
    fetch(make_card(entry(PATH, MEMBERS[MEMBER], archive=archive, member=MEMBER), other), raw)
    assert (raw / PATH).read_bytes() == MEMBERS[MEMBER]
    assert len(server.ranges) == 1
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt") if ".verified" not in path.parts}
    assert written == {f"inner/raw/{PATH}", "inner/raw/mutag/evil.txt"}
    assert not list((raw / ".archives").rglob("data*"))


def test_a_mirror_may_hold_the_members(make_card, entry, server, tmp_path):
    (tmp_path / "mirror" / "mutag").mkdir(parents=True)
    (tmp_path / "mirror" / PATH).write_bytes(MEMBERS[MEMBER])
    file = entry(PATH, MEMBERS[MEMBER], archive={"url": f"{server.address}/data.zip"}, member=MEMBER)
    fetch(make_card(file), tmp_path / "raw", mirror=str(tmp_path / "mirror"))
    assert server.ranges == []


@pytest.mark.parametrize("name", sorted(PACKED))
def test_repeated_slashes_in_a_name_count_as_one(name, tmp_path):
    (tmp_path / name).write_bytes(PACKED[name])
    assert "//" in MEMBER
    for member in (MEMBER, MEMBER.replace("//", "/"), MEMBER.replace("//", "///")):
        extract(tmp_path / name, member, tmp_path / "out", len(MEMBERS[MEMBER]))
        assert (tmp_path / "out").read_bytes() == MEMBERS[MEMBER]


def test_a_mirror_may_hold_the_whole_archive(make_card, entry, server, tmp_path):
    mirror, raw = tmp_path / "mirror", tmp_path / "raw"
    (mirror / "sets").mkdir(parents=True)
    (mirror / "sets/data.zip").write_bytes(PACKED["data.zip"])
    archive = {"url": f"{server.address}/data.zip", "path": "sets/data.zip"}
    card = make_card(entry(PATH, MEMBERS[MEMBER], archive=archive, member=MEMBER))
    assert fetch(card, raw, str(mirror))[0].read_bytes() == MEMBERS[MEMBER]
    assert not server.ranges  # upstream was not asked


def test_an_archive_that_a_mirror_lacks_comes_from_upstream(make_card, entry, server, tmp_path):
    server.files["/data.zip"] = PACKED["data.zip"]
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    archive = {"url": f"{server.address}/data.zip", "path": "sets/data.zip"}
    card = make_card(entry(PATH, MEMBERS[MEMBER], archive=archive, member=MEMBER))
    assert fetch(card, tmp_path / "raw", str(mirror))[0].read_bytes() == MEMBERS[MEMBER]


def test_an_altered_member_is_refused(make_card, entry, server, tmp_path):
    server.files["/data.zip"] = PACKED["data.zip"]
    file = entry(PATH, b"2, 1\n" * 1000, archive={"url": f"{server.address}/data.zip"}, member=MEMBER)
    with pytest.raises(DataError, match=r"made-up: mutag/MUTAG_A\.txt from http.*data\.zip has sha256"):
        fetch(make_card(file), tmp_path)
    assert not (tmp_path / PATH).exists()


def test_an_altered_archive_is_refused_before_it_is_opened(make_card, entry, server, tmp_path):
    server.files["/data.zip"] = b"<html>moved</html>"
    archive = {"url": f"{server.address}/data.zip", "sha256": "0" * 64}
    with pytest.raises(DataError, match=r"data\.zip has sha256 .*, expected 0{64}; kept as .*a web page"):
        fetch(make_card(entry(PATH, b"x", archive=archive, member=MEMBER)), tmp_path)


def test_what_is_no_archive_is_one_line(make_card, entry, server, tmp_path):
    server.files["/data.zip"] = b"<html>moved</html>"
    file = entry(PATH, b"x", archive={"url": f"{server.address}/data.zip"}, member=MEMBER)
    with pytest.raises(DataError, match=r"is not a readable archive.*a web page") as caught:
        fetch(make_card(file), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", ["MUTAG_A.txt", "mutag//MUTAG_A.txt", "link"])
def test_a_member_must_exist_and_be_a_file(member, tmp_path):
    (tmp_path / "data.tar.gz").write_bytes(PACKED["data.tar.gz"])
    with pytest.raises(ArchiveError, match=f"holds no file '{member}'"):
        extract(tmp_path / "data.tar.gz", member, tmp_path / "out", 100)


@pytest.mark.parametrize("name", PACKED)
def test_a_damaged_archive_is_one_line(name, tmp_path):
    content = bytearray(PACKED[name])
    content[45:60] = bytes(15)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveError):
        extract(tmp_path / name, MEMBER, tmp_path / "out", 10_000)


def test_a_member_larger_than_expected_is_cut(tmp_path):
    (tmp_path / "data.zip").write_bytes(PACKED["data.zip"])
    extract(tmp_path / "data.zip", MEMBER, tmp_path / "out", 100)
    assert (tmp_path / "out").stat().st_size == 101


def test_an_archive_with_the_wrong_member_is_not_kept_for_the_next_call(make_card, entry, server, tmp_path):
    old = io.BytesIO()
    with zipfile.ZipFile(old, "w") as bundle:
        bundle.writestr(MEMBER, b"something else")
    server.files["/data.zip"] = old.getvalue()
    card = make_card(entry(PATH, MEMBERS[MEMBER], archive={"url": f"{server.address}/data.zip"}, member=MEMBER))
    with pytest.raises(DataError, match=r"MUTAG_A\.txt from http"):
        fetch(card, tmp_path)
    # The server is mended.
    server.files["/data.zip"] = PACKED["data.zip"]
    assert fetch(card, tmp_path)[0].read_bytes() == MEMBERS[MEMBER]


def test_a_full_target_is_no_damage_of_the_archive(tmp_path):
    (tmp_path / "data.zip").write_bytes(PACKED["data.zip"])
    with pytest.raises(OSError, match="No space left"):
        extract(tmp_path / "data.zip", MEMBER, Path("/dev/full"), 10**6)
