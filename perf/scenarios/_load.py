"""The generators of perf/load, built when they are first asked for, and how they are run."""
import contextlib
import json
import pathlib
import subprocess
import sys

from lab.drive import pinned
from lab.stage import free_ports

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def build(program: str) -> pathlib.Path:
    """Builds them beside `program` where that is a build folder, else in build/; the folder that they are in."""
    beside = pathlib.Path(program).resolve().parent
    folder = beside if (beside / "build.ninja").exists() else ROOT / "build"
    words = ["--reconfigure"] if (folder / "build.ninja").exists() else []
    if " perf-load:" not in (folder / "build.ninja").read_text() if words else True:
        print("  building the load generators…", flush=True)
        run_quietly("meson", "setup", folder, ROOT, *words, "-Dperf=true")
    run_quietly("ninja", "-C", folder, "perf-load")
    return folder / "perf" / "load"


def run_quietly(*argv):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"perf: {' '.join(map(str, argv))}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class Generators:
    """The four programs; they share the load's core with the backends."""

    def __init__(self, stage):
        folder = build(stage.program)
        self.stage = stage
        self.path = {name: folder / f"gimlet-perf-{name}" for name in ("backend", "hold", "requests", "streams")}

    def backend(self, service: str = "model") -> int:
        """Starts the backend of a service; its port."""
        port = free_ports(1)[0]
        self.stage.backend(service, [self.path["backend"], port], port, path="/ready")
        return port

    def argv(self, name: str, subject, service: str, path: str) -> list:
        url, _ = subject.request(service, path)
        return [self.path[name], "--url", url, *subject.header_arguments(service)]

    def measure(self, argv: list, clock, timeout=300) -> dict:
        """Runs one to its end. The clock counts what lies between its phases: connecting and the last answers do not."""
        found = {}
        with subprocess.Popen(pinned(self.stage, argv), stdout=subprocess.PIPE, text=True) as process:
            self.stage.pids.append(process.pid)
            try:
                for line in process.stdout:
                    found = json.loads(line)
                    if found.get("phase") == "steady":
                        clock.restart()
                    elif found.get("phase") == "ended":
                        clock.stop()
                process.wait(timeout)
            finally:
                self.stage.pids.remove(process.pid)
                process.kill()
        if "units" not in found:
            raise SystemExit(f"perf: {argv[0]} ended with {process.returncode} and without a result")
        # Without a span in which all took part nothing has been measured: the load's core is too slow.
        found["failed"] += found.pop("lost", 0) + (1 if found["units"] == 0 else 0)
        if found["failed"]:
            print(f"  {argv[2]}: {found}", file=sys.stderr)
        for extra in ("streams", "connections", "services", "received"):
            found.pop(extra, None)
        return found

    @contextlib.contextmanager
    def hold(self, subject, service: str, path: str, stalled=False):
        """Connections that are held while the block runs: yields tell("open 100" | "ask 7") -> what it says."""
        argv = self.argv("hold", subject, service, path) + (["--stalled"] if stalled else [])
        with subprocess.Popen(pinned(self.stage, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            def tell(words: str) -> dict:
                process.stdin.write(words + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"perf: {argv[0]}: {words}: it ended")
                return json.loads(line)
            self.stage.pids.append(process.pid)
            try:
                yield tell
            finally:
                self.stage.pids.remove(process.pid)
                process.stdin.close()
                process.wait(60)
