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

# A sentence of the documents, in which `#` stands for the number with its unit and a space for any space; the constant
# or default that the number repeats; and the folder whose Rust files define it. The sentence may be in any document.
NUMBERS = [
    ("except the # used last", "max_awake", "vmm/src/net/tcp"),
    ("The limits are # flows", "max_flows", "vmm/src/net/tcp"),
    ("At # flows the one closest", "MAX_FLOWS", "vmm/src/net"),
    ("unanswered flow expires after #", "UNANSWERED", "vmm/src/net"),
    ("an answered one after #", "ANSWERED", "vmm/src/net"),
    ("reassembled, at most # at once", "MAX_PACKETS", "vmm/src/net"),
    ("for at most # each", "PATIENCE", "vmm/src/net"),
    ("A resolver has #", "PATIENCE", "vmm/src/net/dns"),
    ("At most # queries run", "MAX_PENDING", "vmm/src/net/dns"),
    ("and # connections over TCP", "MAX_STREAMS", "vmm/src/net"),
    ("A machine has at most #;", "MAX_SESSIONS", "vmm/src/net/publications"),
    ("a session ends after #", "IDLE", "vmm/src/net/publications"),
    ("rotates to `console.log.1` at #", "MAX_LOG_BYTES", "vmm/src/console"),
    ("`console.log` rotates at #", "MAX_LOG_BYTES", "vmm/src/console"),
    ("- # streams. Further", "MAX_STREAMS", "vmm/src/devices/vsock"),
    ("- # connections that have not yet sent `CONNECT`", "MAX_HANDSHAKES", "vmm/src/devices/vsock"),
    ("daemon.log.old, at most # each", "LIMIT", "app/engine/src/daemon"),
    ("Connections to containers are kept for #", "KEPT", "app/engine/src/routes"),
    ("The limits are # connections", "CONNECTIONS", "app/engine/src/routes"),
    ("heads of #", "MAX_HEAD", "app/engine/src/routes"),
    ("and # fields", "MAX_FIELDS", "app/engine/src/routes"),
    ("must stay below # bytes", "SOCKET_PATH_LIMIT", "app/engine/src"),
    ("batched over #", "TOGETHER", "app/backend/src"),
    ("in a channel of #", "MAX_WAITING", "app/backend/src/stream"),
    ("a page is slow: # lines wait", "WAITING", "app/backend/src"),
    ("in a queue of at most # per page", "MAX_QUEUED", "app/backend/src/stream"),
    ("at most # browsers", "SESSIONS", "app/cli/src/web"),
    ("shows its first # entries", "MOST", "app/backend/src/files"),
    ("The last # builds are kept", "BUILDS", "app/backend/src/build"),
    ("lists up to # running containers", "MOST_CONTAINERS", "app/desktop/src"),
    ("A request has at most #", "MAX_REQUEST_BYTES", "vmm/protocol/src"),
]

NUMBER = r"(\d[\d,]*(?:\.\d+)?)(?:\s+(KiB|MiB|ms|s)\b)?"
UNITS = {None: 1, "": 1, "KiB": 1 << 10, "MiB": 1 << 20, "ms": 0.001, "s": 1}
DURATIONS = {"secs": 1, "mins": 60, "millis": 0.001, "hours": 3600}
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


def values(folder: pathlib.Path, name: str) -> set[float]:
    """The values that a constant, or a field with a default, has in a folder's Rust files; durations in seconds."""
    found = set()
    for file in folder.rglob("*.rs"):
        text = file.read_text(encoding="utf-8")
        for value in re.findall(rf"\b{name}(?:: [^=;,]+ = |: )([^;,{{}}]+)[;,]", text):
            duration = re.fullmatch(r"Duration::from_(\w+)\((.*)\)", value)
            unit, digits = (DURATIONS[duration[1]], duration[2]) if duration else (1, value)
            digits = digits.replace("_", "")
            if re.fullmatch(r"[\d\s*+<-]+", digits):
                found.add(unit * eval(digits, {"__builtins__": {}}))
    return found


def wrong_numbers(top: pathlib.Path):
    texts = {document: document.read_text(encoding="utf-8") for document in documents(top)}
    for sentence, name, folder in NUMBERS:
        pattern = re.escape(sentence).replace("\\#", NUMBER).replace("\\ ", r"\s+")
        matches = [(document, match) for document, text in texts.items() for match in re.finditer(pattern, text)]
        known = values(top / folder, name)
        if not matches or not known:
            what = "no document has it" if not matches else f"{folder} has no {name}"
            yield f"scripts/lint/documents.py: adapt the entry {sentence!r}: {what}"
        for document, match in matches:
            number = float(match[1].replace(",", "")) * UNITS[match[2]]
            if known and not any(abs(number - value) < 1e-9 for value in known):
                shown = " ".join(match[0].split())
                yield f"{document.relative_to(top)}: {shown!r}, but {name} of {folder} is {sorted(known)}"


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
