"""Where the time goes, by function: what a budget that is not reached fails on."""
import shutil
import signal
import subprocess
import time

from lab.drive import transfer, wrk
from lab.gauge import cpu_seconds
from lab.stage import Broken
from scenarios._functions import plain_name
from scenarios._tls import TlsLegs, TlsStage

TITLE = "Where the time goes"
ABOUT = """`perf record` on the processor's clock, beside nobody: what each function of a process takes of the CPU time of a unit, the kernel's
with `[k]`; nginx for comparison. Samples of a virtual machine fall behind the instruction that turned interrupts on again: what stands under
`_raw_spin_unlock_irqrestore` and `finish_task_switch` is the waking of other processes. By itself a profile says what a thing costs, not what it
would cost without it."""
ORDER = 165
PLOT = None
SHOWN = 14
HERTZ = 1999  # not in step with any timer
SETTLE = 0.7  # seconds until perf has attached itself
SCALE = {"request": (1e6, "µs"), "GiB": (1e3, "ms")}


def record(stage, subject, drive) -> dict:
    """{process: {"cpu": seconds a unit, "functions": {name: share}}} of the subject's processes while `drive` runs."""
    names = ("server", "agent") if subject.kind == "ours" else (subject.name,)
    files = {which: stage.dir / f"{which}.perf" for which in names}
    recorders = [subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ), "-p", str(pid), "-o", files[which]],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                 for which, pid in zip(files, subject.pids)]
    time.sleep(SETTLE)
    before = [cpu_seconds(pid) for pid in subject.pids]
    found = drive(stage, subject)
    spent = [cpu_seconds(pid) - one for pid, one in zip(subject.pids, before)]
    for recorder in recorders:
        recorder.send_signal(signal.SIGINT)
        if recorder.wait(60) not in (0, -signal.SIGINT):
            raise Broken(f"perf record: {recorder.stderr.read()}")
    if found["failed"]:
        raise Broken(f"{found['failed']} requests failed under the profiler")
    return {which: {"cpu": cpu / found["units"], "functions": functions(files[which])} for (which, cpu) in zip(files, spent)}


def functions(path) -> dict:
    """{"gimlet name" or "[k] name": share}, and the same for whole objects, "kernel" among them."""
    text = subprocess.run(["perf", "report", "-i", path, "--stdio", "--no-children", "-n", "-s", "dso,sym", "-t", "\t"],
                          capture_output=True, text=True, check=True).stdout
    counts = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.split("\t")]
        if line.startswith("#") or len(words) < 4 or not words[1].isdigit():
            continue
        kernel = words[3].startswith("[k]")
        name = plain_name(words[3].split(" ", 1)[1])
        if name.startswith("0x"):
            name = words[2]
        for key in (f"[k] {name}" if kernel else name, "all of the kernel" if kernel else f"all of {words[2]}"):
            counts[key] = counts.get(key, 0) + int(words[1])
    samples = sum(count for key, count in counts.items() if key.startswith("all of "))
    if "all of the kernel" not in counts:
        raise Broken("perf sees nothing of the kernel: run as root, or with kernel.perf_event_paranoid at 1 or less")
    return {name: count / samples for name, count in sorted(counts.items(), key=lambda item: -item[1])}


def run(lab):
    if not shutil.which("perf"):
        raise Broken("perf is not here: deploy/packages.sh perf")
    lab.result["profiles"] = {}
    with lab.stage(sink=True) as stage:
        ours, hops = stage.tunnel(), lab.peers(stage, names=("nginx",))
        two, crossing = stage.tunnel("two", rings=2), stage.tunnel("crossing", server=["--lanes", "1"], rings=2)
        small(lab, stage, "64 connections", ours, *hops)
        small(lab, stage, "64 connections, two rings", two)
        small(lab, stage, "64 connections, two rings and one link", crossing)
        bulk(lab, stage, "", ours, *hops)
    with lab.stage(sink=True, kind=TlsStage) as stage:
        bulk(lab, stage, ", TLS on every leg", stage.tunnel(legs=TlsLegs()))


def small(lab, stage, case: str, *subjects):
    for subject in subjects:
        wrk(stage, subject, 64, 1)
        keep(lab, case, "request", record(stage, subject, lambda *who: wrk(*who, 64, 3 * lab.seconds)))


def bulk(lab, stage, how: str, *subjects):
    for way in ("up", "down"):
        for subject in subjects:
            keep(lab, f"1 GiB {way}{how}", "GiB", record(stage, subject, lambda *who, w=way: transfer(*who, w)))


def keep(lab, case: str, unit: str, found: dict):
    """Of a profile, what is shown: the objects, and the first functions."""
    factor, name = SCALE[unit]
    for which, profile in found.items():
        parts = {key: share for key, share in profile["functions"].items() if key.startswith("all of ") and share >= 0.005}
        first = [key for key in profile["functions"] if not key.startswith("all of ")][:SHOWN]
        lab.result["profiles"].setdefault(case, {})[which] = {
            "unit": unit, "cpu": profile["cpu"],
            "shares": {key: round(share, 4) for key, share in (*parts.items(), *((key, profile["functions"][key]) for key in first))}}
        print(f"  {case}, {which}: {profile['cpu'] * factor:.1f} {name} per {unit}; "
              + ", ".join(f"{key} {share:.0%}" for key, share in parts.items()))


def render(result: dict, before: "dict | None") -> str:
    """A table for each case; `before` is another run's result to stand beside."""
    lines = []
    for case, found in result["profiles"].items():
        for which, profile in found.items():
            factor, name = SCALE[profile["unit"]]
            old = (before or {}).get("profiles", {}).get(case, {}).get(which)
            lines += [f"| {case}: {which} | {name} per {profile['unit']} | share |" + (f" before ({before['gimlet']}) |" if old else ""),
                      "|---|--:|--:|" + ("--:|" if old else "")]
            for key, share in {"**all**": 1.0, **profile["shares"]}.items():
                then = ""
                if old:
                    known = 1.0 if key == "**all**" else old["shares"].get(key)
                    then = f" {known * old['cpu'] * factor:.1f} |" if known else " |"
                lines.append(f"| {key if key.startswith(('**', 'all of')) else f'`{key}`'} | {share * profile['cpu'] * factor:.1f} | {share:.1%} |{then}")
            lines.append("")
    return "\n".join(lines)
