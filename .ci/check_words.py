"""Refuses words that this project does not use in code, comments, messages and documentation. Run by `make check`.

Prints each line that has one, with what to write instead, and a count for each folder.
"""

# ruff: noqa: INP001 - a script

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOOKED_AT = ("edge_agent", "docs", "deploy", "systemd", ":(glob)*.md")
# A word, and what to write instead.
WORDS = {
    r"told": "reported, published, logged, printed, informed",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"whoever": "the caller, the client, the user",
    r"lets? go( of)?": "release, close",
    r"so many": "N, up to N, that many",
    r"so long(?! (as|that))": "N seconds, for this long",
    r"likewise": "the same, too",
    r"says? of (it|them)sel(f|ves)": "states, reports",
    r"without a word": "silently",
    r"misfits?": "incompatibility",
}
# Where a word is meant as everybody means it: a part of the file's path, and of the line.
ALLOWED = (("CHANGELOG.md", "`mend` in"),)

_WORD = re.compile(rf"\b({'|'.join(f'(?:{word})' for word in WORDS)})\b", re.IGNORECASE)


def instead_of(word: str) -> str:
    """What to write in place of a word that was found."""
    return next(instead for known, instead in WORDS.items() if re.fullmatch(known, word, re.IGNORECASE))


def main() -> int:
    """Returns the exit code."""
    command = ["git", "ls-files", "--", *LOOKED_AT]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603 - a fixed command
    counts = Counter[str]()
    for name in names:
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        for number, line in enumerate(lines, 1):
            found = _WORD.search(line)
            if found and not any(part in name and text in line for part, text in ALLOWED):
                print(f"{name}:{number}: {found[0]!r}: write: {instead_of(found[0])}")
                counts[str(Path(name).parent)] += 1
    for folder, count in sorted(counts.items()):
        print(f"{count:4}  {folder}")
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
