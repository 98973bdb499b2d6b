"""/metrics: the families of version 0.0.x and ours, what is counted under which names, what disappears, and Prometheus
itself as the reader. Names, types and labels: spec/gimlet.md 4."""
import collections
import concurrent.futures
import json
import shutil
import signal
import urllib.parse

import pytest
import requests

from lib.prometheus import Page, lint
from lib.settings import PATIENCE, RINGS, SANITIZED, free_port, wait_until
from old_peer import OldAgent, OldServer

# name: (type, labels beside server_id)
FAMILIES = {
    "gimlet_agent_connections": ("gauge", "service"),
    "gimlet_requests_total": ("counter", "service agent_id client_id status"),
    "gimlet_request_duration_seconds": ("histogram", "service"),
    "gimlet_active_requests": ("gauge", "service"),
    "gimlet_websocket_messages_total": ("counter", "direction type"),
    "gimlet_response_channel_buffer_usage": ("gauge", "service agent_id"),
    "gimlet_rate_limit_rejections_total": ("counter", "service limit_type"),
    "gimlet_agent_rate_limit_rejections_total": ("gauge", "service agent_id"),
    "gimlet_agent_concurrent_requests": ("gauge", "service agent_id"),
    "gimlet_agent_request_channel_buffer_usage": ("gauge", "service agent_id"),
    "gimlet_agent_backend_failures_total": ("gauge", "service agent_id"),
    "gimlet_agent_websocket_write_errors_total": ("gauge", "service agent_id"),
    "gimlet_agent_frames_sent_total": ("gauge", "service agent_id frame_type"),
    "gimlet_agent_frames_received_total": ("gauge", "service agent_id frame_type"),
    "gimlet_agent_draining": ("gauge", "service agent_id"),
    "gimlet_agent_connection_uptime_seconds": ("gauge", "service agent_id"),
}
PROCESS = {"process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_virtual_memory_bytes",
           "process_resident_memory_bytes", "process_start_time_seconds", "go_memstats_heap_alloc_bytes",
           "go_memstats_sys_bytes", "go_memstats_stack_inuse_bytes"}


def scrape(server) -> Page:
    answer = requests.get(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.text)


def text(server) -> str:
    return requests.get(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=PATIENCE).text


def requests_of(server, **labels) -> int:
    return int(scrape(server).sum("gimlet_requests_total", **labels))


def test_every_family_has_its_type_and_labels(tunnel):
    assert tunnel.get("/echo").status == 200
    page = scrape(tunnel.server)
    for name, (kind, labels) in FAMILIES.items():
        assert page.types.get(name) == kind, name
        samples = page.all(name + "_bucket" if kind == "histogram" else name)
        assert samples, f"{name} has no sample"
        for key in samples:
            extra = {"le"} if kind == "histogram" else set()
            assert {label for label, _ in key} == {"server_id", *labels.split()} | extra, name
    assert page.values("gimlet_requests_total", "server_id") == {tunnel.server.health()["server_id"]}
    assert PROCESS <= set(page.types), PROCESS - set(page.types)
    assert 0 < page.sum("gimlet_ring_requests_total") <= tunnel.server.counter("requests")
    assert {ring for ring in page.values("gimlet_ring_turns_total", "ring")} == {"control", *map(str, range(RINGS))}


def test_promtool_has_nothing_to_say(tunnel):
    """But for the five gauges that version 0.0.x named as if they were counters."""
    misnamed = {name for name, (kind, _) in FAMILIES.items() if kind == "gauge" and name.endswith("_total")}
    assert {line.split()[0] for line in lint(text(tunnel.server))} == misnamed


def test_only_its_path_and_its_port(tunnel):
    for path, status in (("/metrics", 200), ("/metrics/", 404), ("/", 404), ("/health", 404), ("/metrics?x=1", 200)):
        assert requests.get(f"http://127.0.0.1:{tunnel.server.metrics_port}{path}", timeout=PATIENCE).status_code == status, path
    with tunnel.wire() as wire:
        assert wire.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 404
    answer = requests.head(f"http://127.0.0.1:{tunnel.server.metrics_port}/metrics", timeout=PATIENCE)
    assert answer.status_code == 200 and int(answer.headers["Content-Length"]) > 5000 and not answer.content


