"""A scenario's run: in turns, round after round, every row printed as it is found.

A scenario gets a Lab. It opens a stage, names its subjects (the first is what the ratios are of) and
calls compare() for each case. What it finds is in `result`, which the report is made of.
"""
import contextlib
import time

from lab.gauge import Clock, ratios, summary
from lab.stage import Stage
import peers

# How a unit's costs are printed: (factor, unit, decimals).
SCALES = {"request": (1e6, "µs", 1), "event": (1e6, "µs", 2), "connection": (1e6, "µs", 1), "GiB": (1, "s", 3)}


class Lab:
    """program: a gimlet; io, rounds, seconds, brief: as given; only: names of peers, or None for all that are here."""

    def __init__(self, program: str, io: str, rounds: int, seconds: float, brief: bool = False, only=None):
        self.program, self.io, self.rounds, self.seconds, self.brief, self.only = program, io, rounds, seconds, brief, only
        self.result = {"rows": [], "notes": [], "judgements": [], "peers": {}}
        self.failed = 0

    # --- who takes part ---
    @contextlib.contextmanager
    def stage(self, web=True, sink=False, kind=Stage):
        """A stage with the backends asked for; add others with stage.backend() before subjects are started."""
        stage = kind(self.program, self.io)
        try:
            if web:
                stage.web()
            if sink:
                stage.sink()
            yield stage
        finally:
            stage.close()

    def peers(self, stage, kinds=("hop", "http", "tcp"), names=None, large=False) -> list:
        """Starts the peers of these kinds (or these names) that can be had; the others are noted.

        large: bodies are, so that peers which another peer's file configures for them take part, too.
        """
        found = []
        for name, adapter in peers.adapters().items():
            wanted = adapter.KIND in kinds and (large or not getattr(adapter, "LARGE", False))
            if names is not None:
                wanted = name in names
            if not wanted or (self.only is not None and name not in self.only):
                continue
            reason = adapter.available()
            if reason:
                self.note(f"Without {name}: {reason}")
                continue
            subject = adapter.start(stage, name)
            subject.name, subject.kind = name, adapter.KIND
            for service in stage.services:
                stage.wait_answer(subject, service)
            self.result["peers"][name] = {"kind": adapter.KIND, "version": adapter.version(), "advice": adapter.ADVICE}
            found.append(subject)
        return found

    # --- measuring ---
    def compare(self, case: str, subjects: list, measure, unit: str = "request", **options) -> dict:
        """Measures every subject in turns and prints the rows; {subject's name: [a dict per round]}.

        measure(stage, subject, clock) -> {"units", "seconds", "failed", …}: the clock runs already, see gauge.Clock.
        Options: rounds (self.rounds), warm (a measurement of the same shape that is run once before and thrown away),
        x (the case as a number, for plots).
        """
        stage, rounds, warm = options["stage"], options.get("rounds", self.rounds), options.get("warm")
        for subject in subjects if warm else []:
            self.failed += warm(stage, subject, Clock(stage, subject))["failed"]
        runs = {subject.name: [] for subject in subjects}
        for _ in range(rounds):
            for subject in subjects:
                stage.check_alive()
                clock = Clock(stage, subject)
                found = measure(stage, subject, clock)
                runs[subject.name].append({**found, **clock.stop()})
        first = subjects[0].name
        if not self.result["rows"]:
            print_head()
        for subject in subjects:
            row = {"case": case, "unit": unit, "subject": subject.name, "kind": subject.kind, **summary(runs[subject.name])}
            if "x" in options:
                row["x"] = options["x"]
            if subject.name != first:
                row["of"] = first
                row["ratio"] = ratios(runs[first], runs[subject.name])
            self.failed += row["failed"]
            self.result["rows"].append(row)
            print_row(row, subject.name == first)
        return runs

    def row(self, case: str, subject: str) -> "dict | None":
        """A row that has been measured, or None when that peer was not here."""
        return next((row for row in self.result["rows"] if row["case"] == case and row["subject"] == subject), None)

    def ratio(self, case: str, subject: str, kind: str = "cpu") -> "float | None":
        row = self.row(case, subject)
        return row["ratio"][kind][0] if row and kind in row.get("ratio", {}) else None

    # --- words ---
    def note(self, text: str):
        if text not in self.result["notes"]:
            self.result["notes"].append(text)
            print(f"  {text}")

    def judge(self, what: str, figure: "float | None", limit: float, unit: str = "×"):
        """A budget: figure ≤ limit. None: could not be measured here, and nothing is judged."""
        if figure is None:
            return
        good = figure <= limit
        self.result["judgements"].append({"what": what, "figure": round(figure, 4), "limit": limit, "unit": unit, "within": good})
        print(f"  {'reached' if good else 'NOT REACHED'}: {what}: {figure:.4g} {unit} (at most {limit:g})")

    def judge_rates(self):
        """In each case, nothing gets more through another tunnel than through ours. Who got nothing through has no ratio."""
        for case in dict.fromkeys(row["case"] for row in self.result["rows"]):
            found = [(1 / row["ratio"]["rate"][0], row["subject"]) for row in self.result["rows"]
                     if row["case"] == case and row["kind"] in ("http", "tcp") and row.get("ratio", {}).get("rate")]
            if found:
                best, name = max(found)
                self.judge(f"{case}: rate of the fastest other tunnel ({name}), in ours", best, 1)


