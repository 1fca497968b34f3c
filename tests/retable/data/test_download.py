"""Transfers as such, against a server on this machine that misbehaves on request."""

import pytest

from retable.data.download import CHUNK, Miss, copy, download

CONTENT = bytes(range(256)) * 1024  # 4 blocks


@pytest.fixture
def get(server, tmp_path):
    """Downloads to one place and returns what `download` said; `get.counts` are the bytes it told of."""
    server.files["/f"] = CONTENT

    def get(limit: int | None = len(CONTENT), path: str = "/f") -> bool:
        get.counts.clear()
        return download(f"{server.address}{path}", get.part, limit, get.counts.append)

    get.part, get.counts = tmp_path / "f.part", []
    return get


def test_it_says_whether_it_went_on_and_counts_every_byte_of_the_file_once(get, server):
    assert get() is False
    assert (get.part.read_bytes(), sum(get.counts)) == (CONTENT, len(CONTENT))
    get.part.write_bytes(CONTENT[:1000])
    assert get() is True
    assert (get.part.read_bytes(), sum(get.counts)) == (CONTENT, len(CONTENT))
    assert server.ranges == [None, "bytes=1000-"]
    assert get() is True  # all of it is there
    assert len(server.ranges) == 2


@pytest.mark.parametrize("limit", [1, CHUNK, CHUNK + 1, len(CONTENT) - 1])
def test_what_goes_beyond_the_limit_is_cut_off_after_the_block_that_crosses_it(get, limit):
    get(limit)
    assert limit < get.part.stat().st_size <= limit + CHUNK
    assert CONTENT.startswith(get.part.read_bytes())


def test_an_end_before_the_limit_counts_unless_the_server_announced_it(get, server):
    get(2 * len(CONTENT))
    assert (get.part.read_bytes(), len(server.ranges)) == (CONTENT, 1)
    get.part.unlink()
    server.behaviours = ["no length"]
    get()
    assert (get.part.read_bytes(), len(server.ranges)) == (CONTENT, 3)


def test_a_file_that_the_server_lacks_is_asked_for_once_and_a_broken_server_four_times(get, server):
    with pytest.raises(Miss, match=rf"^{server.address}/other answers 404 Not Found$"):
        get(path="/other")
    assert len(server.ranges) == 1
    server.behaviours = ["breaks off", *["503"] * 5]
    with pytest.raises(Miss, match=rf"^{server.address}/f answers 503 Service Unavailable$"):
        get()
    assert len(server.ranges) == 5
    assert get.part.stat().st_size > 0  # a later try goes on from it


def test_what_cannot_be_continued_begins_at_the_start(get, server):
    for behaviour in ("other range", "416", "ignores ranges"):
        get.part.write_bytes(b"stale")
        server.behaviours = [behaviour]
        get()
        assert get.part.read_bytes() == CONTENT, behaviour


def test_a_mirrors_file_is_copied_and_one_that_it_lacks_is_a_miss(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "part").write_bytes(b"what was there")
    counts = []
    assert copy(tmp_path / "source", tmp_path / "part", counts.append) == tmp_path / "part"
    assert ((tmp_path / "part").read_bytes(), counts) == (CONTENT, [len(CONTENT)])
    with pytest.raises(Miss, match="nowhere does not exist"):
        copy(tmp_path / "nowhere", tmp_path / "part", counts.append)
