"""Instructions per small request, by function: what no noise reaches."""
import re
import shutil
import signal
import subprocess

from lab.stage import Broken
from scenarios._functions import plain_name

TITLE = "Instructions per small request"
ABOUT = """User-space instructions of server and agent by callgrind: the difference between runs of 12,000 and of 2,000 requests on 16 kept
connections, on epoll, one ring (valgrind knows no io_uring). No time is in it, so that it is the same on a busy machine; what the kernel does is
not in it either. Functions are those that the release build has left standing: most are inlined into their callers."""
ORDER = 160
PLOT = None
FEW, MANY, CONNECTIONS = 2000, 12000, 16
SHOWN = 20
LINE = re.compile(r"^\s*([\d,]+)\s+\([^)]*\)\s+(?:\S+?:)?(\S+)")


def instructions(lab, which: str, requests: int) -> dict:
    """{function: instructions} of the server or the agent over so many requests, start and end included."""
    with lab.stage() as stage:
        out = stage.dir / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"]
        subject = stage.tunnel(io="epoll", core=None, under={which: valgrind})
        done = subprocess.run(["h2load", "--h1", "-n", str(requests), "-c", str(CONNECTIONS), "-t", "1", *subject.header_arguments("web"),
                               subject.request("web", "/small")[0]], capture_output=True, text=True, check=False, env=stage.environment)
        if f"{requests} succeeded" not in done.stdout:
            raise Broken(f"h2load: {done.stdout}{done.stderr}")
        process = stage.processes[-1 if which == "agent" else -2][1]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        stage.processes = [one for one in stage.processes if one[1] is not process]
        text = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", str(out)], capture_output=True, text=True, check=True).stdout
    found = {}
    for match in filter(None, map(LINE.match, text.splitlines())):
        name = plain_name(match[2])
        found[name] = found.get(name, 0) + int(match[1].replace(",", ""))
    return found


def run(lab):
    if not shutil.which("valgrind"):
        raise Broken("valgrind is not here: deploy/packages.sh perf")
    lab.result["functions"] = {}
    for which in ("server", "agent"):
        few, many = (instructions(lab, which, requests) for requests in (FEW, MANY))
        per = {name: round((many[name] - few.get(name, 0)) / (MANY - FEW), 1) for name in many}
        total = per.pop("PROGRAM")
        per = dict(sorted(per.items(), key=lambda item: -item[1])[:SHOWN])
        lab.result["functions"][which] = {"total": total, **per}
        print(f"  {which}: {total:,.0f} instructions per request")
        for name, count in list(per.items())[:8]:
            print(f"    {count:>8,.0f}  {name}")


def render(result: dict, before: "dict | None") -> str:
    """The tables of the report; `before` is another run's result to stand beside."""
    lines = []
    for which, found in result["functions"].items():
        old = (before or {}).get("functions", {}).get(which, {})
        title = f"before ({before['gimlet']})" if before else ""
        lines += [f"| {which} | now |{f' {title} |' if old else ''}", "|---|--:|" + ("--:|" if old else "")]
        names = list(found) + [name for name in old if name not in found]
        for name in names:
            now = f"{found[name]:,.0f}" if name in found else f"not among the first {SHOWN}"
            then = f" {old[name]:,.0f} |" if name in old else " |"
            lines.append(f"| {'**all**' if name == 'total' else f'`{name}`'} | {now} |{then if old else ''}")
        lines.append("")
    return "\n".join(lines)
