"""The command line: ``aiospinach``, which needs the extra ``cli``."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("cyclopts", "rich", "watchfiles")


def main() -> int:
    """Run the command in ``sys.argv``. Returns its exit code: 0 well, 1 not, 2 wrong usage, 3 unreachable."""
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        print(
            "aiospinach: the command line needs more packages: pip install 'aiospinach[cli]'", file=sys.stderr
        )
        return 2
    from .application import run

    return run(sys.argv[1:])
