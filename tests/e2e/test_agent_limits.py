"""--max-concurrent-requests of agents: who is full passes a request on, and 429 comes when nobody is left."""
from lib.tunnel import Tunnel
from lib.settings import wait_until


def hang(tunnel):
    wire = tunnel.wire()
    wire.send(tunnel.head("GET", "/hang"))
    return wire


def test_a_full_agent_passes_requests_on(workshop):
    """The server cannot know that it is full: another service of it takes the place."""
    server, backend = workshop.server(), workshop.backend()
    full = workshop.agent(server, {"a": backend.url, "b": backend.url}, "--max-concurrent-requests", "1")
    other = workshop.agent(server, {"b": backend.url})
    a, b = (Tunnel(server, full, service, backend) for service in "ab")
    with hang(a):
        backend.wait_seen()
        before = server.counter("retries")
        for number in range(8):
            body = b"x" * 1000 * number
            answer = b.ask("POST" if number % 2 else "GET", "/echo", body=body)
            assert answer.status == 200, answer
        assert server.counter("retries") > before, "some of them were on the full one first"
        moved = server.log("request moves to another link")
        assert moved and {line["reason"] for line in moved} == {"agent_limit"}
        assert a.get("/echo").status == 429
        assert other.is_alive


def test_429_when_none_is_left(workshop):
    server, backend = workshop.server(), workshop.backend()
    agents = [workshop.agent(server, {"svc": backend.url}, "--max-concurrent-requests", "1") for _ in range(2)]
    tunnel = Tunnel(server, agents[0], "svc", backend)
    wires = [hang(tunnel) for _ in agents]
    backend.wait_seen(2)
    for method, body in (("GET", b""), ("POST", b"hello")):
        answer = tunnel.ask(method, "/echo", body=body)
        assert (answer.status, answer.error) == (429, "agent_limit")
        assert answer.body == b"Agent concurrent request limit reached (1)\n"
    assert len(backend.seen) == 2, "neither came to a backend"
    wires[0].close()
    wait_until(lambda: tunnel.get("/echo").status == 200, "there is a place again")
    wires[1].close()
