#!/usr/bin/env python3
"""Checks that no line of a tracked source file, comments included, is longer than 120 columns.

    scripts/lint/columns.py            every offender, as FILE:LINE: LENGTH
    scripts/lint/columns.py --count    the number of offenders in each folder of the top level

rustfmt and Prettier break code but neither comments nor strings, so this check reads every line.
"""

import collections
import pathlib
import subprocess
import sys

LIMIT = 120
SUFFIXES = {".rs", ".c", ".h", ".ts", ".js", ".svelte", ".css", ".sh", ".bash", ".proto", ".toml", ".mk", ".py", ".yml"}
NAMES = {"Makefile"}
# Written by `make types`; its lines are as long as the doc comments of the contract.
GENERATED = {"ui/src/lib/backend/generated/contract.ts"}


def is_source(path: pathlib.Path) -> bool:
    """Whether the file's name or its shebang marks it as source."""
    if path.suffix in SUFFIXES or path.name in NAMES:
        return True
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def offenders(path: pathlib.Path):
    """Numbers and lengths, in characters, of the lines that are too long."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if len(line) > LIMIT:
            yield number, len(line)


def main() -> int:
    tracked = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    paths = [pathlib.Path(name) for name in tracked.split("\0") if name and name not in GENERATED]
    found = [
        (path, number, length)
        for path in paths
        if path.is_file() and not path.is_symlink() and is_source(path)
        for number, length in offenders(path)
    ]
    if "--count" in sys.argv[1:]:
        counts = collections.Counter(path.parts[0] for path, _, _ in found)
        for folder, count in counts.most_common():
            print(f"{count:5} {folder}")
    else:
        for path, number, length in found:
            print(f"{path}:{number}: {length} columns, {LIMIT} at most")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
