#!/usr/bin/env python3
"""Checks that the imports of each crate point one way.

    scripts/lint/imports.py [--all] [CRATE-FOLDER...]

Without folders it checks every member of the workspace. `--all` prints every import inside a group that circles tie,
not just its shortest circle.

Two things are errors, each printed with the names that tie it:
  - a circle between files: each imports, over others or directly, what the other defines;
  - a circle between the modules of one folder: no order of them has all arrows pointing down, so one points upward.

A name counts where it is defined. Re-exports are followed through faces (`mod.rs`, `lib.rs`), and a face that only
passes a name on does not import it. Test code is left out.
"""

from __future__ import annotations

import collections
import pathlib
import re
import sys

from rust_source import PATH_STARTS, Module, crate

MAX_NAMES = 4


class Crate:
    """A crate's modules and the arrows between its files."""

    def __init__(self, root: pathlib.Path):
        self.root = crate(root)
        # Arrows from file to file, with the names that make each.
        self.arrows: dict[pathlib.Path, dict[pathlib.Path, set[str]]] = collections.defaultdict(dict)
        # Arrows between sibling modules, for each parent.
        self.siblings: dict[tuple[str, ...], dict[str, dict[str, set[str]]]] = {}
        for module in modules(self.root):
            self.read(module)

    def at(self, path: tuple[str, ...]) -> Module:
        module = self.root
        for name in path:
            module = module.children[name]
        return module

    def read(self, module: Module) -> None:
        """Adds the arrows of one module."""
        for use in module.uses:
            if use.name != "*" and use.public and use.name not in module.mentioned:
                continue
            if use.name == "*" and use.public:
                continue
            targets = [path for path in module.paths if path[0] == use.name and len(path) > 1]
            found = self.resolve(module, use.path, set())
            if found is None:
                continue
            target, item = found
            # A module that is imported is used by the items named through it.
            if item is None and targets and use.name != "*":
                for path in targets:
                    self.point(module, self.resolve_in(target, path[1:], set()), path[-1])
            else:
                self.point(module, found, use.name)
        for path in module.paths:
            if path[0] in PATH_STARTS or path[0] in module.children:
                self.point(module, self.resolve(module, path, set()), path[-1])

    def resolve(self, module: Module, path: tuple[str, ...], seen: set) -> tuple[Module, str | None] | None:
        """The module a path of `module` leads to and the item in it; `None` when it leads out of the crate."""
        at, rest = module, path
        if path[0] == "crate":
            at, rest = self.root, path[1:]
        elif path[0] in {"self", "super"}:
            while rest and rest[0] in {"self", "super"}:
                at = self.at(at.path[:-1]) if rest[0] == "super" else at
                rest = rest[1:]
        elif path[0] not in module.children:
            return None
        return self.resolve_in(at, rest, seen)

    def resolve_in(self, module: Module, path: tuple[str, ...], seen: set) -> tuple[Module, str | None]:
        """The same for a path that begins in `module`."""
        for index, name in enumerate(path):
            if name in module.children:
                module = module.children[name]
                continue
            rest = path[index + 1 :]
            if name not in module.defined:
                found = self.through(module, name, seen)
                if found:
                    origin, item = found
                    return self.resolve_in(origin, rest, seen) if item is None else found
            return module, name
        return module, None

    def through(self, module: Module, name: str, seen: set) -> tuple[Module, str | None] | None:
        """Where a name that `module` imports comes from."""
        if (module.path, name) in seen:
            return None
        seen.add((module.path, name))
        for use in module.uses:
            if use.name == name and use.path != (name,):
                return self.resolve(module, use.path, seen)
        for use in module.uses:
            if use.name == "*" and (found := self.resolve(module, use.path, seen)):
                origin, item = found
                if item is None and (name in origin.defined or name in origin.children):
                    return self.resolve_in(origin, (name,), seen)
        return None

    def point(self, module: Module, found: tuple[Module, str | None] | None, name: str) -> None:
        if found is None or found[0].file == module.file:
            return
        target = found[0]
        self.arrows[module.file].setdefault(target.file, set()).add(name)
        common = 0
        while module.path[common : common + 1] == target.path[common : common + 1] != ():
            common += 1
        if common < len(module.path) and common < len(target.path):
            level = self.siblings.setdefault(module.path[:common], {})
            level.setdefault(module.path[common], {}).setdefault(target.path[common], set()).add(name)


