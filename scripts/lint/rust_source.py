"""Reads Rust source as far as `imports` needs it: tokens, modules, the names each defines, and the paths each uses.

This is no Rust parser. It knows comments, strings, attributes, braces, `mod`, `use` and the items that have names;
everything else is tokens in which paths such as `crate::net::Frame` are found.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re

TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>//[^\n]*)
    | (?P<block>/\*)
    | (?P<raw>(?:b|c)?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>(?:b|c)?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\\'\n])')
    | (?P<lifetime>'[A-Za-z_]\w*)
    | (?P<name>(?:r\#)?[A-Za-z_]\w*)
    | (?P<number>\d[\w]*)
    | (?P<path>::)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
SKIPPED = {"space", "comment", "raw", "string", "char", "lifetime", "number"}
NAMED_ITEMS = {"fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"}
CLOSING = {"(": ")", "[": "]", "{": "}"}
PATH_STARTS = {"crate", "super", "self"}


def tokens(text: str) -> list[str]:
    """The names and punctuation of a source text, without comments, literals and lifetimes."""
    result = []
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match["block"]:
            at = _after_block_comment(text, at)
            continue
        at = match.end()
        kind = next(name for name in ("raw", *TOKEN.groupindex) if name != "hashes" and match.group(name) is not None)
        if kind not in SKIPPED:
            result.append(match.group().removeprefix("r#"))
    return result


def _after_block_comment(text: str, at: int) -> int:
    """Block comments nest."""
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if depth == 0:
                return at
        else:
            at += 1
    return at


@dataclasses.dataclass(frozen=True)
class Use:
    """One leaf of a `use` declaration: `path` bound to `name`, which is `*` for a glob."""

    path: tuple[str, ...]
    name: str
    public: bool


@dataclasses.dataclass
class Module:
    """A module: the file its text is in, what it declares and what it uses, tests left out."""

    path: tuple[str, ...]
    file: pathlib.Path
    children: dict[str, "Module"] = dataclasses.field(default_factory=dict)
    defined: set[str] = dataclasses.field(default_factory=set)
    uses: list[Use] = dataclasses.field(default_factory=list)
    # Paths written out in code, each at least two names long.
    paths: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    # Names that stand in code outside of `use` declarations.
    mentioned: set[str] = dataclasses.field(default_factory=set)


def crate(root: pathlib.Path) -> Module:
    """The module tree of a crate, from its `lib.rs`, `main.rs` or the like."""
    module = Module((), root)
    _Reader(tokens(root.read_text(encoding="utf-8")), module, root.parent).items()
    return module


def without_self(path: tuple[str, ...]) -> tuple[str, ...]:
    """`a::{self}` names `a`."""
    return path[:-1] if len(path) > 1 and path[-1] == "self" else path


class _Reader:
    """Walks the tokens of one module."""

    def __init__(self, source: list[str], module: Module, folder: pathlib.Path):
        self.source = source
        self.module = module
        # Where the files of child modules lie.
        self.folder = folder

    def items(self) -> None:
        at, public, end = 0, False, len(self.source)
        while at < end:
            token = self.source[at]
            if token == "#":
                at, test = self.attribute(at)
                if test:
                    at = self.after_item(at)
            elif token == "pub":
                public = True
                at += 1
                if at < end and self.source[at] == "(" and self.source[at + 1] in {"crate", "super", "self", "in"}:
                    at = self.after_group(at)
            elif token == "use" and self.starts_item(at):
                at = self.use(at + 1, public)
                public = False
            elif token == "mod" and at + 2 < end and self.source[at + 2] in {";", "{"}:
                at = self.child(at)
                public = False
            else:
                at = self.code(at)
                public = False

    def attribute(self, at: int) -> tuple[int, bool]:
        """After the attribute at `at`, and whether it keeps the next item for tests."""
        start = at + 2 if self.source[at + 1 : at + 2] == ["!"] else at + 1
        if start >= len(self.source) or self.source[start] != "[":
            return at + 1, False
        end = self.after_group(start)
        body = self.source[start + 1 : end - 1]
        inner = start == at + 2
        test = body[:1] == ["cfg"] and "test" in body and "not" not in body
        return (len(self.source), False) if test and inner else (end, test)

    def after_item(self, at: int) -> int:
        """After the item at `at`: its semicolon or its body, with all attributes before it."""
        while at < len(self.source):
            if self.source[at] == "#":
                at, _ = self.attribute(at)
                continue
            if self.source[at] in {";", ","}:
                return at + 1
            if self.source[at] == "{":
                return self.after_group(at)
            if self.source[at] == "}":
                return at
            at = self.after_group(at) if self.source[at] in CLOSING else at + 1
        return at

    def after_group(self, at: int) -> int:
        """After the bracket that closes the one at `at`."""
        depth = 0
        while at < len(self.source):
            if self.source[at] in CLOSING:
                depth += 1
            elif self.source[at] in CLOSING.values():
                depth -= 1
                if depth == 0:
                    return at + 1
            at += 1
        return at

    def starts_item(self, at: int) -> bool:
        """Whether the `use` at `at` is a declaration and not a bound such as `impl Trait + use<'a>`."""
        return self.source[at + 1 : at + 2] != ["<"]

    def use(self, at: int, public: bool) -> int:
        if self.source[at] == "::":
            return self.after_item(at)
        return self.use_tree(at, (), public) + 1

    def use_tree(self, at: int, prefix: tuple[str, ...], public: bool) -> int:
        """Reads one tree of a `use` declaration; returns where it ends."""
        path = prefix
        while at < len(self.source):
            token = self.source[at]
            if token == "{":
                at += 1
                while self.source[at] != "}":
                    at = self.use_tree(at, path, public)
                    if self.source[at] == ",":
                        at += 1
                return at + 1
            if token in {";", ",", "}"}:
                break
            if token == "as":
                self.module.uses.append(Use(without_self(path), self.source[at + 1], public))
                return at + 2
            if token != "::":
                path += (token,)
            at += 1
        if path == prefix:
            return at
        if path[-1] == "*":
            self.module.uses.append(Use(path[:-1], "*", public))
        else:
            path = without_self(path)
            self.module.uses.append(Use(path, path[-1], public))
        return at

    def child(self, at: int) -> int:
        name = self.source[at + 1]
        path = (*self.module.path, name)
        if self.source[at + 2] == "{":
            end = self.after_group(at + 2)
            module = Module(path, self.module.file)
            _Reader(self.source[at + 3 : end - 1], module, self.folder / name).items()
            self.module.children[name] = module
            return end
        for file, folder in (
            (self.folder / f"{name}.rs", self.folder / name),
            (self.folder / name / "mod.rs", self.folder / name),
        ):
            if file.is_file():
                module = Module(path, file)
                _Reader(tokens(file.read_text(encoding="utf-8")), module, folder).items()
                self.module.children[name] = module
                break
        return at + 3

    def code(self, at: int) -> int:
        """Reads one token of code, or one path."""
        token = self.source[at]
        if token in NAMED_ITEMS:
            following = at + 2 if self.source[at + 1 : at + 2] == ["!"] else at + 1
            # `const fn` and `unsafe` blocks name nothing by themselves.
            if following < len(self.source) and self.source[following] not in NAMED_ITEMS:
                self.module.defined.add(self.source[following])
            return at + 1
        if not (token[0].isalpha() or token[0] == "_"):
            return at + 1
        before = self.source[at - 1 : at] if at else []
        path = [token]
        while self.source[at + 1 : at + 2] == ["::"] and at + 2 < len(self.source) and self.is_name(at + 2):
            path.append(self.source[at + 2])
            at += 2
        # `$crate` belongs to whoever uses the macro.
        if before not in (["$"], ["::"], ["."]):
            self.module.mentioned.add(path[0])
            if len(path) > 1:
                self.module.paths.append(tuple(path))
        return at + 1

    def is_name(self, at: int) -> bool:
        first = self.source[at][0]
        return first.isalpha() or first == "_"
