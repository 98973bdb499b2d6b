"""Whose CPU time was spent on what, and what several rounds of it say.

Times are in seconds. CPU time of a process is the scheduler's own account, in nanoseconds: the first
figure of /proc/PID/schedstat, all threads summed. It is read through the process's CPU clock, which is
the same account, up to this instant, and still holds the threads that have ended (an idle worker of
io_uring's or of Go's); check_clock() holds the two against each other at the start of every run.
"""
import os
import pathlib
import resource
import statistics
import time

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, dead or alive (CPUCLOCK_SCHED of `pid`)."""
    return time.clock_gettime((~pid << 3) | 2)


def schedstat_seconds(pid: int) -> float:
    """The same, of the threads that live, as of each one's last switch or tick."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def check_clock():
    """Both accounts of this process agree, or nothing is measured."""
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    stat, clock = schedstat_seconds(os.getpid()), cpu_seconds(os.getpid())
    if abs(clock - stat) > 0.02 + 0.02 * clock:
        raise SystemExit(f"perf: CPU clock {clock:.4f} s, schedstat {stat:.4f} s: this kernel keeps other accounts")


def busy_seconds(core=None) -> float:
    """Seconds that a core, or all of them together, have not been idle (in ticks)."""
    name = "cpu" if core is None else f"cpu{core}"
    with open("/proc/stat") as stat:
        fields = next([int(x) for x in line.split()[1:9]] for line in stat if line.split()[0] == name)
    return (sum(fields) - fields[3] - fields[4]) / TICK


def children_seconds() -> float:
    """CPU time of the load generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


class Clock:
    """One measured span: the subject's time, the machine's, the load's, and what belongs to none of them.

    The frame starts it before a measurement and stops it afterwards. A measurement that has a lead (it
    opens connections first) may restart() it, and stop() it before its own end.
    """

    def __init__(self, stage, subject):
        self.stage, self.subject, self.spent = stage, subject, None
        self.restart()

    def restart(self):
        self.began = self._read()

    def _read(self) -> dict:
        return {"at": time.monotonic(), "cpu": sum(cpu_seconds(pid) for pid in self.subject.pids),
                "busy": busy_seconds(), "load": children_seconds(), "ours": self.stage.cpu(),
                "load_core": busy_seconds(self.stage.load_core), "proxy_core": busy_seconds(self.stage.proxy_core)}

    def stop(self) -> dict:
        if self.spent is None:
            ended = self._read()
            spent = {key: ended[key] - self.began[key] for key in ended}
            span = spent["at"]
            self.spent = {"cpu": spent["cpu"], "busy": spent["busy"], "span": span,
                          "load_core": spent["load_core"] / span, "proxy_core": spent["proxy_core"] / span,
                          "foreign": max(0.0, spent["busy"] - spent["ours"] - spent["load"]) / span}
        return self.spent


def middle(values) -> "list[float]":
    """Median, least and greatest: what a cell of the report is."""
    values = list(values)
    return [round(x, 4) for x in (statistics.median(values), min(values), max(values))] if values else []


def each(run: dict, key: str) -> float:
    """The cost of one unit; 0 where there was none, which is no cost and gets no ratio."""
    return run[key] / run["units"] if run["units"] > 0 else 0.0


def summary(runs: "list[dict]") -> dict:
    """What the rounds of one subject say. Costs are per unit; what a run adds of its own is a median."""
    total = max(sum(run["units"] for run in runs), 1e-9)
    own = {key for run in runs for key in run} - {"units", "seconds", "failed", "cpu", "busy", "span"}
    return {"units": round(total, 3), "failed": sum(run["failed"] for run in runs), "rounds": len(runs),
            "rate": round(total / max(sum(run["seconds"] for run in runs), 1e-9), 3),
            "cpu": float(f"{statistics.median(each(run, 'cpu') for run in runs):.5g}"),
            "busy": float(f"{statistics.median(each(run, 'busy') for run in runs):.5g}"),
            **{key: round(statistics.median(run.get(key, 0) for run in runs), 4) for key in sorted(own)}}


def ratios(ours: "list[dict]", theirs: "list[dict]") -> dict:
    """Ours in theirs, round by round: median, least, greatest."""
    kinds = {"cpu": lambda run: each(run, "cpu"), "busy": lambda run: each(run, "busy"), "rate": lambda run: run["units"] / max(run["seconds"], 1e-9)}
    kinds.update({key: (lambda run, k=key: run[k]) for key in ours[0] if key.startswith(("p50", "p99")) and key in theirs[0]})
    found = {}
    for kind, figure in kinds.items():
        values = [figure(a) / figure(b) for a, b in zip(ours, theirs) if figure(b) > 0]
        if values:
            found[kind] = middle(values)
    return found