def modules(module: Module):
    """A module and everything below it."""
    yield module
    for child in module.children.values():
        yield from modules(child)


def groups(arrows: dict) -> list[set]:
    """The groups of nodes that reach each other and themselves."""
    reach = {start: reachable(arrows, start) for start in arrows}
    result, done = [], set()
    for start in sorted(arrows, key=str):
        group = {other for other in reach[start] if start in reach.get(other, ())}
        if start in group and start not in done:
            done |= group
            result.append(group)
    return result


def circle(arrows: dict, group: set) -> list:
    """The shortest circle of a group, its first node at both ends."""
    return min((shortest(arrows, node, group) for node in sorted(group, key=str)), key=len)


def reachable(arrows: dict, start) -> set:
    found, open_ends = set(), [start]
    while open_ends:
        for target in arrows.get(open_ends.pop(), ()):
            if target not in found:
                found.add(target)
                open_ends.append(target)
    return found


def shortest(arrows: dict, start, group: set) -> list:
    """The shortest way from `start` back to itself, both ends included."""
    ways = collections.deque([[start]])
    seen = set()
    while ways:
        way = ways.popleft()
        for target in sorted(arrows.get(way[-1], ()), key=str):
            if target == start:
                return [*way, start]
            if target in group and target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def described(arrows: dict, steps: list[tuple], show) -> list[str]:
    """Each step with the names that make it."""
    lines = []
    for here, there in steps:
        names = sorted(arrows[here][there])
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        lines.append(f"    {show(here)} imports {', '.join(names[:MAX_NAMES])}{more} from {show(there)}")
    return lines


def steps(arrows: dict, group: set, everything: bool) -> list[tuple]:
    """The arrows of a group's shortest circle, or all of them."""
    if everything:
        inside = ((here, there) for here in group for there in arrows[here] if there in group)
        return sorted(inside, key=str)
    shortest_circle = circle(arrows, group)
    return list(zip(shortest_circle, shortest_circle[1:]))


def check(root: pathlib.Path, top: pathlib.Path, everything: bool = False) -> list[str]:
    """What is wrong in the crate of `root`, as text."""
    found = Crate(root)
    paths = {module.file: module.path for module in reversed(list(modules(found.root)))}
    problems = []

    def add(title: str, arrows: dict, group: set, show) -> None:
        among = "all" if everything else "the shortest"
        more = f" ({among} among {len(group)})" if len(group) > 2 else ""
        heading = f"{root.relative_to(top)}: {title}{more}:"
        problems.append("\n".join([heading, *described(arrows, steps(arrows, group, everything), show)]))

    of_files = groups(found.arrows)
    for group in of_files:
        add("files in a circle", found.arrows, group, lambda path: str(path.relative_to(top)))
    for parent, arrows in sorted(found.siblings.items()):
        depth = len(parent)
        for group in groups(arrows):
            # Files in a circle put their modules in one, too.
            if any(group <= {paths[file][depth] for file in files if len(paths[file]) > depth} for files in of_files):
                continue
            place = "::".join(("crate", *parent))
            add(f"an arrow points upward: modules of {place} in a circle", arrows, group, str)
    return problems


def roots(folder: pathlib.Path):
    """The crates of a package: its library, its program and those of `src/bin`."""
    source = folder / "src"
    for name in ("lib.rs", "main.rs"):
        if (source / name).is_file():
            yield source / name
    yield from sorted(source.glob("bin/*.rs"))
    yield from sorted(source.glob("bin/*/main.rs"))


def members(top: pathlib.Path) -> list[pathlib.Path]:
    text = (top / "Cargo.toml").read_text(encoding="utf-8")
    listed = re.search(r"^members = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    return [top / name for name in re.findall(r'"([^"]+)"', listed.group(1))]


def main() -> int:
    top = pathlib.Path(__file__).resolve().parents[2]
    arguments = sys.argv[1:]
    everything = "--all" in arguments
    folders = [pathlib.Path(name).resolve() for name in arguments if name != "--all"] or members(top)
    problems = [problem for folder in folders for root in roots(folder) for problem in check(root, top, everything)]
    if problems:
        print("\n".join(problems))
        print(f"imports: {len(problems)} circles")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
