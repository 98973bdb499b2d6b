"""Agents that break the rules. An agent may be anybody's, and a client's connection may carry the requests of many (a
balancer's): whatever an agent sends, the next answer on that connection is the next request's own."""
import socket
import struct

import pytest

from lib.tunnel import Tunnel
from lib.wire import Truncated
from peers.native_agent import DATA, END, HEAD, RESET, STOP, NativeAgent, response
from peers.native_server import BODY, UPGRADE

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


class Stage:
    def __init__(self, server, keys):
        self.server, self.keys, self.count = server, keys, 0

    def agent(self):
        """An agent of a service of its own, and the tunnel to it."""
        self.count += 1
        service = f"hostile-{self.count}"
        agent = NativeAgent(self.server.port, self.keys.agent(service, service), context=self.server.context)
        self.server.wait_agents(service)
        return agent, Tunnel(self.server, None, service)


@pytest.fixture(scope="module")
def stage(run_dir, keys):
    from conftest import Workshop
    directory = run_dir / "hostile"
    directory.mkdir()
    shop = Workshop(directory, keys)
    yield Stage(shop.server("--lanes", "1"), keys)
    shop.close()


def goes_on(agent, tunnel, wire):
    """The connection's next answer is the agent's answer to its next request."""
    wire.send(tunnel.head("POST", "/next", "Content-Length: 0"))
    agent.respond(agent.request(), b"my own")
    assert wire.answer().body == b"my own"


BEFORE = {
    "101-unasked": [(HEAD, response(101, [("Upgrade", "x")], flags=UPGRADE), 0), (DATA, POISON, 1)],
    "101-unflagged": [(HEAD, response(101), 0), (DATA, POISON, 1)],
    "length-without-a-body": [(HEAD, response(200, length=len(POISON)), 1)],
    "framing-of-its-own": [(HEAD, response(200, [("Transfer-Encoding", "chunked")], flags=BODY), 0), (DATA, POISON, 1)],
    "length-of-its-own": [(HEAD, response(200, [("Content-Length", "0")], flags=BODY), 0), (DATA, POISON, 1)],
    "a-line-in-a-value": [(HEAD, response(200, [("X", "a\r\n\r\n" + POISON.decode())]), 1)],
    "end-without-a-head": [(END, b"", 0)],
    "too-many-interims": [(HEAD, response(103), 0)] * 65 + [(HEAD, response(200), 1)],
}


@pytest.mark.parametrize("frames", BEFORE.values(), ids=BEFORE)
def test_a_head_that_may_not_be_is_a_502(stage, frames):
    agent, tunnel = stage.agent()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/", "Content-Length: 0"))
        stream = agent.request()
        try:
            for kind, payload, flags in frames:
                agent.send(kind, stream, payload, flags)
        except OSError:
            pass  # the link was ended for it
        answer = wire.answer()
        assert answer.status == 502 and answer.error in ("protocol_error", "agent_disconnect"), answer
        assert len(answer.interim) <= 64
        if answer.error == "protocol_error":
            goes_on(agent, tunnel, wire)
    agent.close()


AFTER = {
    "a-second-head": [(HEAD, response(200), 1)],
    "more-than-its-length": [(DATA, b"x" * 11 + POISON, 1)],
    "less-than-its-length": [(DATA, b"x", 1)],
    "more-than-its-credit": [(DATA, bytes(16384), 0)] * 300,
}


@pytest.mark.parametrize("frames", AFTER.values(), ids=AFTER)
def test_a_body_that_may_not_be_is_cut(stage, frames):
    agent, tunnel = stage.agent()
    with tunnel.wire(receive_buffer=4096) as wire:
        wire.send(tunnel.head("POST", "/", "Content-Length: 0"))
        stream = agent.request()
        length = 10 if len(frames) == 1 else 1 << 30
        agent.send(HEAD, stream, response(200, length=length, flags=BODY))
        try:
            for kind, payload, flags in frames:
                agent.send(kind, stream, payload, flags)
        except OSError:
            pass
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()
    agent.close()


def test_the_gateways_name_is_not_an_agents(stage):
    agent, tunnel = stage.agent()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/"))
        agent.respond(agent.request(), b"ok", pairs=[("X-Gimlet-Error", "overload"), ("X-Other", "1")])
        answer = wire.answer()
        assert answer.error is None and answer.get("X-Other") == "1"
        goes_on(agent, tunnel, wire)
    agent.close()


def test_a_reset_in_the_middle_is_a_cut(stage):
    agent, tunnel = stage.agent()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/"))
        stream = agent.request()
        agent.send(HEAD, stream, response(200, flags=BODY))
        agent.send(DATA, stream, b"half")
        agent.send(RESET, stream, struct.pack("<HH", 7, 0))
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()
    agent.close()


def test_a_client_that_leaves_is_told_to_an_agent_that_says_nothing(stage):
    agent, tunnel = stage.agent()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/"))
        stream = agent.request()
        wire.socket.shutdown(socket.SHUT_RDWR)
    assert agent.until(RESET, STOP)[2] == stream
    agent.close()
