"""Processes that die, freeze and come back; requests that move to another agent; agents that share."""
import asyncio
import threading
import time

import pytest

from lib.backend import pattern
from lib.settings import AT_ONCE, PATIENCE, TLS, wait_until
from lib.tunnel import Tunnel
from lib.wire import Truncated, chunked

CODINGS = ["length", "chunked", "close"]


def swallow(wire, answer):
    for _ in wire.body_pieces(answer):
        pass


@pytest.mark.parametrize("coding", CODINGS)
def test_a_killed_agent_cuts_answers_visibly_and_at_once(workshop, coding):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", f"/stall?coding={coding}&n=100"))
        answer = wire.final_head()
        since = time.monotonic()
        tunnel.agent.kill()
        with pytest.raises((Truncated, ConnectionResetError)):
            swallow(wire, answer)
        assert time.monotonic() - since < AT_ONCE
    tunnel.server.wait_agents("svc", 0)
    answer = tunnel.get("/echo")
    assert (answer.status, answer.error) == (503, "agent_unavailable")


def test_a_killed_agents_chunked_answer_has_no_last_chunk(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/stall?coding=chunked&n=100"))
        wire.final_head()
        tunnel.agent.kill()
        try:
            rest = wire.until_end()
        except ConnectionResetError:
            return
        assert not rest.endswith(b"0\r\n\r\n"), "a cut answer that looks whole"


def test_a_killed_agents_requests_without_an_answer_get_502(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/hang", "Content-Length: 0"))
        tunnel.backend.wait_seen()
        tunnel.agent.kill()
        answer = wire.answer()
        assert (answer.status, answer.error) == (502, "agent_disconnect")
        assert answer.body.startswith(b"Gimlet Infrastructure Error\n\nError Code: AGENT_DISCONNECT\nMessage: Agent disconnected\n")


def test_a_killed_server_cancels_the_agents_backend_requests(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        seen = tunnel.backend.wait_seen()
        tunnel.server.kill()
        assert seen.gone.wait(5), "the request goes on for nobody"
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()
    tunnel.agent.check_alive()


def test_the_agent_returns_to_a_restarted_server(workshop):
    tunnel = workshop.tunnel()
    tunnel.server.kill()
    time.sleep(0.5)
    server = workshop.server(http_port=tunnel.server.port)
    server.wait_agents("svc")
    assert Tunnel(server, tunnel.agent, "svc", tunnel.backend).get("/body?n=5").body == pattern(5)


def test_the_agent_waits_for_a_server_that_is_not_there_yet(workshop):
    from lib.settings import free_port
    port, backend = free_port(), workshop.backend()
    agent = workshop.agent(f"ws{'s' if TLS else ''}://127.0.0.1:{port}/agent", {"svc": backend.url})
    time.sleep(1)
    agent.check_alive()
    server = workshop.server(http_port=port)
    server.wait_agents("svc")


def test_a_refreshed_token_file_is_used(workshop, keys, tmp_path):
    """The first token has expired; the file is renewed while the agent runs."""
    path = tmp_path / "token"
    path.write_text(keys.agent("svc", "renewed", duration="0s"))
    backend, server = workshop.backend(), workshop.server()
    agent = workshop.agent(server, {"svc": backend.url}, token_file=path, subject="renewed", wait=False)
    wait_until(lambda: "Token expired" in agent.text(), "the agent says in the server's words why it may not link")
    assert server.health()["agents"].get("svc", 0) == 0
    path.write_text(keys.agent("svc", "renewed") + "\n")
    server.wait_agents("svc")


def test_a_link_ends_when_its_token_does(workshop, keys, tmp_path):
    path = tmp_path / "token"
    backend, server = workshop.backend(), workshop.server()
    path.write_text(keys.agent("svc", "short", duration="4s"))
    workshop.agent(server, {"svc": backend.url}, token_file=path, subject="short", wait=False)
    server.wait_links(1)
    wait_until(lambda: server.health()["agents"].get("svc", 0) == 0, "the link ends with its token", 45)
    path.write_text(keys.agent("svc", "short", duration="1h"))
    server.wait_agents("svc")


# --- frozen peers (design 5.5: 2 s of silence, then 3 s for an answer) ----------------------------

def pair(workshop, *agent_flags, server_flags=()):
    """One server, two agents with a backend each and with all their lanes."""
    server = workshop.server(*server_flags)
    backends = [workshop.backend(), workshop.backend()]
    agents = [workshop.agent(server, {"svc": b.url}, *agent_flags) for b in backends]
    server.wait_lanes(agents)
    tunnel = Tunnel(server, agents[0], "svc", backends[0])
    return tunnel, agents, backends


def test_requests_at_a_frozen_agent_fail_over_within_six_seconds(workshop):
    tunnel, agents, backends = pair(workshop)
    agents[0].freeze()
    since = time.monotonic()
    results = []

    def ask():
        with tunnel.wire() as wire:
            results.append(wire.send(tunnel.head("GET", "/body?n=10")).answer().status)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [200] * 8, results
    assert time.monotonic() - since < 6 + AT_ONCE
    assert len(backends[1].seen) == 8
    # A lane that carried none of them is idle: found silent after 15 s, and dead 3 s later.
    wait_until(lambda: tunnel.server.health()["agents"]["svc"] == 1, "the frozen agent is out", 21)


def test_requests_at_a_lone_frozen_agent_fail_within_six_seconds(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/stall?coding=chunked"))
        answer = wire.final_head()
        tunnel.agent.freeze()
        since = time.monotonic()
        with pytest.raises((Truncated, ConnectionResetError)):
            swallow(wire, answer)
        assert 1 < time.monotonic() - since < 6 + AT_ONCE
    assert tunnel.server.counter("links_dead") >= 1
    tunnel.agent.thaw()
    tunnel.server.wait_agents("svc")
    assert tunnel.get("/body?n=1").status == 200


def test_a_frozen_agents_replacement_is_admitted(workshop):
    """The same subject comes again from elsewhere while the old process is frozen: it serves."""
    backend, server = workshop.backend(), workshop.server()
    old = workshop.agent(server, {"svc": backend.url}, subject="worker")
    old.freeze()
    workshop.agent(server, {"svc": backend.url}, subject="worker", wait=False)
    tunnel = Tunnel(server, old, "svc", backend)
    since = time.monotonic()
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/body?n=3")).answer().status == 200
    assert time.monotonic() - since < 6 + AT_ONCE
    old.thaw()


def test_a_frozen_server_is_noticed_by_the_agent(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        seen = tunnel.backend.wait_seen()
        links = len(tunnel.server.log("agent attached"))
        tunnel.server.freeze()
        assert seen.gone.wait(8), "a dead server's requests are abandoned"
        tunnel.server.thaw()
    # Not wait_agents: what has just thawed still lists the link that its agent gave up meanwhile.
    tunnel.server.wait_links(links + 1)
    assert tunnel.get("/body?n=1").status == 200


def test_a_short_freeze_costs_no_stream(workshop):
    """A second of standing still (a throttled container) is not death."""
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/sse?n=30&every=0.1"))
        answer = wire.final_head()
        pieces = wire.body_pieces(answer)
        events = next(pieces).count(b"data:")
        for process in (tunnel.agent, tunnel.server):
            process.freeze()
            time.sleep(1.5)
            process.thaw()
            time.sleep(0.2)
        events += sum(piece.count(b"data:") for piece in pieces)
    assert events == 30, "the stream went on, and nothing of it is missing"


def test_a_frozen_path_is_death_too(workshop):
    backend, server = workshop.backend(), workshop.server()
    proxy = workshop.proxy(server.port)
    agent = workshop.agent(server.agent_url_at(proxy.port), {"svc": backend.url})
    server.wait_agents("svc")
    tunnel = Tunnel(server, agent, "svc", backend)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/hang", "Content-Length: 0"))
        seen = backend.wait_seen()
        proxy.frozen = True
        since = time.monotonic()
        answer = wire.answer()
        assert (answer.status, answer.error) == (502, "agent_disconnect")
        assert time.monotonic() - since < 6 + AT_ONCE
        assert seen.gone.wait(8)
    proxy.cut()
    proxy.frozen = False
    wait_until(lambda: tunnel.get("/body?n=1").status == 200, "the link is back", PATIENCE, 0.1)


def test_an_idle_link_lives(workshop):
    tunnel = workshop.tunnel()
    lines = len(tunnel.server.log("agent detached"))
    time.sleep(4)
    assert tunnel.get("/body?n=1").status == 200
    assert len(tunnel.server.log("agent detached")) == lines


# --- retries --------------------------------------------------------------------------------------

def with_a_dead_backend(workshop):
    """Two agents of one service; the first one's backend does not exist."""
    from lib.settings import free_port
    server, good = workshop.server(), workshop.backend()
    bad_agent = workshop.agent(server, {"svc": f"http://127.0.0.1:{free_port()}"})
    server.wait_lanes([bad_agent, workshop.agent(server, {"svc": good.url})])
    return Tunnel(server, bad_agent, "svc", good), good


@pytest.mark.parametrize("method,body", [("GET", b""), ("POST", b""), ("POST", b"a body that is held"), ("PUT", b"x" * 60_000)],
                         ids=["nothing", "an empty body", "a body", "a long body"])
def test_an_untouched_request_is_tried_on_another_agent(workshop, method, body):
    tunnel, good = with_a_dead_backend(workshop)
    for _ in range(8):
        answer = tunnel.ask(method, "/echo", body=body)
        assert answer.status == 200, answer.body
    assert all(seen.body == body for seen in good.seen) and len(good.seen) == 8
    assert tunnel.server.counter("retries") >= 2, "some of eight must have met the agent without a backend"


@pytest.mark.parametrize("trailers", [b"", b"T: u\r\n"])
def test_an_untouched_chunked_upload_is_tried_again_whole_or_not_at_all(workshop, trailers):
    """Trailers may not be kept for a second attempt; then there is none, but never a request without them."""
    tunnel, good = with_a_dead_backend(workshop)
    statuses = set()
    for _ in range(8):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(b"abc", b"def", trailers=trailers))
            statuses.add(wire.answer().status)
    assert statuses == {200} if not trailers else statuses <= {200, 502}
    assert good.seen and all(seen.body == b"abcdef" for seen in good.seen)
    assert all(seen.trailers == ([("T", "u")] if trailers else []) for seen in good.seen)


def test_a_long_upload_is_not_retried_but_fails_honestly(workshop):
    tunnel, good = with_a_dead_backend(workshop)
    statuses = set()
    for _ in range(8):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("POST", "/echo", "Content-Length: 400000"))
            try:
                wire.send(pattern(400_000))
            except OSError:
                pass
            statuses.add(wire.answer().status)
    assert statuses <= {200, 502}
    assert all(seen.body_bytes == 400_000 for seen in good.seen if seen.complete)


def touched(workshop):
    """Two agents; a backend that dies on its first request without a word, and answers later ones."""
    asked = []

    async def script(peer):
        while seen := await peer.head():
            await peer.take(seen)
            asked.append(seen.method)
            if len(asked) == 1:
                return
            await peer.answer("200 OK", b"fine")
    backend = workshop.backend(script)
    server = workshop.server()
    agents = [workshop.agent(server, {"svc": backend.url}) for _ in range(2)]
    return Tunnel(server, agents[0], "svc", backend), asked


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated(workshop, method):
    tunnel, asked = touched(workshop)
    assert tunnel.ask(method, "/").status == 200
    assert asked == [method] * 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_touched_request_that_is_not_idempotent_is_never_repeated(workshop, method):
    tunnel, asked = touched(workshop)
    answer = tunnel.ask(method, "/", body=b"pay once")
    assert (answer.status, answer.error) == (502, "backend_closed")
    assert asked == [method]


def test_no_retry_once_an_interim_answer_has_passed(workshop):
    asked = []

    async def script(peer):
        seen = await peer.head()
        if seen:
            asked.append(seen.method)
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            # An end right behind it may overtake it in the tunnel (a reset discards what is queued), and then a second attempt is right.
            await asyncio.sleep(0.3)
    backend, server = workshop.backend(script), workshop.server()
    agents = [workshop.agent(server, {"svc": backend.url}) for _ in range(2)]
    answer = Tunnel(server, agents[0], "svc", backend).get("/")
    assert answer.status == 502 and len(answer.interim) == 1
    assert len(asked) == 1


def test_a_get_survives_its_agents_death(workshop):
    tunnel, agents, backends = pair(workshop)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/slow?s=1.5"))
        wait_until(lambda: backends[0].seen or backends[1].seen, "one backend is asked")
        asked = 0 if backends[0].seen else 1
        agents[asked].kill()
        assert wire.answer().body == b"at last"
        assert backends[1 - asked].seen


def test_at_most_two_attempts(workshop):
    asked = []

    async def script(peer):
        if await peer.head():
            asked.append(1)
    backend, server = workshop.backend(script), workshop.server()
    agents = [workshop.agent(server, {"svc": backend.url}) for _ in range(4)]
    answer = Tunnel(server, agents[0], "svc", backend).get("/")
    assert (answer.status, answer.error) == (502, "backend_closed")
    assert len(asked) == 2


# --- several --------------------------------------------------------------------------------------

def test_two_agents_share(workshop):
    tunnel, _, backends = pair(workshop)
    for _ in range(40):
        assert tunnel.get("/body?n=1").status == 200
    shares = sorted(len(b.seen) for b in backends)
    assert shares[0] >= 10, shares


def test_the_least_loaded_agent_is_chosen(workshop):
    tunnel, _, backends = pair(workshop)
    wires = []
    for n in range(10):
        wires.append(tunnel.wire())
        wires[-1].send(tunnel.head("GET", "/hang"))
        wait_until(lambda: sum(len(b.seen) for b in backends) == n + 1, "the request has arrived")
    shares = sorted(len(b.seen) for b in backends)
    # With several rings, a link of the client's own ring may be somewhat busier than the best one and still be taken.
    assert shares[0] >= (5 if tunnel.server.rings == 1 else 3), shares
    for wire in wires:
        wire.close()


def test_several_services_in_one_agent(workshop):
    server, backends = workshop.server(), {name: workshop.backend() for name in ("red", "green", "blue-2.x")}
    agent = workshop.agent(server, {name: b.url for name, b in backends.items()})
    for name, backend in backends.items():
        tunnel = Tunnel(server, agent, name, backend)
        assert tunnel.get(f"/echo?{name}").status == 200
        assert [seen.target for seen in backend.seen] == [f"/echo?{name}"]


def test_a_prefix_of_the_target(workshop):
    backend = workshop.backend()
    tunnel = workshop.tunnel(backend=backend, target=backend.url + "/echo/v1")
    for rest, target in (("/a?b", "/echo/v1/a?b"), ("/", "/echo/v1/"), ("?q", "/echo/v1/?q"), ("//x", "/echo/v1//x")):
        assert tunnel.get(rest).status == 200
        assert backend.last().target == target


def test_a_unix_socket_as_target(workshop, tmp_path):
    import http.server
    import socketserver
    path = tmp_path / "backend.sock"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

        def address_string(self):
            return "unix"

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
    unix = Server(str(path), Handler)
    threading.Thread(target=unix.serve_forever, daemon=True).start()
    tunnel = workshop.tunnel(target=f"unix:{path}")
    assert tunnel.get("/over/unix").body == b"/over/unix"
    unix.shutdown()
    unix.server_close()


def test_a_name_is_resolved(workshop):
    backend = workshop.backend()
    tunnel = workshop.tunnel(backend=backend, target=backend.url_at(backend.port, "localhost"))
    assert tunnel.get("/echo").status == 200


def test_a_name_that_does_not_exist(workshop):
    tunnel = workshop.tunnel(target="http://no-such-host.invalid:80")
    answer = tunnel.get("/")
    assert (answer.status, answer.error) == (502, "backend_connect")


def test_lanes(workshop):
    """As many links as asked for, each with its own lane; the surplus is none."""
    tunnel = workshop.tunnel("--lanes", "3")
    tunnel.server.wait_links(3)
    lanes = sorted(line["lane"] for line in tunnel.server.log("agent attached"))
    assert lanes[:3] == [0, 1, 2]
    assert tunnel.server.health()["agents"] == {"svc": 1}
    for _ in range(10):
        assert tunnel.get("/body?n=1").status == 200


def test_a_lost_lane_comes_back(workshop):
    backend, server = workshop.backend(), workshop.server("--lanes", "2")
    proxy = workshop.proxy(server.port)
    agent = workshop.agent(server.agent_url_at(proxy.port), {"svc": backend.url})
    server.wait_links(2)
    proxy.cut()
    server.wait_links(4)
    assert sorted(line["lane"] for line in server.log("agent attached"))[2:] == [1, 1]
    assert Tunnel(server, agent, "svc", backend).get("/body?n=1").status == 200


def test_two_rings_and_one_lane_serve_clients_of_both_rings(workshop):
    tunnel = workshop.tunnel("--lanes", "1", rings=2)
    wires = [tunnel.wire() for _ in range(64)]
    for n, wire in enumerate(wires):
        wire.send(tunnel.head("POST", "/echo", "Content-Length: 20000") + bytes(20_000))
    for wire in wires:
        assert wire.answer().status == 200
    for n, wire in enumerate(wires):
        wire.send(tunnel.head("GET", f"/body?n={n * 5000}"))
    for n, wire in enumerate(wires):
        assert wire.answer().body == pattern(n * 5000)
        wire.close()
    counters = tunnel.server.counters()
    assert counters['accepts{ring="0"}'] > 0 and counters['accepts{ring="1"}'] > 0
    assert counters["crossings"] > 0
    assert counters["copies_large"] == 0


def test_crossing_streams_are_cancelled_and_cut_like_others(workshop):
    tunnel = workshop.tunnel("--lanes", "1", rings=2)
    wires = [tunnel.wire() for _ in range(16)]
    for wire in wires:
        wire.send(tunnel.head("GET", "/stall?coding=chunked"))
    answers = [wire.final_head() for wire in wires]
    assert tunnel.server.counter("crossings") > 0
    for wire in wires[:8]:
        wire.reset()
    wait_until(lambda: sum(s.gone.is_set() for s in tunnel.backend.seen) == 8, "eight backends are cancelled", 5)
    tunnel.agent.kill()
    for wire, answer in zip(wires[8:], answers[8:]):
        with pytest.raises((Truncated, ConnectionResetError)):
            swallow(wire, answer)
        wire.close()


def test_a_second_agent_with_the_same_subject_joins(workshop):
    """A deployment of two replicas with one token: both serve."""
    server, backends = workshop.server(), [workshop.backend(), workshop.backend()]
    agents = [workshop.agent(server, {"svc": b.url}, subject="replica", wait=False) for b in backends]
    server.wait_log("agent attached", 2)
    tunnel = Tunnel(server, agents[0], "svc", backends[0])
    for _ in range(30):
        assert tunnel.get("/body?n=1").status == 200
    assert all(b.seen for b in backends)
