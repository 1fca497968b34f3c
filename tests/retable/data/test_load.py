import subprocess
import sys
import zlib

import pytest

from retable.cards import load_dataset
from retable.data.containers import DataError
from retable.data.load import load, parse
from retable.data.readers import READERS


@pytest.fixture
def digits(root):
    return load_dataset(root / "datasets" / "digits-knn.yaml")


def test_the_first_split_of_the_card_is_taken_unless_named(digits, tmp_path):
    graph, split = load(digits, None, tmp_path)
    assert graph.name == "digits-knn"
    assert split is graph.splits["default"]
    assert load(digits, "default", tmp_path)[1].sizes == split.sizes


def test_an_unknown_split_names_the_valid_ones(digits, tmp_path):
    with pytest.raises(DataError, match=r"digits-knn: unknown split 'defualt'; did you mean 'default'"):
        load(digits, "defualt", tmp_path)


def test_an_unknown_reader_names_the_valid_ones(digits, tmp_path):
    with pytest.raises(DataError, match=r"unknown reader 'digits'.*digits_knn"):
        load(digits.model_copy(update={"reader": "digits"}), None, tmp_path)


def test_other_content_than_pinned_is_refused(digits, tmp_path):
    other = digits.model_copy(update={"options": {"k": 9}})
    with pytest.raises(DataError, match=r"digits-knn: the parsed arrays hash to [0-9a-f]{64}, the card pins d63fe1"):
        load(other, None, tmp_path)


def test_another_split_than_pinned_is_refused(digits, tmp_path):
    wrong = digits.splits["default"].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DataError, match=r"split 'default' hashes to [0-9a-f]{64}, the card pins 0{64}"):
        load(digits.model_copy(update={"splits": {"default": wrong}}), None, tmp_path)


def test_a_split_that_the_reader_lacks_is_named(digits, tmp_path):
    card = digits.model_copy(update={"splits": {"public": digits.splits["default"]}})
    with pytest.raises(DataError, match=r"gives no split 'public', only \['default'\]"):
        load(card, None, tmp_path)


def test_a_card_without_the_reader_s_option_is_one_line(digits, tmp_path):
    with pytest.raises(DataError, match=r"cannot use the card's files and options: KeyError\('k'\)"):
        parse(digits.model_copy(update={"options": {}}), tmp_path)


def test_nothing_is_parsed_before_it_is_verified(make_card, entry, tmp_path):
    (tmp_path / "ind.x").write_bytes(b"altered")
    card = make_card(entry("ind.x", b"correct", url="https://example.org"))
    with pytest.raises(DataError, match=r"ind\.x has sha256"):
        parse(card, tmp_path)


def test_loading_needs_no_torch_and_no_hash_seed(root, tmp_path):
    code = (
        "import sys; from pathlib import Path; from retable.cards import load_dataset; "
        "from retable.data.load import load; load(load_dataset(Path(sys.argv[1])), None, Path('.')); "
        "sys.exit('torch' in sys.modules)"
    )
    card = str(root / "datasets" / "digits-knn.yaml")
    assert subprocess.run([sys.executable, "-c", code, card], env={"PYTHONHASHSEED": "1"}).returncode == 0


@pytest.mark.parametrize(
    "problem", [zlib.error("x"), EOFError(), ZeroDivisionError(), AttributeError("x"), MemoryError(), OSError("x")]
)
def test_whatever_a_reader_makes_of_bytes_is_one_line(digits, tmp_path, monkeypatch, problem):
    def read(card, raw):
        raise problem

    monkeypatch.setitem(READERS, digits.reader, read)
    with pytest.raises(DataError, match="cannot use the card's files and options") as caught:
        parse(digits, tmp_path)
    assert "\n" not in str(caught.value)
