"""What is kept of a run: one JSON file per scenario; and the report that is made of them."""
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

# A ratio has moved when it is that far from the report's and the rounds of the two do not overlap.
MOVED = 0.03


def environment(program: str, given) -> dict:
    """Machine, versions and the command: with them a figure means something."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1])
    tree = pathlib.Path(__file__).resolve().parent
    commit = subprocess.run(["git", "-C", tree, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {"gimlet": commit.stdout.strip() or "unknown", "program_bytes": os.path.getsize(program),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "machine": model, "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory / (1 << 20), 1), "kernel": platform.release(), "python": platform.python_version(),
            "load_average": os.getloadavg()[0], "command": "perf/run.sh " + " ".join(sys.argv[2:]), "quick": given.quick}


def save(result: dict, path: pathlib.Path):
    """One row a line: a change of a figure is a change of a line."""
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in result["rows"])
    rest = json.dumps({**result, "rows": []}, ensure_ascii=False, indent=1)
    path.write_text(rest.replace('"rows": []', f'"rows": [\n  {rows}\n ]') + "\n")


def load_all(folder: pathlib.Path) -> dict:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def compare_with_last(results: dict, folder: pathlib.Path):
    """Prints the ratios of this run beside the committed report's, and which have moved."""
    last, moved = load_all(folder), 0
    print("\n  Against the last report\n")
    print(f"  {'':8} {'case':22} {'subject':18} {'report':>7} {'now':>7}")
    for name, result in results.items():
        before = {(row["case"], row["subject"]): row["ratio"]["cpu"] for row in last.get(name, {}).get("rows", []) if "ratio" in row}
        for row in result["rows"]:
            old, new = before.get((row["case"], row["subject"])), row.get("ratio", {}).get("cpu")
            if old is None or new is None:
                continue
            apart = new[1] > old[2] or old[1] > new[2]
            beyond = apart and abs(new[0] / old[0] - 1) > MOVED
            moved += beyond
            word = "" if not beyond else "   better" if new[0] < old[0] else "   WORSE"
            print(f"  {name:8} {row['case']:22} {row['subject']:18} {old[0]:>7.3f} {new[0]:>7.3f}{word}")
    print(f"\n  {moved} moved by more than the noise (rounds do not overlap, and medians differ by more than {MOVED:.0%})")


def write(perf: pathlib.Path):
    """perf/REPORT.md and its plots from perf/results/*.json."""
    raise SystemExit("perf: no report yet")
