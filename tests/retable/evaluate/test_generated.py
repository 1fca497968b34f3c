import pytest

from retable.evaluate.generated import final_number, until_stop


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2+2=<<2+2=4>>4\n#### 4", "4"),
        ("It costs $1,234,567 in all.", "1234567"),
        ("-3.5 degrees", "-3.5"),
        ("The answer is 18.", "18"),
        ("no number", ""),
    ],
)
def test_an_answer_is_its_last_number(text, number):
    assert final_number(text) == number


def test_a_function_ends_where_something_else_begins():
    assert until_stop("    return 1\n\ndef g():\nclass A") == "    return 1\n"
    assert until_stop("    if x:\n        return 1") == "    if x:\n        return 1"
