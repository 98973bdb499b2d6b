"""What is kept of a run: one JSON file per scenario; and the report that is made of them."""
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from scenarios import scenarios

# A ratio has moved when it is that far from the report's and the rounds of the two do not overlap: two runs of the same
# program on a quiet machine differ by 2 %. Instructions have no noise to speak of (hashes are keyed anew at each start).
MOVED, MOVED_INSTRUCTIONS = 0.03, 0.01


def environment(program: str, given) -> dict:
    """Machine, versions and the command: with them a figure means something."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1])
    tree = pathlib.Path(__file__).resolve().parent
    commit = subprocess.run(["git", "-C", tree, "describe", "--always"], capture_output=True, text=True, check=False)
    # What the laboratory itself writes makes no other program.
    changed = subprocess.run(["git", "-C", tree, "status", "--porcelain", "--", ":/", ":!/perf/results", ":!/perf/REPORT.md"],
                             capture_output=True, text=True, check=False)
    name = (commit.stdout.strip() or "unknown") + ("-dirty" if changed.stdout else "")
    given_by = " (tree; program given)" if os.environ.get("GIMLET_BIN") else ""
    return {"gimlet": name + given_by, "program_bytes": os.path.getsize(program),
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
    print("\n  Against the last report: CPU ratios, and instructions per request\n")
    print(f"  {'':12} {'case':22} {'beside':18} {'report':>8} {'now':>8}")
    for name, result in results.items():
        if name not in last:
            continue
        for case, subject, old, new, far in [*ratios_of(last[name], result), *functions_of(last[name], result)]:
            apart = new[1] > old[2] or old[1] > new[2]
            beyond = apart and abs(new[0] / old[0] - 1) > far
            moved += beyond
            word = "" if not beyond else "   better" if new[0] < old[0] else "   WORSE"
            print(f"  {name:12} {case:22} {subject:18} {old[0]:>8,.5g} {new[0]:>8,.5g}{word}")
    print(f"\n  {moved} moved by more than the noise (rounds do not overlap, and medians differ by more than {MOVED:.0%};"
          f" instructions: {MOVED_INSTRUCTIONS:.0%})")


def ratios_of(last: dict, now: dict):
    before = {(row["case"], row["subject"]): row["ratio"]["cpu"] for row in last["rows"] if row.get("ratio", {}).get("cpu")}
    for row in now["rows"]:
        key, new = (row["case"], row["subject"]), row.get("ratio", {}).get("cpu")
        if new and key in before:
            yield *key, before[key], new, MOVED


def functions_of(last: dict, now: dict):
    for which, found in now.get("functions", {}).items():
        old, new = last["functions"][which]["total"], found["total"]
        yield which, "", [old] * 3, [new] * 3, MOVED_INSTRUCTIONS


# --- the page ---

HEAD = """# Report

