import pytest

from retable.data.containers import DataError
from retable.data.pretrained import pretrained_folder


def test_missing_weights_are_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("RETABLE_WEIGHTS", raising=False)
    with pytest.raises(DataError, match="no pretrained weights of albert-base-v2: set RETABLE_WEIGHTS") as raised:
        pretrained_folder("albert-base-v2")
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("RETABLE_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="to a folder that holds albert-base-v2/ with"):
        pretrained_folder("albert-base-v2")


def test_the_folder_is_the_models_own(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    monkeypatch.setenv("RETABLE_WEIGHTS", str(tmp_path))
    assert pretrained_folder("m") == tmp_path / "m"
