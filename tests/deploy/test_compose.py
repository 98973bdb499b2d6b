"""compose.yaml: consistent in itself, and a fleet that works when its services are started."""
import json
import re
import shutil
import time
import urllib.parse

import pytest

from lib import artefacts, fleet
from lib.artefacts import DEPLOY, fetch

COMPOSE = artefacts.compose()
SERVICES = COMPOSE["services"]


def test_mounted_files_exist():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, mode = volume.split(":")
            assert mode == "ro", f"{name}: {volume}"
            assert target.startswith("/")
            assert "/secrets/" in source or (DEPLOY / "compose" / source).exists(), f"{name}: {volume}"


def test_secrets_are_those_that_the_script_makes():
    script = (DEPLOY / "compose/keys.sh").read_text()
    for name, service in SERVICES.items():
        folders = [volume.split(":")[0].rpartition("/")[2] for volume in service.get("volumes", []) if "/secrets/" in volume]
        token = service.get("environment", {}).get("GIMLET_AGENT_TOKEN_FILE")
        if token:
            assert folders == ["agents"] and f'"$dir/agents/{token.rpartition("/")[2]}"' in script, name
        elif folders:
            assert folders == ["server"] and '"$dir/server/gimlet.pub"' in script, name
    assert "/deploy/compose/secrets/" in (artefacts.ROOT / ".gitignore").read_text().split()


def test_names_and_ports_are_those_of_other_services():
    """Every host:port that a service is told belongs to one, which listens there."""
    listens = {"balancer": {8080}, "control.local": {8080}, "backend-v1": {8000}, "backend-v2": {80}, "prometheus": {9090}}
    for name, service in SERVICES.items():
        ports = {int(v) for k, v in service.get("environment", {}).items() if re.match(r"GIMLET_\w+_PORT$", k)}
        listens.setdefault(name, set()).update(ports)
    assert "control.local" in SERVICES["balancer"]["networks"]["default"]["aliases"]
    texts = [json.dumps(service.get("environment", {})) for service in SERVICES.values()]
    texts += [(DEPLOY / path).read_text() for path in ("compose/nginx.conf", "prometheus/prometheus.yml",
                                                       "grafana/provisioning/datasources/prometheus.yml")]
    told = [pair for text in texts for pair in re.findall(r"(?<=[/ \[])([a-z][a-z0-9.-]*):(\d{2,5})\b", text)]
    assert len(told) >= 10
    for host, port in told:
        assert int(port) in listens.get(host, ()), f"{host}:{port}"


def test_servers_know_how_many_they_are():
    servers = [service for service in SERVICES.values() if service.get("command") == ["server"]]
    assert {service["environment"]["GIMLET_SERVER_PEERS"] for service in servers} == {str(len(servers))}
    text = (DEPLOY / "compose/nginx.conf").read_text()
    assert len(re.findall(r"^ +server server-\d:8080 ", text, re.M)) == len(servers)


def test_published_on_this_machine_alone():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_ours_are_held_down():
    for name, service in SERVICES.items():
        if service["image"].startswith("gimlet:"):
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert "no-new-privileges:true" in service["security_opt"], name


def test_balancer_is_strict_and_stores_nothing():
    text = (DEPLOY / "compose/nginx.conf").read_text()
    assert not re.search(r"ip_hash|sticky|least_conn|random", text)
    for line in ("proxy_buffering off;", "proxy_request_buffering off;", "client_max_body_size 0;"):
        assert line in text


# --- the fleet, running -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory, program):
    reason = fleet.why_not() or (None if shutil.which("nginx", path="/usr/sbin") else "nginx is not here")
    if reason:
        pytest.skip(reason)
    one = fleet.Fleet(tmp_path_factory.mktemp("fleet"), program)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def agents_of(running, server):
    status, body = fetch(f"http://{running.addresses[server]}:8080/health")
    return json.loads(body)["agents"] if status == 200 else None


@pytest.fixture(scope="module")
def meshed(running):
    """Every agent is linked to every server."""
    end = time.monotonic() + 60
    want = {"v1": 2, "v2": 1}
    seen = None
    while seen != [want, want]:
        assert time.monotonic() < end, f"{seen}\n{running.log('agent-v1-a')[-1500:]}"
        time.sleep(0.1)
        seen = [agents_of(running, name) for name in ("server-1", "server-2")]
    for path in ("/services/v1/", "/services/v2/"):
        while ask(running, path)[0] != 200:  # backends start beside the agents
            assert time.monotonic() < end, f"{ask(running, path)}\n{running.log('backend-v1')}"
            time.sleep(0.1)
    return running