def test_a_port_is_for_one_thing(workshop):
    """Rings share ports among themselves, and two listeners of one process would without a word."""
    port = free_port()
    server = workshop.server("--metrics-port", port, "--health-port", port, ready=False)
    assert server.wait() == 1
    assert server.log("the port is taken: stop what listens there, or choose another")[0]["port"] == port


def test_requests_are_counted_once_under_their_names(tunnel):
    names = {"service": tunnel.service, "agent_id": tunnel.agent.subject, "client_id": "tester"}
    before = scrape(tunnel.server)
    for _ in range(3):
        assert tunnel.get("/echo").status == 200
    assert tunnel.get("/status?code=404").status == 404
    assert tunnel.ask("POST", "/echo", body=b"x" * 100).status == 200
    tunnel.server.wait_idle()
    after = scrape(tunnel.server)

    def grown(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)
    assert grown("gimlet_requests_total", **names, status="200") == 4
    assert grown("gimlet_requests_total", **names, status="404") == 1
    assert grown("gimlet_requests_total") == 5
    assert grown("gimlet_request_duration_seconds_count", service=tunnel.service) == 5
    assert grown("gimlet_request_duration_seconds_bucket", service=tunnel.service, le="+Inf") == 5
    assert 0 < grown("gimlet_request_duration_seconds_sum", service=tunnel.service) < 5 * PATIENCE
    for kind in ("response_start", "response_end", "request_start", "request_end"):
        assert grown("gimlet_websocket_messages_total", type=kind) == 5, kind
    assert grown("gimlet_websocket_messages_total", type="request_data") == 1
    assert grown("gimlet_websocket_messages_total", type="response_data") >= 1


