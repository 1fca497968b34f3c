"""Small files for readers, made up in a test."""

import pytest


@pytest.fixture
def write(tmp_path, make_card, entry):
    """Write files and return the card that pins them."""

    def write(contents: dict[str, bytes], **fields):
        files = []
        for path, content in contents.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
            files.append(entry(path, content, url="https://example.org"))
        return make_card(*files, **fields)

    return write
