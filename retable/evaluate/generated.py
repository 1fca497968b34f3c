"""What of a text that a model wrote counts as its answer."""

import re

# A function ends where something else begins: the stops of the common evaluation harness for HumanEval.
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


def final_number(text: str) -> str:
    """The last number of a text, without thousands' commas; "" if it has none. GSM8K answers end in theirs."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return found[-1].replace(",", "") if found else ""


def until_stop(text: str) -> str:
    """A text up to the first of STOPS."""
    return text[: min((index for stop in STOPS if (index := text.find(stop)) >= 0), default=len(text))]