def test_a_request_under_way_is_a_level(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        backend.wait_seen()
        assert scrape(tunnel.server).one("gimlet_active_requests", service=tunnel.service) == 1
    wait_until(lambda: scrape(tunnel.server).one("gimlet_active_requests", service=tunnel.service) == 0, "it has ended")


def test_a_client_that_leaves_before_the_head_is_not_counted(tunnel, backend):
    before = requests_of(tunnel.server)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        backend.wait_seen()
    tunnel.server.wait_idle()
    assert requests_of(tunnel.server) == before


def test_names_of_strangers_make_no_series(tunnel):
    """Neither does a name that nobody has served, whoever asks for it."""
    before = scrape(tunnel.server)
    for i in range(20):
        with tunnel.wire() as wire:
            assert wire.send(f"GET /services/made-up-{i}/ HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 401
        with tunnel.wire() as wire:
            head = f"GET /services/dreamt-of-{i}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n"
            assert wire.send(head).answer().status == 503
    narrow = tunnel.server.keys.client("other-*", "narrow")
    with tunnel.wire() as wire:
        head = f"GET {tunnel.path()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {narrow}\r\n\r\n"
        assert wire.send(head).answer().status == 403
    after = scrape(tunnel.server)
    assert after.sum("gimlet_requests_total", service="", client_id="", status="401") \
        - before.sum("gimlet_requests_total", service="", client_id="", status="401") == 20
    assert after.sum("gimlet_requests_total", service="", client_id="tester", status="503") \
        - before.sum("gimlet_requests_total", service="", client_id="tester", status="503") == 20
    assert after.one("gimlet_requests_total", service=tunnel.service, client_id="narrow", status="403", agent_id="") == 1
    assert "made-up" not in text(tunnel.server) and "dreamt-of" not in text(tunnel.server)


def test_labels_cannot_break_the_page(tunnel):
    odd = 'a"b\\c\nd é'
    with tunnel.wire() as wire:
        head = f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tunnel.server.keys.forge(sub=odd)}\r\n\r\n"
        assert wire.send(head).answer().status == 200
    tunnel.server.wait_idle()
    escaped = odd.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert requests_of(tunnel.server, client_id=escaped) == 1
    lint(text(tunnel.server))


def test_rejections_by_the_limit(workshop):
    tunnel = workshop.tunnel("--max-concurrent-requests", 1)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen()
        assert tunnel.get("/echo").status == 429
    page = scrape(tunnel.server)
    assert page.one("gimlet_rate_limit_rejections_total", service="svc", limit_type="server") == 1
    assert page.sum("gimlet_requests_total", status="429") == 0


def test_more_series_than_allowed_are_one(workshop):
    tunnel = workshop.tunnel("--metrics-series-max", 2)
    for i in range(8):
        token = tunnel.server.keys.forge(sub=f"client-{i}")
        with tunnel.wire() as wire:
            head = f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            assert wire.send(head).answer().status == 200
    tunnel.server.wait_idle()
    page = scrape(tunnel.server)
    named = [key for key in page.all("gimlet_requests_total") if dict(key)["client_id"]]
    assert len(named) <= 2 * RINGS
    assert page.sum("gimlet_requests_total") == 8
    assert page.sum("gimlet_requests_total", status="other", service="", agent_id="", client_id="") >= 8 - 2 * RINGS


def test_an_agent_that_has_gone_leaves_nothing(workshop):
    tunnel = workshop.tunnel("--metrics-retention", "300ms")
    stays = workshop.agent(tunnel.server, {"other": tunnel.backend.url})
    assert tunnel.get("/echo").status == 200
    tunnel.server.wait_idle()
    assert requests_of(tunnel.server, agent_id=tunnel.agent.subject) == 1
    assert tunnel.agent.stop() == 0

    def gauges_gone():
        page = scrape(tunnel.server)
        return not any(page.all(name, agent_id=tunnel.agent.subject) for name, (kind, _) in FAMILIES.items() if kind == "gauge")
    wait_until(gauges_gone, "its gauges have gone")
    wait_until(lambda: tunnel.agent.subject not in text(tunnel.server), "its counters have gone")
    wait_until(lambda: 'service="svc"' not in text(tunnel.server), "the service has gone", step=0.1)
    page = scrape(tunnel.server)
    assert page.one("gimlet_agent_connections", service="other") == 1
    assert page.all("gimlet_agent_draining", agent_id=stays.subject)
    # And it may come again; what it had before counts as long as nobody has needed the room.
    workshop.agent(tunnel.server, {"svc": tunnel.backend.url}, subject=tunnel.agent.subject)
    assert tunnel.get("/echo").status == 200
    tunnel.server.wait_idle()
    assert requests_of(tunnel.server, agent_id=tunnel.agent.subject) in (1, 2)


def test_the_last_agent_leaves_a_zero(workshop):
    tunnel = workshop.tunnel()
    assert scrape(tunnel.server).one("gimlet_agent_connections", service="svc") == 1
    assert tunnel.agent.stop() == 0
    wait_until(lambda: scrape(tunnel.server).one("gimlet_agent_connections", service="svc") == 0, "nobody is left")


def test_scrapes_while_requests_run(tunnel):
    """Several scrapers at once, and counters that never fall between two pages of one of them."""
    def hammer(_):
        for _ in range(30):
            assert tunnel.get("/echo").status == 200

    def look(_):
        seen = collections.defaultdict(float)
        for _ in range(25):
            for key, value in scrape(tunnel.server).all("gimlet_requests_total").items():
                assert value >= seen[key], key
                seen[key] = value
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(hammer, i) for i in range(3)] + [pool.submit(look, i) for i in range(3)]
        for job in jobs:
            job.result(timeout=PATIENCE * 4)


def test_an_answer_that_waits_for_its_client_is_seen(tunnel):
    with tunnel.wire(receive_buffer=4096) as wire:
        wire.send(tunnel.head("GET", "/body?n=67108864"))
        names = {"service": tunnel.service, "agent_id": tunnel.agent.subject}
        wait_until(lambda: scrape(tunnel.server).one("gimlet_response_channel_buffer_usage", **names) > 0, "frames wait")


