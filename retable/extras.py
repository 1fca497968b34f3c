"""Which extra a missing package belongs to, as the installed metadata say."""

import re
from importlib.metadata import PackageNotFoundError, requires

# Import name -> distribution, where they differ.
DISTRIBUTIONS = {"yaml": "pyyaml", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python", "PIL": "pillow"}
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*?extra\s*==\s*['\"]([\w-]+)['\"]")


def remedy(error: ModuleNotFoundError) -> str | None:
    """A line that says what to install for a module of others that is not here; None if no extra has it."""
    top = (error.name or "").partition(".")[0]
    wanted = DISTRIBUTIONS.get(top, top).replace("_", "-").lower()
    for extra, names in extras().items():
        if wanted in names:
            return f"{wanted} is not installed: pip install 'retable[{extra}]' (or the extra `all`)"
    return None


def extras() -> dict[str, set[str]]:
    """Extra -> distributions, in the order of pyproject.toml; without those that only name other extras."""
    try:
        lines = requires("retable") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, set[str]] = {}
    for line in lines:
        if match := REQUIREMENT.match(line):
            found.setdefault(match[2], set()).add(match[1].replace("_", "-").lower())
    return found
