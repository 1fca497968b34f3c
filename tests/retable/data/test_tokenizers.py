from transformers import BertTokenizerFast

from retable.data.tokenizers import Bytes, PretrainedTokenizer, Words


def test_bytes_come_back_and_marks_do_not():
    tokens = Bytes().encode("naïve 7")
    assert min(tokens) > Bytes.end
    assert Bytes().decode([Bytes.pad, *tokens, Bytes.end, Bytes.pad]) == "naïve 7"


def test_words_are_numbered_by_frequency_and_unknown_ones_share_a_number():
    words = Words(["The cat, the dog", "the end"], size=6)
    assert list(words.ids) == ["the", ","]
    assert len(words) == 6
    assert words.encode("The cat", None, 8) == ([words.start, 4, words.unknown, words.end], [0, 0, 0, 0])


def test_of_two_texts_the_longer_one_loses_its_end():
    words = Words(["a b c d e f g"])
    tokens, segments = words.encode("a b c d e", "f g", 8)
    kept = [[words.ids[word] for word in text] for text in ("abc", "fg")]
    assert tokens == [words.start, *kept[0], words.end, *kept[1], words.end]
    assert segments == [0, 0, 0, 0, 0, 1, 1, 1]
    assert words.encode_pairs(["a", "b"], ["c", "d"], 8)[1] == words.encode("b", "d", 8)


def test_a_pretrained_tokenizer_comes_from_the_users_folder(tmp_path, monkeypatch):
    place = tmp_path / "bert"
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "."]))
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    (place / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setenv("RETABLE_WEIGHTS", str(tmp_path))
    tokenizer = PretrainedTokenizer("bert")
    assert tokenizer.pad == 0
    assert tokenizer.decode(tokenizer.encode("a cat sat")) == "a cat sat"
    assert tokenizer.encode_pairs(["a cat"], ["sat ."], 16) == [([2, 5, 6, 3, 7, 8, 3], [0] * 4 + [1] * 3)]
    assert tokenizer.encode_pairs(["a cat"], None, 3) == [([2, 5, 3], [0] * 3)]