@pytest.mark.skipif(RINGS != 2 or SANITIZED, reason="it starts Prometheus, which need not be seen in every run")
def test_prometheus_reads_it(workshop):
    """The real one: scrapes, stores, and answers the dashboard's topology query with one edge per hop."""
    assert shutil.which("prometheus"), "prometheus is not installed"
    tunnel = workshop.tunnel()
    for _ in range(5):
        assert tunnel.get("/echo").status == 200
    port, folder = free_port(), workshop.directory / "prometheus"
    folder.mkdir()
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "gimlet-servers", "static_configs": [
            {"targets": [f"127.0.0.1:{tunnel.server.metrics_port}"]}]}]}))
    workshop.process("prometheus", [shutil.which("prometheus"), f"--config.file={folder}/prometheus.yml", "--log.level=warn",
                                    f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"])

    def ask(query):
        try:
            answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}", timeout=PATIENCE)
        except requests.RequestException:
            return []
        return answer.json()["data"]["result"] if answer.status_code == 200 else []
    wait_until(lambda: ask('up{job="gimlet-servers"} == 1'), "Prometheus has scraped the server", PATIENCE * 2, 0.2)
    (edge,) = ask("sum by (client_id, server_id, agent_id, service) (gimlet_requests_total)")
    assert edge["metric"] == {"client_id": "tester", "server_id": tunnel.server.health()["server_id"],
                              "agent_id": tunnel.agent.subject, "service": "svc"}
    assert edge["value"][1] == "5"
    (slow,) = ask("histogram_quantile(0.99, sum by (le) (gimlet_request_duration_seconds_bucket))")
    assert 0 < float(slow["value"][1]) <= 5
    for name in (*FAMILIES, *PROCESS):
        assert ask(f"{name}_count" if name.endswith("_seconds") and FAMILIES.get(name, " ")[0] == "histogram" else name), name


def test_an_agent_reports_its_own_figures(workshop):
    """What it has served, refused, seen fail; at once when it drains, otherwise about every ten seconds."""
    tunnel = workshop.tunnel("--lanes", 1, agent_flags=("--max-concurrent-requests", 1))
    names = {"service": "svc", "agent_id": tunnel.agent.subject}
    for _ in range(4):
        assert tunnel.ask("POST", "/echo", body=b"x" * 10).status == 200
    assert tunnel.ask("POST", "/drop").status == 502
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen(6)
        assert tunnel.get("/echo").status == 429
        tunnel.agent.signal(signal.SIGTERM)
        wait_until(lambda: scrape(tunnel.server).one("gimlet_agent_draining", **names) == 1, "it drains")
        page = scrape(tunnel.server)
    assert page.one("gimlet_agent_frames_received_total", **names, frame_type="start") >= 7
    assert page.one("gimlet_agent_frames_received_total", **names, frame_type="data") == 4
    assert page.one("gimlet_agent_frames_sent_total", **names, frame_type="start") == 4
    assert page.one("gimlet_agent_frames_sent_total", **names, frame_type="data") >= 4
    assert page.one("gimlet_agent_frames_sent_total", **names, frame_type="end") == 4
    assert page.one("gimlet_agent_frames_sent_total", **names, frame_type="cancel") >= 2
    assert page.one("gimlet_agent_concurrent_requests", **names) == 1
    assert page.one("gimlet_agent_rate_limit_rejections_total", **names) >= 1
    assert page.one("gimlet_agent_backend_failures_total", **names) == 1
    assert page.one("gimlet_agent_websocket_write_errors_total", **names) == 0
    assert page.sum("gimlet_websocket_messages_total", direction="recv", type="metrics") >= 1
    assert page.sum("gimlet_websocket_messages_total", direction="recv", type="draining") >= 1
    assert page.sum("gimlet_websocket_messages_total", direction="recv", type="unknown") == 0
    assert tunnel.agent.wait() == 0


# --- Peers of 0.0.x ---

REPORT = {"type": "metrics", "rate_limit_rejections": 3, "concurrent_requests": 2, "request_channel_buffer": 7,
          "backend_failures": 5, "websocket_write_errors": 1, "connection_uptime_seconds": 40, "draining": True,
          "frames_sent": {"start": 1, "data": 2, "end": 3, "cancel": 0, "unknown": 0},
          "frames_received": {"start": 4, "data": 5, "end": 6, "cancel": 7, "unknown": 8}}


@pytest.mark.plain("an agent of 0.0.x is scripted in plain text")
def test_the_report_of_an_old_agent(workshop, keys):
    server = workshop.server()
    agent = OldAgent(server.port, keys.agent("old", "old-1"))
    names = {"service": "old", "agent_id": "old-1"}
    agent.text(REPORT)
    agent.text({"type": "metrics", "concurrent_requests": "many", "frames_sent": None, "draining": 1})
    agent.text({"type": "x" * 300, "state": "made up"})
    agent.heard()
    page = scrape(server)
    for name, value in (("rate_limit_rejections_total", 3), ("concurrent_requests", 2), ("request_channel_buffer_usage", 7),
                        ("backend_failures_total", 5), ("websocket_write_errors_total", 1), ("connection_uptime_seconds", 40),
                        ("draining", 1)):
        assert page.one(f"gimlet_agent_{name}", **names) == value, name
    for kind, sent, received in (("start", 1, 4), ("data", 2, 5), ("end", 3, 6), ("cancel", 0, 7), ("unknown", 0, 8)):
        assert page.one("gimlet_agent_frames_sent_total", frame_type=kind, **names) == sent
        assert page.one("gimlet_agent_frames_received_total", frame_type=kind, **names) == received
    messages = {kind: page.sum("gimlet_websocket_messages_total", direction="recv", type=kind)
                for kind in page.values("gimlet_websocket_messages_total", "type")}
    assert (messages["ready"], messages["metrics"], messages["unknown"]) == (1, 2, 1)
    assert "xxx" not in text(server), "a label that a peer has chosen"
    agent.close()
    wait_until(lambda: not scrape(server).all("gimlet_agent_draining", **names), "nothing is left of it")


@pytest.mark.plain("an agent of 0.0.x is scripted in plain text")
def test_messages_of_an_old_agent_are_counted_once(workshop, keys):
    server = workshop.server()
    agent = OldAgent(server.port, keys.agent("old", "old-1"))
    server.wait_agents("old")
    with server.wire() as wire:
        wire.send(f"GET /services/old/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys.client()}\r\n\r\n")
        ident, _, _ = agent.request()
        agent.respond(ident, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"he", b"llo")
        assert wire.answer().body == b"hello"
    server.wait_idle()
    page = scrape(server)
    counted = {kind: page.sum("gimlet_websocket_messages_total", type=kind)
               for kind in ("hello", "ready", "request_start", "request_data", "request_end", "response_start", "response_data",
                            "response_end")}
    assert counted == {"hello": 1, "ready": 1, "request_start": 1, "request_data": 0, "request_end": 1, "response_start": 1,
                       "response_data": 2, "response_end": 1}
    agent.close()


@pytest.mark.plain("a server of 0.0.x is scripted in plain text")
def test_an_old_server_gets_reports(workshop):
    """With every key and type that one of 0.0.6 sends, and one more."""
    server = OldServer()
    workshop.agent(f"ws://127.0.0.1:{server.port}/agent", {"svc": workshop.backend().url})
    link = server.accept()
    link.greet()
    document = link.next_text()
    while document["type"] != "metrics":
        document = link.next_text()
    assert set(document) == {*REPORT, "servers"}
    for key, value in REPORT.items():
        assert type(document[key]) is type(value), key
    assert set(document["frames_sent"]) == set(document["frames_received"]) == set(REPORT["frames_sent"])
    link.close()
    server.close()
