"""Follows the examples of CONTRIBUTING.md to the letter, in a clone, and says whether each is true.

    python3 scripts/follow_contributing.py [CLONE] [--each] [--tables]

Reads the CONTRIBUTING.md of the repository that it lies in, clones what is committed there into CLONE/robust (a temporary folder if
none is named), writes each example's new file, inserts each index line after the line that the text names, and checks that the files
which git then calls changed are those of the example's "Touches", and no others. Then everything is formatted as rustfmt wants
it, compiles, and the tests that the examples name pass. With --each every example is compiled and tested alone; with --tables the command
that writes the pages' tables is run too, and must change just the pages that the text names.

CARGO_TARGET_DIR may name a build folder to go on with. CARGO may be a command with arguments (`nice cargo`). Prints a line per example;
exits with 1 where one is untrue.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
CARGO = shlex.split(os.environ.get("CARGO", "cargo"))
TABLES = "ROBUST_BLESS=1 cargo test --test cli docs"


class Example:
    """A section `## Add ...`: files it says, files and lines it gives, tests it names."""

    def __init__(self, title, text):
        self.title = title
        touches = re.search(r"^Touches (.*?)\n\n", text, re.M | re.S)
        if not touches:
            raise SystemExit(f"{title}: no line says which files it touches")
        by_hand, _, by_command = touches[1].partition("a command writes")
        self.touches = set(re.findall(r"`([^`]+)`", by_hand))
        self.pages = set(re.findall(r"`([^`]+)`", by_command))
        self.files = re.findall(r"^New file `([^`]+)`:\n\n```rust\n(.*?)^```$", text, re.M | re.S)
        self.lines = re.findall(r"^In `([^`]+)`, after `([^`]+)`:\n\n```rust\n(.*?)^```$", text, re.M | re.S)
        self.tests = re.findall(r"`cargo test (--workspace --lib|--example \w+) (\w+)`", text)
        if not self.files or not self.tests:
            raise SystemExit(f"{title}: it has no new file, or names no test")
        if bool(self.pages) != (f"`{TABLES}`" in text):
            raise SystemExit(f"{title}: a page and the command that writes it go together")


def examples():
    parts = re.split(r"^## (.*)$", (HERE / "CONTRIBUTING.md").read_text(), flags=re.M)
    found = zip(parts[1::2], parts[2::2])
    return [Example(title, text) for title, text in found if title.startswith("Add ")]


def git(clone, *arguments):
    done = subprocess.run(["git", "-C", clone, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def changed(clone):
    lines = git(clone, "status", "--porcelain", "--untracked-files=all").splitlines()
    return {line[3:] for line in lines}


def insert(path, after, block):
    """Below the only line of the file that reads so, and as far in."""
    lines = path.read_text().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.strip() == after]
    if len(places) != 1:
        return f"{path.name} has {len(places)} lines `{after}`"
    line = lines[places[0]]
    indent = line[: len(line) - len(line.lstrip())]
    lines[places[0] + 1 : places[0] + 1] = [indent + new for new in block.splitlines(keepends=True)]
    path.write_text("".join(lines))
    return None


def follow(clone, example):
    """What is wrong, in words."""
    before = changed(clone)
    wrong = []
    for name, text in example.files:
        path = clone / name
        if path.exists():
            wrong.append(f"{name} is there already")
        path.write_text(text)
    for name, after, block in example.lines:
        fault = insert(clone / name, after, block)
        wrong += [fault] if fault else []
    # Two examples may touch one file: what each writes is known, and git must know of nothing else.
    written = {name for name, _ in example.files} | {name for name, _, _ in example.lines}
    if written != example.touches:
        wrong.append(f"the text says {sorted(example.touches)}, its blocks are for {sorted(written)}")
    beside = changed(clone) - before - example.touches
    missing = example.touches - changed(clone)
    wrong += [f"touched beside: {sorted(beside)}"] if beside else []
    wrong += [f"not touched: {sorted(missing)}"] if missing else []
    return wrong


def cargo(clone, *arguments, **environment):
    """Whether it succeeded, and what it said."""
    command = [*CARGO, *arguments]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, env=os.environ | environment)
    return (done.returncode == 0, done.stdout + done.stderr)


def compiles(clone):
    for step in (["fmt", "--all", "--check"], ["check", "--workspace", "--all-targets"]):
        fine, said = cargo(clone, *step)
        if not fine:
            return [f"cargo {' '.join(step)} fails:\n{said[-6000:]}"]
    return []


def tested(clone, some):
    """By example, whether each of its tests ran and passed."""
    names = {name for e in some for _, name in e.tests}
    places = sorted({place.removeprefix("--workspace ") for e in some for place, _ in e.tests})
    targets = " ".join(["--workspace", *places]).split()
    # A failure in one crate must not keep the others from being tried.
    _, said = cargo(clone, "test", *targets, "--no-fail-fast", "--", *sorted(names))
    passed = {name for name in names if re.search(rf"^test (?:\S+::)?{name} \.\.\. ok$", said, re.M)}
    faults = {e.title: [f"test {n} did not pass" for _, n in e.tests if n not in passed] for e in some}
    return faults, "" if passed == names else said[-6000:]


def tables(clone, some, written):
    pages = set().union(*(e.pages for e in some))
    fine, said = cargo(clone, "test", "--test", "cli", "docs", ROBUST_BLESS="1")
    if not fine:
        return [f"{TABLES} fails:\n{said[-6000:]}"]
    found = changed(clone) - written
    return [] if found == pages else [f"the tables changed {sorted(found)}, the text says {sorted(pages)}"]


def main():
    options = {a for a in sys.argv[1:] if a.startswith("--")}
    if options - {"--each", "--tables"}:
        raise SystemExit(__doc__)
    places = [a for a in sys.argv[1:] if not a.startswith("--")]
    clone = pathlib.Path(places[0] if places else tempfile.mkdtemp()).resolve() / "robust"
    subprocess.run(["git", "clone", "--quiet", str(HERE), str(clone)], check=True)
    all_of_them = examples()
    groups = [[e] for e in all_of_them] if "--each" in options else [all_of_them]
    failed = False
    for group in groups:
        if "--each" in options:
            git(clone, "reset", "--quiet", "--hard")
            git(clone, "clean", "--quiet", "-fd", "-e", "target")
        faults = {e.title: follow(clone, e) for e in group}
        common = compiles(clone)
        said = ""
        if not common:
            found, said = tested(clone, group)
            faults = {title: wrong + found[title] for title, wrong in faults.items()}
            # What was compiled and run has left nothing behind either.
            left = changed(clone) - set().union(*(e.touches for e in group))
            common += [f"left behind: {sorted(left)}"] if left else []
            if "--tables" in options and not common:
                common += tables(clone, group, changed(clone))
        for e in group:
            wrong = faults[e.title]
            files = ", ".join(sorted(e.touches)) + "".join(f" (and {page} by the command)" for page in sorted(e.pages))
            state = "; ".join(wrong) if wrong else "not compiled or not clean" if common else "ok"
            print(f"{e.title}: {files}: {state}", flush=True)
            failed |= bool(wrong or common)
        for text in [*common, said]:
            if text:
                print(text, flush=True)
    sys.exit(1 if failed else 0)


main()