Written by `perf/run.sh` from [results/](results/); how to read it: [README.md](README.md). **Ratios are the result**; absolute figures belong to
this machine. Times are medians of rounds that were measured in turns; in brackets stand the least and the greatest ratio of single rounds. CPU is
the time of all processes of a subject (server and agent of a tunnel), without load and backend; *busy* is the whole machine's, load and backend
included.
"""


def scaled(value: float, unit: str) -> str:
    from lab.lab import cost
    return cost(value, unit)


def write(perf: pathlib.Path):
    """perf/REPORT.md and its plots, from perf/results/*.json."""
    from lab import plot
    results = load_all(perf / "results")
    if not results:
        raise SystemExit("perf: nothing in perf/results/: perf/run.sh all")
    known = {name: module for name, module in scenarios().items() if name in results}
    parts = [HEAD, machine(results, known), budgets(results, known), peers_table(results)]
    for name, scenario in known.items():
        drawn = plot.draw(scenario, results[name], perf / "results" / f"{name}.svg") if scenario.PLOT else False
        if hasattr(scenario, "render"):
            parts.append(f"## {name}\n\n**{scenario.TITLE}.** {scenario.ABOUT}\n\n" + scenario.render(results[name], results.get(f"{name}-before")))
        else:
            parts.append(section(name, scenario, results[name], drawn))
    (perf / "REPORT.md").write_text("\n".join(part.rstrip() + "\n" for part in parts if part))
    print(f"  Written: {perf / 'REPORT.md'}")


def machine(results: dict, known: dict) -> str:
    """Where and how: once for all, and a line for each scenario, since each may be of another day."""
    any_ = next(iter(results.values()))
    same = sorted({f"{r['machine']}, {r['cores']} cores, {r['memory_gib']:g} GiB, Linux {r['kernel']}" for r in results.values()})
    lines = ["## Machine and runs", "", *[f"* {line}" for line in same], f"* Python {any_['python']}; peers as below", "",
             "| scenario | Gimlet | when | command | took | foreign | failed |", "|---|---|---|---|---|---|---|"]
    for name in known:
        r = results[name]
        foreign = sum(row["foreign"] for row in r["rows"]) / max(len(r["rows"]), 1)
        lines.append(f"| [{name}](#{name}) | {r['gimlet']} | {r['date']} | `{r['command']}`: {r['rounds']} × {r['seconds']:g} s"
                     f" | {r['took_s']:.0f} s | {foreign:.0%} | {r['failed']} |")
    shortened = [name for name in known if results[name]["quick"] or "all" not in results[name]["command"].split()]
    if shortened:
        lines += ["", "Not from one `perf/run.sh all`, but from runs of their own as the table says: " + ", ".join(shortened) + "."]
    absent = [name for name in scenarios() if name not in results]
    if absent:
        lines += ["", "Not in this report, since nobody has run them with `--keep` yet: " + ", ".join(absent) + "."]
    if any(sum(row["foreign"] for row in results[name]["rows"]) / max(len(results[name]["rows"]), 1) > 0.05 for name in known):
        lines += ["", "*Foreign* is CPU time of processes that are none of ours, in cores: the machine was not ours alone. CPU ratios bear it, rates"
                  " and latencies suffer from it."]
    return "\n".join(lines)


def budgets(results: dict, known: dict) -> str:
    lines = ["## Budgets", "", "| scenario | what | figure | at most | |", "|---|---|---|---|---|"]
    for name in known:
        for one in results[name]["judgements"]:
            lines.append(f"| [{name}](#{name}) | {one['what']} | {one['figure']:.4g} {one['unit']} | {one['limit']:.4g}"
                         f" | {'reached' if one['within'] else '**not reached**'} |")
    return "\n".join(lines)


def peers_table(results: dict) -> str:
    found = {}
    for result in results.values():
        found.update(result["peers"])
    kinds = {"hop": "one hop", "http": "HTTP tunnel", "tcp": "opaque tunnel"}
    lines = ["## Peers", "", "| peer | | version | configured |", "|---|---|---|---|"]
    lines += [f"| {name} | {kinds[peer['kind']]} | {peer['version']} | {peer['advice']} |" for name, peer in found.items()]
    return "\n".join(lines)


def section(name: str, scenario, result: dict, drawn: bool) -> str:
    columns = getattr(scenario, "COLUMNS", {})
    lines = [f"## {name}", "", f"**{scenario.TITLE}.** {scenario.ABOUT}", ""]
    if drawn:
        lines += [f"![{scenario.TITLE}](results/{name}.svg)", ""]
    extra = "".join(f" {label} |" for label in columns.values())
    lines += [f"| case | subject | per second | p50 | p99 |{extra} CPU each | busy each | CPU ratio to it | rate ratio |",
              "|---|---|--:|--:|--:|" + "--:|" * len(columns) + "--:|--:|--:|--:|"]
    case = None
    for row in result["rows"]:
        p50, p99 = (f"{row[key] / 1e3:.2f} ms" if key in row else "" for key in ("p50_us", "p99_us"))
        more = "".join(f" {row[key]:,.4g} |" if key in row else " |" for key in columns)
        ratio = row.get("ratio", {})
        cpu = "{:.3f} ({:.2f}–{:.2f})".format(*ratio["cpu"]) if ratio.get("cpu") else ""
        rate = f"{ratio['rate'][0]:.2f}" if ratio.get("rate") else ""
        rate_decimals = 2 if row["unit"] == "GiB" else 0
        lines.append(f"| {row['case'] if row['case'] != case else ''} | {row['subject']} | {row['rate']:,.{rate_decimals}f} | {p50} | {p99} |{more}"
                     f" {scaled(row['cpu'], row['unit'])} | {scaled(row['busy'], row['unit'])} | {cpu} | {rate} |")
        case = row["case"]
    lines += [""] + [f"* {note}" for note in result["notes"]]
    return "\n".join(lines)