def counted(measure, *names):
    """The measurement, and for a tunnel of ours counters per unit: {"server enters": …, "agent enters": …}."""
    def wrapped(stage, subject, clock):
        if subject.kind != "ours":
            return measure(stage, subject, clock)
        before = [subject.counters(which) for which in (0, 1)]
        found = measure(stage, subject, clock)
        after = [subject.counters(which) for which in (0, 1)]
        return {**found, **{f"{side} {name}": (after[which][name] - before[which][name]) / max(found["units"], 1e-9)
                            for which, side in ((0, "server"), (1, "agent")) for name in names}}
    return wrapped


def print_head():
    print(f"\n  {'case':22} {'subject':18} {'per second':>11} {'p50':>9} {'p99':>9} {'CPU/unit':>10} {'busy':>9} {'proxies':>7}"
          f" {'others':>6} {'foreign':>7} {'failed':>6}   CPU ratio to it")


def cost(value: float, unit: str) -> str:
    factor, name, decimals = SCALES[unit]
    return f"{value * factor:.{decimals}f} {name}"


def print_row(row: dict, first: bool):
    tail = ""
    if "ratio" in row and "cpu" in row["ratio"]:
        middle, least, most = row["ratio"]["cpu"]
        tail = f"   {middle:.3f}  ({least:.2f}–{most:.2f})"
    p50, p99 = (f"{row[key] / 1e3:.2f} ms" if key in row else "" for key in ("p50_us", "p99_us"))
    print(f"  {row['case'] if first else '':22} {row['subject']:18} {row['rate']:>11,.{2 if row['unit'] == 'GiB' else 0}f} {p50:>9} {p99:>9}"
          f" {cost(row['cpu'], row['unit']):>10} {cost(row['busy'], row['unit']):>9} {row['proxy_core']:>7.0%} {row['load_core']:>6.0%}"
          f" {row['foreign']:>7.0%} {row['failed']:>6}{tail}", flush=True)


def perform(scenario, lab: Lab):
    """Runs one scenario; its result, with what it took."""
    began = time.monotonic()
    print(f"  {scenario.TITLE}")
    scenario.run(lab)
    lab.result.update(title=scenario.TITLE, failed=lab.failed, took_s=round(time.monotonic() - began, 1), io=lab.io,
                      seconds=lab.seconds, rounds=lab.rounds)
    return lab.result
