"""deploy/ as data: the files, and what several tests read out of them."""
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


def files():
    """Every file of deploy/ that is part of the repository, or is about to be."""
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy"], cwd=ROOT,
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in filter(None, names) if (ROOT / name).is_file()]


def documents(path):
    return [document for document in yaml.safe_load_all((DEPLOY / path).read_text()) if document]


def compose():
    return documents("compose/compose.yaml")[0]


def environment_file(path):
    lines = (DEPLOY / path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def seconds(text):
    """A time as Gimlet, systemd, fly.io and Compose write it."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|)", str(text)).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}[unit]


def containers():
    """(file, name, role, environment, arguments) of everything that runs our image."""
    for name, service in compose()["services"].items():
        if service["image"].startswith("gimlet:"):
            yield "compose", name, service["command"][0], service.get("environment", {}), service["command"][1:]
    for document in documents("kubernetes/base/server.yaml") + documents("kubernetes/base/agent.yaml"):
        if document["kind"] in ("Deployment", "DaemonSet"):
            for one in document["spec"]["template"]["spec"]["containers"]:
                environment = {entry["name"]: entry.get("value") for entry in one["env"]}
                yield "kubernetes", document["metadata"]["name"], one["args"][0], environment, one["args"][1:]


def wait_for(log, pattern, timeout=15):
    """The first match in a growing file."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = re.search(pattern, log.read_text())
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{log.name}: {pattern} did not come: {log.read_text()[-600:]}")


def fetch(url, token=None, timeout=10):
    """(status, body); None for the status where nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return None, str(error)


def make_token(program, key, *words):
    return subprocess.run([program, "jwt", *words, "--private-key-file", str(key)], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True, timeout=20).stdout


def round_trip(folder, program, command, start):
    """One request through a server and an agent, both started by `command`; the back-end of both."""
    key = folder / "gimlet.pem"
    (folder / "agent.token").write_text(make_token(program, key, "agent", "--subject", "a", "--service", "s"))
    token = make_token(program, key, "client", "--subject", "c", "--services", "s")
    backend = start("backend", sys.executable, str(DEPLOY / "demo/backend.py"), str(folder / "port"))
    server = start("server", *command, "server", "--listen-address", "127.0.0.1", "--http-port", "0", "--metrics-port", "off",
                   "--token-public-key-file", str(folder / "gimlet.pub"))
    port = wait_for(server, r'"httpPort":([1-9]\d*)')[1]
    end = time.monotonic() + 15
    while not (folder / "port").exists():
        assert time.monotonic() < end, backend.read_text()
        time.sleep(0.05)
    agent = start("agent", *command, "agent", "--server-url", f"ws://127.0.0.1:{port}/agent", "--token-file",
                  str(folder / "agent.token"), "--target-url", f"http://127.0.0.1:{(folder / 'port').read_text()}")
    status, body = 503, ""
    while status in (503, None) and time.monotonic() < end + 15:
        status, body = fetch(f"http://127.0.0.1:{port}/services/s/hello", token)
        time.sleep(0.05)
    assert (status, body[:5]) == (200, "Hello"), f"{status} {body} {agent.read_text()[-800:]}"
    backends = {wait_for(log, r'"io":"([a-z_]+)')[1] for log in (server, agent)}
    assert len(backends) == 1, backends
    return backends.pop()


# --- PromQL, as far as our dashboards and alerts use it ------------------------------------------

OVER_COUNTERS = ("rate", "irate", "increase")
OVER_GAUGES = ("deriv", "delta", "idelta", "predict_linear")
ADDED = {"job", "instance", "environment", "source", "target", "id", "title", "subtitle", "le"}
PROMQL_WORDS = {"by", "without", "on", "ignoring", "or", "and", "unless", "bool", "group_left", "group_right", "offset"}


def panel_expressions():
    """(title of the panel, expression) of the dashboard."""
    board = json.loads((DEPLOY / "grafana/dashboards/overview.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]


def alert_expressions():
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def families(page):
    """{name of a series: (type, its labels)}, summed over a page of metrics."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    found = {}
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", page, re.M):
        kind = types.get(name) or "counter"  # a part of a histogram counts
        found.setdefault(name, (kind, set()))[1].update(re.findall(r'(\w+)="', labels))
    return found


def selectors(expression):
    """(name, labels matched, function directly around it) of every series that an expression takes."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    for found in re.finditer(r"(?:\b(\w+)\()?\b([a-z_][\w:]*)\b(\{[^}]*\})?(?!\s*\()", re.sub(r"\b(?:by|without) \([^)]*\)", "", bare)):
        function, name, braces = found.groups()
        if name in PROMQL_WORDS or re.fullmatch(r"\d*[smhd]|inf|nan", name):
            continue
        if name.startswith(("gimlet_", "go_", "process_", "up")):
            yield name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", braces or "")), function


def misfits(expression, page):
    known = families(page)
    labels_of = set(ADDED)
    for name, matched, function in selectors(expression):
        if name == "up":
            continue
        if name not in known:
            yield f"{name}: no such family"
            continue
        kind, labels = known[name]
        labels_of |= labels
        if function in OVER_COUNTERS and kind != "counter":
            yield f"{function}({name}), which is a {kind}"
        if function in OVER_GAUGES and kind == "counter":
            yield f"{function}({name}), which is a counter"
        if matched - labels - ADDED:
            yield f"{name} has no label {sorted(matched - labels - ADDED)}"
    for group in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
        for label in filter(None, re.split(r"[ ,]+", group)):
            if label not in labels_of:
                yield f"no label {label}"
