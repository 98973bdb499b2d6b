"""perf/run.sh hands over to this. Teaches when it is asked nothing.

  run.sh SCENARIO…          runs them; results go to build/perf/
  run.sh all                runs all of them and writes perf/REPORT.md
  run.sh smoke              small and bulk beside nginx, briefly, against the last committed report
  run.sh tls                all scenarios that begin with tls-
  run.sh report             writes perf/REPORT.md anew from the results that are in perf/results/
"""
import argparse
import os
import pathlib
import signal
import sys
import time

from lab import gauge, report
from lab.lab import Lab, perform
from lab.stage import Broken
from scenarios import scenarios
import peers

PERF = pathlib.Path(__file__).resolve().parent.parent
GROUPS = {"all": lambda name: True, "tls": lambda name: name.startswith("tls-")}
SMOKE = ("small", "bulk", "instructions")
SMOKE_PEERS = ("nginx", "nginx-64k")


def teach() -> int:
    print("usage: perf/run.sh SCENARIO… | all | smoke | tls | report   [--quick] [--rounds N] [--seconds N] [--io BACKEND]\n"
          "                   [--peers NAME,…|none] [--keep]\n")
    print("  smoke               three minutes: small requests and 1 GiB beside nginx, and what has moved since the report")
    print("  all                 everything, and perf/REPORT.md anew: most of an hour")
    for name, scenario in scenarios().items():
        print(f"  {name:19} {scenario.TITLE}")
    print("\n  --rounds, --seconds more of either halve the noise (4 rounds of 2 s; smoke: 3 of 3 s)")
    print("  --quick             one short round: does it run at all?")
    print("  --peers             only these beside us: " + ", ".join(peers.adapters()))
    print("  --keep              results go into perf/results/ and perf/REPORT.md, as with all\n")
    print("  How to read the figures: perf/README.md. The program is build/gimlet, or what GIMLET_BIN names.")
    return 2


def parse(words: "list[str]"):
    options = argparse.ArgumentParser(prog="perf/run.sh", add_help=False)
    options.add_argument("names", nargs="*")
    options.add_argument("--seconds", type=float)
    options.add_argument("--rounds", type=int)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--keep", action="store_true")
    options.add_argument("--io", default="auto")
    options.add_argument("--peers")
    given = options.parse_args(words)
    given.smoke = given.names == ["smoke"]
    given.seconds = 1 if given.quick else given.seconds or (3 if given.smoke else 2)
    given.rounds = 1 if given.quick else given.rounds or (3 if given.smoke else 4)
    given.only = SMOKE_PEERS if given.smoke else None
    if given.peers is not None:
        given.only = tuple(name for name in given.peers.split(",") if name and name != "none")
        unknown = set(given.only) - set(peers.adapters())
        if unknown:
            raise SystemExit(f"perf: no such peer: {', '.join(unknown)}; there are {', '.join(peers.adapters())}")
    return given


def chosen(names: "list[str]") -> "list[str]":
    """The scenarios that these words mean, in the report's order."""
    known = scenarios()
    wanted = set()
    for name in names:
        found = {one for one in known if GROUPS.get(name, lambda one, n=name: one == n)(one)}
        if not found:
            raise SystemExit(f"perf: no scenario {name}: perf/run.sh without arguments lists them")
        wanted |= found
    return [name for name in known if name in wanted]


def run(program: str, given, names: "list[str]") -> int:
    keep = given.keep or "all" in given.names
    folder = PERF / "results" if keep else PERF.parent / "build" / "perf"
    folder.mkdir(parents=True, exist_ok=True)
    about = report.environment(program, given)
    failed, results = 0, {}
    print(f"  Gimlet {about['gimlet']} ({given.io}); load and backends on one core, proxies on another; {given.rounds} rounds of"
          f" {given.seconds:g} s, in turns")
    for index, name in enumerate(names):
        print(f"\n  [{index + 1}/{len(names)}] {name}, {time.strftime('%H:%M:%S')}")
        lab = Lab(program, given.io, given.rounds, given.seconds, brief=given.smoke, only=given.only)
        try:
            results[name] = {"scenario": name, **about, **perform(scenarios()[name], lab)}
        except Broken as broken:  # the others may still be measured
            print(f"  {name} broke off: {broken}", file=sys.stderr)
            failed += lab.failed + 1
            continue
        failed += lab.failed
        report.save(results[name], folder / (f"smoke-{name}.json" if given.smoke else f"{name}.json"))
    if given.smoke and any((PERF / "results").glob("*.json")):
        report.compare_with_last(results, PERF / "results")
    if keep:
        report.write(PERF)
    print(f"\n  Results: {folder}; failed requests: {failed}")
    return 1 if failed else 0


def main() -> int:
    program, *words = sys.argv[1:]
    given = parse(words)
    if not given.names:
        return teach()
    if given.names == ["report"]:
        report.write(PERF)
        return 0
    names = list(SMOKE) if given.smoke else chosen(given.names)
    gauge.check_clock()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stages end their processes
    return run(os.path.realpath(program), given, names)


if __name__ == "__main__":
    sys.exit(main())
