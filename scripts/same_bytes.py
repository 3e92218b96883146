"""Whether two builds of `robust` write the same bytes.

    python3 scripts/same_bytes.py BEFORE AFTER [IMAGES] [WORK]

Runs a few small evaluations of the built-in network with both binaries and compares `outcomes.jsonl`, the evidence and
the summaries without their seconds. What the first binary wrote stays in WORK and is not made again. Exits with 1 where
anything differs. Interpreters round differently on different processors, so both must run on one machine.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

RUNS = {
    "autoattack": ["--attack", "autoattack-linf:eps=0.3"],
    "pgd": ["--attack", "pgd-linf:eps=0.3,restarts=2", "--attack", "pgd-l2:eps=1.5,target=next", "--evidence", "all"],
    "square": ["--attack", "square-linf:eps=0.3,queries=500"],
    "nearest": ["--attack", "fab-l2:eps=1,nearest=true,steps=20"],
}


def run(binary, out, images, attacks):
    if (out / "summary.json").exists():
        return
    command = [binary, "eval", "--model", "builtin:mnist-at", "--dataset", "builtin:mnist", "--limit", str(images)]
    subprocess.run(command + attacks + ["--out", str(out), "--no-progress", "--no-doctor"], check=True, capture_output=True)


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def content(out):
    files = {"outcomes.jsonl": out / "outcomes.jsonl", "curves.csv": out / "curves.csv"}
    files |= {str(p.relative_to(out)): p for p in sorted((out / "evidence").glob("*"))}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return found | {"summary.json": json.dumps(timeless(json.loads((out / "summary.json").read_text())))}


def main():
    before, after = sys.argv[1:3]
    images = int(sys.argv[3]) if len(sys.argv) > 3 else 16
    work = pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp())
    fresh = pathlib.Path(tempfile.mkdtemp())
    differ = 0
    for name, attacks in RUNS.items():
        old, new = work / f"{name}-{images}", fresh / name
        run(before, old, images, attacks)
        run(after, new, images, attacks)
        a, b = content(old), content(new)
        wrong = [file for file in sorted(a.keys() | b.keys()) if a.get(file) != b.get(file)]
        differ += len(wrong)
        print(f"{name}: {len(a)} files, " + (f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same"))
    sys.exit(1 if differ else 0)


main()
