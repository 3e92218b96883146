#!/usr/bin/env python3
"""Groups of files that import each other in a circle, inside each crate.

    python3 scripts/circles.py [CRATE ...]

Reads `use` lines, and paths from `crate` or `super` in the code, as text. A name that a module re-exports counts as an import of the file that defines it; `mod` lines
are a list, not an import. Test modules are left out. Prints one line per group with its files, and how many there are.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def without_noise(text):
    """Code without comments, strings and what follows `#[cfg(test)]` in braces."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r'r#*".*?"#*|"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    while found := re.search(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?mod\s+\w+\s*\{", text):
        depth, at = 1, found.end()
        while at < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        text = text[: found.start()] + text[at:]
    return re.sub(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?(?:mod|use)[^;]*;", "", text)


def leaves(tree, prefix=()):
    """`a::{b, c::d as e}` as (path, name) pairs."""
    tree = tree.strip()
    if "{" in tree:
        head, rest = tree.split("{", 1)
        prefix = prefix + tuple(p for p in head.split("::") if p.strip())
        inner, depth, part = rest.rsplit("}", 1)[0], 0, ""
        for letter in inner + ",":
            if letter == "," and depth == 0:
                if part.strip():
                    yield from leaves(part, prefix)
                part = ""
                continue
            depth += {"{": 1, "}": -1}.get(letter, 0)
            part += letter
        return
    path, _, alias = tree.partition(" as ")
    path = prefix + tuple(p.strip() for p in path.split("::") if p.strip())
    if path and path[-1] == "self":
        path = path[:-1]
    yield path, alias.strip() or (path[-1] if path else "")


class Crate:
    def __init__(self, name, source):
        self.name, self.modules, self.uses = name, {}, {}
        for file in sorted(source.rglob("*.rs")):
            parts = list(file.relative_to(source).with_suffix("").parts)
            if parts[-1] in ("tests", "main") and len(parts) >= 1 and parts != ["main"]:
                continue
            if parts[-1] in ("mod", "lib"):
                parts.pop()
            if parts == ["main"]:
                parts = ["<main>"]
            self.modules[tuple(parts)] = file
        for module, file in self.modules.items():
            text = without_noise(file.read_text())
            found = re.findall(r"(?:(pub)(?:\([^)]*\))?\s+)?\buse\s+([^;]+);", text)
            inline = re.findall(r"\b(?:crate|super|robust)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", text))
            self.uses[module] = [(bool(p), *leaf) for p, tree in found for leaf in leaves(tree)]
            self.uses[module] += [(False, tuple(path.split("::")), "") for path in inline]

    def absolute(self, module, path):
        """A path as written in `module`, from the crate's root; None when it leads out of the crate."""
        first = path[0] if path else ""
        if first in ("crate", "robust") and (first == "crate" or self.name == "robust"):
            return tuple(path[1:])
        if first == "self":
            return module + tuple(path[1:])
        at = module
        while path and path[0] == "super":
            at, path = at[:-1], path[1:]
        if at != module or first == "super":
            return at + tuple(path)
        return module + tuple(path) if module + (first,) in self.modules else None

    def owner(self, path, depth=0):
        """The module that defines what `path` names, through re-exports."""
        for cut in range(len(path), -1, -1):
            module = path[:cut]
            if module not in self.modules:
                continue
            rest = path[cut:]
            if rest and depth < 8:
                for _, target, name in self.uses[module]:
                    if name == rest[0] and (there := self.absolute(module, target)) is not None and there != path:
                        return self.owner(there + rest[1:], depth + 1)
            return module
        return None

    def arrows(self):
        for module, uses in self.uses.items():
            to = set()
            for public, path, _ in uses:
                there = self.absolute(module, path)
                if there is None or (public and there[: len(module)] == module):
                    continue  # a re-export lists what lies below
                owner = self.owner(there)
                if owner is not None and owner != module:
                    to.add(owner)
            yield module, to


def groups(arrows):
    """Strongly connected sets of more than one module (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in arrows.get(v, ()):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == v:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for v in arrows:
        if v not in index:
            visit(v)
    return found


def main():
    sys.setrecursionlimit(10_000)
    crates = {"robust": ROOT / "src"}
    crates |= {p.parent.name: p.parent / "src" for p in sorted(ROOT.glob("*/Cargo.toml")) if (p.parent / "src").is_dir()}
    wanted = sys.argv[1:] or [c for c in crates if c != "fuzz"]
    total, largest = 0, 0
    for name in wanted:
        crate = Crate(name, crates[name])
        for group in sorted(groups(dict(crate.arrows())), key=len, reverse=True):
            total, largest = total + 1, max(largest, len(group))
            files = [str(crate.modules[m].relative_to(ROOT)) for m in group]
            print(f"{name}: {len(group)} files: {', '.join(files)}")
    print(f"{total} groups, the largest of {largest} files")


main()
