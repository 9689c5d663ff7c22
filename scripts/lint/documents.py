#!/usr/bin/env python3
"""Checks what the documents promise about the repository: scripts/lint/documents.py

  - paths in backticks and links lead to tracked files or folders;
  - `make TARGET` names a target;
  - numbers that repeat a constant of the code are that constant's (NUMBERS).
"""

from __future__ import annotations

import fnmatch
import pathlib
import re
import subprocess
import sys

# A document, a pattern with the number in it, and the constant it repeats with the folder that defines it. Spaces in a
# pattern stand for any space, so that a paragraph may be filled anew.
NUMBERS: list[tuple[str, str, str, str]] = [
]

FIELD = r"([\d,]+)"
SOURCES = (".rs", ".ts", ".svelte", ".proto", ".sh")


def documents(top: pathlib.Path) -> list[pathlib.Path]:
    return sorted([*top.glob("*.md"), *top.glob("docs/*.md"), *top.glob("ui/*.md")])


def tracked_paths(top: pathlib.Path) -> set[str]:
    """Every tracked file and the folders above it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=top, check=True, capture_output=True, text=True).stdout
    paths = set()
    for name in names.split("\0"):
        path = pathlib.PurePosixPath(name)
        paths |= {str(path), *(str(parent) for parent in path.parents)}
    return paths


def is_ignored(path: str, top: pathlib.Path) -> bool:
    """Whether git ignores the path: what is built has no tracked file."""
    return subprocess.run(["git", "check-ignore", "--quiet", path], cwd=top, check=False).returncode == 0


def wrong_paths(document: pathlib.Path, top: pathlib.Path, tracked: set[str]):
    """Paths that lead nowhere: those from the top level, names of sources, and links."""
    text = document.read_text(encoding="utf-8")
    folders = {path for path in tracked if "/" not in path}
    here = document.parent.relative_to(top)
    for path in re.findall(r"`([A-Za-z.][\w./*-]*)`", text):
        path = path.rstrip("/")
        if "/src/" in path or path.split("/")[0] in folders and "/" in path:
            found = any(fnmatch.fnmatchcase(one, path) for one in tracked) or is_ignored(path, top)
            if not found and str(here / path) not in tracked:
                yield path
        # A source may be named by the end of its path where the sentence before names the folder.
        elif path.endswith(SOURCES) and not any(f"/{one}".endswith(f"/{path}") for one in tracked):
            yield path
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if not (document.parent / path).exists():
            yield path


def targets(top: pathlib.Path) -> set[str]:
    """The names of make's targets, as make knows them."""
    command = ["make", "--print-data-base", "--question", "--no-builtin-rules", "help"]
    database = subprocess.run(command, cwd=top, capture_output=True, text=True).stdout
    return set(re.findall(r"^([a-z][\w-]*):", database, re.MULTILINE))


def wrong_targets(document: pathlib.Path, known: set[str]):
    text = document.read_text(encoding="utf-8")
    in_blocks = re.findall(r"^\s*make ([a-z][\w-]*)", text, re.MULTILINE)
    for name in [*re.findall(r"`make ([a-z][\w-]*)", text), *in_blocks]:
        if name not in known and f"{name}NAME" not in text:
            yield name


def constants(folder: pathlib.Path, name: str) -> set[int]:
    """The values a constant has in a folder's Rust files, where products of numbers are worked out."""
    found = set()
    for file in folder.rglob("*.rs"):
        for value in re.findall(rf"\bconst {name}: \w+ = ([^;]+);", file.read_text(encoding="utf-8")):
            digits = re.sub(r"\bas \w+|_|(?:u|i)(?:8|16|32|64|size)\b", "", value).strip()
            duration = re.fullmatch(r"Duration::from_\w+\((.*)\)", digits)
            digits = duration.group(1) if duration else digits
            if re.fullmatch(r"[\d\s*()+<-]+", digits):
                found.add(eval(digits, {"__builtins__": {}}))
    return found


def wrong_numbers(top: pathlib.Path):
    for name, pattern, folder, constant in NUMBERS:
        text = (top / name).read_text(encoding="utf-8")
        match = re.search(pattern.replace("#", FIELD).replace(" ", r"\s+"), text)
        values = constants(top / folder, constant)
        if not match:
            yield f"{name}: no sentence is like {pattern!r}; adapt NUMBERS of scripts/lint/documents.py"
        elif not values:
            yield f"{folder}: no constant {constant}; adapt NUMBERS of scripts/lint/documents.py"
        elif int(match.group(1).replace(",", "")) not in values:
            yield f"{name}: {match.group(0)!r}, but {constant} of {folder} is {sorted(values)}"


def main() -> int:
    top = pathlib.Path(__file__).resolve().parents[2]
    tracked, known = tracked_paths(top), targets(top)
    problems = list(wrong_numbers(top))
    for document in documents(top):
        name = document.relative_to(top)
        problems += [f"{name}: no such path: {path}" for path in wrong_paths(document, top, tracked)]
        problems += [f"{name}: no such target: make {target}" for target in wrong_targets(document, known)]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
