"""The benchmarks run, keep what they measured, and judge every target by it; no time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def judged(code):
    """Run a line of Python with the targets at hand: benchmarks are no installed package."""
    head = "from benchmarks.targets import *\nfrom benchmarks.harness import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + code], cwd=HOME, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_run_keeps_its_figures_and_prints_verdicts(tmp_path):
    """Every comparison is in the JSON file and in the table, every target says met or missed."""
    out = tmp_path / "figures.json"
    done = run(
        "lookups", "refresh", "--quick", "--rows", 240, "--peers", "sqlite3",
        "--json", out, "--scratch", tmp_path,
    )  # fmt: skip
    kept = json.loads(out.read_bytes())
    assert "pyarrow" in kept["environment"]
    found = {(each["work"], each["who"]): each for each in kept["measurements"]}
    for work in ("get by name", "find by definition hash", "newest ready embedding"):
        for who in ("jammi_files", "sqlite3"):
            each = found[work, who]
            assert each["rows"] == 240
            assert 0 < each["p50"] <= each["p90"] <= each["p99"] <= each["worst"]
        assert work in done.stdout
    verdicts = [line for line in done.stdout.splitlines() if line.startswith(("met", "MISSED"))]
    assert len(verdicts) == 7
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_requests_are_counted(tmp_path):
    """A commit of ours is one write in a bucket, as FORMAT says; the table shows it."""
    out = tmp_path / "figures.json"
    done = run("requests", "--quick", "--peers", "--json", out, "--scratch", tmp_path)
    counted = {each["work"]: each for each in json.loads(out.read_bytes())["requests"]}
    assert set(counted) == {"create one row", "promote one row", "open and get one row"}
    for work in ("create one row", "promote one row"):
        assert [counted[work][kind] for kind in ("writes", "reads", "lists")] == [1, 0, 0]
        assert 0 < counted[work]["bytes"] < 16_384
    assert counted["open and get one row"]["writes"] == 0
    assert "create one row             jammi_files       1      0      0" in done.stdout


def test_verdicts():
    """A bound is met on its own side only, for each of the three relations."""
    code = """
def at(value): return Timing(value, value, value, value, 1)
def judge_one(target, ours, theirs):
    found = [Measurement("w", 5, "jammi_files", at(ours)), Measurement("w", 5, "x", at(theirs))]
    import benchmarks.targets as t
    t.TARGETS = (target,)
    return [(v.is_met, v.figure) for v in t.judge(found)]
print(judge_one(Target("w", "faster", 4, "x"), 10, 40), judge_one(Target("w", "faster", 4, "x"), 10, 39))
print(judge_one(Target("w", "within", 2, "x"), 20, 10), judge_one(Target("w", "within", 2, "x"), 21, 10))
print(judge_one(Target("w", "below", 9), 9, 1), judge_one(Target("w", "below", 9), 10, 1))
print(judge_one(Target("w", "faster", 4, "absent"), 1, 1), judge_one(Target("w", "below", 4, rows=6), 1, 1))
"""  # noqa: E501 - a program
    assert judged(code) == [
        "[(True, 4.0)] [(False, 3.9)]",
        "[(True, 2.0)] [(False, 2.1)]",
        "[(True, 9.0)] [(False, 10.0)]",
        "[] []",
    ]


def test_systems_are_called_in_turn():
    """One call of each system and then the next; whoever has used its time up sits out."""
    code = """
seen = []
def slow(n): seen.append("s"); __import__("time").sleep(0.01)
found = measure_in_turn({"a": lambda n: seen.append("a"), "s": slow}, times=9, seconds=0.02, warm_up=1)
print("".join(seen)[:8], found["a"].times, found["s"].times)
"""  # noqa: E501 - a program
    (line,) = judged(code)
    order, quick, slow = line.split()
    assert order == "asasasas"
    assert int(quick) == 9
    assert int(slow) == 3