def ask(running, path):
    return fetch(f"http://{running.addresses['balancer']}:8080{path}", running.token, timeout=30)


def test_requests_through_the_balancer(meshed):
    for _ in range(7):  # three at a time: in pairs each service would keep to one server
        for path, begin in (("v1/hello", "Hello"), ("v1/", "Hello"), ("v2/", "<!DOC")):
            status, body = ask(meshed, f"/services/{path}")
            assert (status, body[:5]) == (200, begin), body
    assert ask(meshed, "/services/other/")[0] == 403


def test_backend_sees_the_client_and_not_the_balancer(meshed):
    headers = json.loads(ask(meshed, "/services/v1/whoami")[1])["headers"]
    assert headers["X-Forwarded-For"].split(",")[0].strip() == f"{fleet.NETWORK}.1"
    assert headers["Host"] == f"{meshed.addresses['balancer']}:8080"
    assert "Authorization" not in headers


def page_of(meshed, name, port):
    status, text = fetch(f"http://{meshed.addresses[name]}:{port}/metrics")
    assert status == 200, f"{name}: {status}"
    return text


def test_both_servers_took_their_share(meshed):
    for name in ("server-1", "server-2"):
        page = page_of(meshed, name, 9090)
        assert f'server_id="{name}"' in page
        counts = re.findall(r'^gimlet_requests_total\{[^}]*service="v1"[^}]*status="200"[^}]*\} (\d+)', page, re.M)
        assert sum(map(int, counts)) >= 2, name  # agents that dial take turns of the balancer, too


class Api:
    """The Prometheus of the fleet."""

    def __init__(self, meshed):
        self.base = f"http://{meshed.addresses['prometheus']}:9090/api/v1"

    def get(self, path):
        status, body = fetch(f"{self.base}/{path}")
        return json.loads(body) if status is not None and body.startswith("{") else {"status": f"{status} {body}"}


@pytest.fixture(scope="module")
def prometheus(meshed):
    if "prometheus" in meshed.left_out:
        pytest.skip("prometheus is not here")
    api = Api(meshed)
    end = time.monotonic() + 60
    health = {}
    while set(health.values()) != {"up"} or len(health) < 5:
        assert time.monotonic() < end, f"{health}\n{meshed.log('prometheus')[-800:]}"
        time.sleep(0.2)
        targets = api.get("targets").get("data", {}).get("activeTargets", [])
        health = {target["scrapeUrl"]: target["health"] for target in targets}
    return api


def test_prometheus_scrapes_all(prometheus):
    """A target is up a moment before its figures can be asked for."""
    want = {"gimlet-servers": "2", "gimlet-agents": "3"}
    end = time.monotonic() + 30
    seen = None
    while seen != want:
        assert time.monotonic() < end, seen
        found = prometheus.get("query?query=count%20by%20(job)%20(up)").get("data", {}).get("result", [])
        seen = {one["metric"]["job"]: one["value"][1] for one in found}


def quoted(expression):
    return urllib.parse.quote(expression, safe="")


def test_every_panel_has_an_answer(meshed, prometheus):
    """Rates need two scrapes with requests between them; then no panel of the dashboard may be empty."""
    expressions = [expression for _, expression in artefacts.panel_expressions()]
    end = time.monotonic() + 60
    empty = expressions
    while empty:
        for path in ("/services/v1/hello", "/services/v2/"):
            ask(meshed, path)
        answers = {expression: prometheus.get(f"query?query={quoted(expression)}") for expression in empty}
        wrong = {expression: answer for expression, answer in answers.items() if answer["status"] != "success"}
        assert not wrong
        empty = [expression for expression, answer in answers.items() if not answer["data"]["result"]]
        assert time.monotonic() < end, f"no data for {empty}"
        time.sleep(0.3)


def test_alerts_are_evaluated(prometheus):
    groups = prometheus.get("rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 9
    assert not [rule["name"] for rule in rules if rule.get("lastError")]


def test_types_and_labels_fit(meshed, prometheus):
    """rate() and increase() of what really is a counter, and no label that a family does not carry."""
    page = page_of(meshed, "server-1", 9090) + page_of(meshed, "agent-v1-a", 9091)
    expressions = [*artefacts.panel_expressions(), *artefacts.alert_expressions()]
    problems = [f"{where}: {problem}" for where, text in expressions for problem in artefacts.misfits(text, page)]
    assert not problems
