"""What is read again while everything runs: token keys and JWK Sets, the agent's token and certificates; and names of
keys in tokens.

A changed file is acted upon after a second or two, so the stories that wait for it run at the same time, each in a
thread of its own with processes of its own; the tests ask how they ended."""
import asyncio
import base64
import concurrent.futures
import hashlib
import http.server
import json
import shutil
import threading
import time

import pytest
from conftest import Workshop
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lib.keys import Keys
from lib.settings import PATIENCE, SANITIZED, wait_until
from lib.tls import Authority, server_context, world
from lib.tunnel import Tunnel

LOADED = "token keys loaded"
KEPT = "the changed token keys cannot be used: those loaded before stay"
WITHDRAWN = "the key of an agent's token is no longer accepted"
UNFETCHED = "the JWK Set cannot be fetched: the keys before it stay"


def ask(tunnel, keys, **headers):
    """A request with a new token of these keys; `headers` are the token's."""
    tunnel.token = keys.forge(headers=headers)
    return tunnel.get("/body?n=3")


def status(tunnel, keys, **headers) -> int:
    return ask(tunnel, keys, **headers).status


def replace(path, data: "str | bytes"):
    """As an operator does: written beside, then renamed."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(data.encode() if isinstance(data, str) else data)
    beside.replace(path)


def digits(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(keys, **members) -> dict:
    numbers = load_pem_public_key(keys.public.read_bytes()).public_numbers()
    return {"kty": "RSA", "n": digits(numbers.n), "e": digits(numbers.e), **members}


# --- token keys are exchanged ---

class Exchange:
    """A server that reads a folder of keys with `old` in it, and an agent whose token `old` has signed."""

    def __init__(self, shop, folder, keys):
        self.old, self.new, self.folder = keys[0], keys[1], folder / "accepted"
        self.folder.mkdir()
        shutil.copy(self.old.public, self.folder / "old.pem")
        backend = shop.backend()
        self.server = shop.server("--token-public-key-dir", self.folder, keys=self.old)
        self.agent = shop.agent(self.server, {"svc": backend.url}, keys=self.old)
        self.tunnel = Tunnel(self.server, self.agent, "svc", backend)

    def run(self):
        tunnel, server, agent, old, new = self.tunnel, self.server, self.agent, self.old, self.new
        assert status(tunnel, old) == 200
        assert status(tunnel, new) == 401
        tunnel.token = old.forge()
        with tunnel.wire() as wire:
            wire.send(tunnel.head("POST", "/echo", "Content-Length: 10") + b"01234")
            tunnel.backend.wait_seen(2)

            # One file that is no key: nothing changes, and its name is in the log.
            replace(self.folder / "new.pem", new.public.read_text())
            replace(self.folder / "typo.pem", "not a key")
            line, = server.wait_log(KEPT)
            assert "typo.pem" in line["error"]
            assert status(tunnel, old) == 200
            assert status(tunnel, new) == 401

            # Mended, and the old key withdrawn: tokens that were known are forgotten, and those refused.
            agent.token_files["svc"].write_text(new.agent("svc", agent.subject))
            (self.folder / "typo.pem").unlink()
            (self.folder / "old.pem").unlink()
            line = server.wait_log(LOADED, 2)[1]
            assert line["keyCount"] == 1 and line["again"] is True
            wait_until(lambda: status(tunnel, old) == 401, "every ring has the new keys", PATIENCE)
            server.wait_log(WITHDRAWN)

            # The agent's links go once what they carry is done, and new ones stand in their place.
            wait_until(lambda: status(tunnel, new) == 200, "the agent is back by its new token", PATIENCE, 0.05)
            answer = wire.send(b"56789").answer("POST")
            assert answer.status == 200 and hashlib.sha256(b"0123456789").hexdigest() in answer.body.decode()
        assert not agent.log("link to the server lost")


# --- a JWK Set ---

class JwksSite(http.server.ThreadingHTTPServer):
    """Answers /keys with `answer`, a status and a body, or not at all while that is None; counts. Over TLS."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.count += 1
                if site.answer is None:
                    site.over.wait()
                    return
                code, body = site.answer if self.path == "/keys/" else (404, b"")
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        site = self
        self.count, self.answer, self.over = 0, (503, b"not yet"), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = server_context().wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}/keys/"

    def close(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class NoPem:
    """Keys of which the server gets no file."""
    public = ""


class Fetched:
    """A server without any key but those that it fetches."""

    def __init__(self, shop, folder, keys):
        self.one, self.two, self.site = keys[0], keys[1], JwksSite()
        shop.closers.append(self.site.close)
        self.server = shop.server("--token-jwks", self.site.url, "--token-jwks-ca-file", world().root.certificate,
                                  "--token-jwks-refresh", "1s", keys=NoPem)
        self.tunnel = Tunnel.__new__(Tunnel)
        self.tunnel.server, self.tunnel.service = self.server, "nobody"

    def said(self, keys, **headers) -> "tuple[int, str | None]":
        answer = ask(self.tunnel, keys, **headers)
        return answer.status, answer.error

    def serve(self, *members):
        self.site.answer = 200, json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, *members]}).encode()

    def run(self):
        good, refused = (503, "agent_unavailable"), (401, "unauthorized")
        one, two, server = self.one, self.two, self.server
        # As long as no set has come nobody is refused for good.
        assert "status 503" in server.wait_log(UNFETCHED)[0]["error"]
        answer = ask(self.tunnel, one)
        assert (answer.status, answer.error, answer.get("Retry-After")) == (503, "overload", "1")

        self.serve(jwk(one, kid="k1", use="sig", alg="RS256"), jwk(two, kid="k2", use="enc"))
        wait_until(lambda: self.said(one, kid="k1") == good, "the first set is used", PATIENCE, 0.05)
        assert self.said(one) == good, "a token need not name its key"
        assert self.said(one, kid="k2") == good, "a name that no key has is no name"
        assert self.said(two, kid="k2") == refused, "k2 is not for signatures"

        self.serve(jwk(two, kid="k2"), jwk(one, kid="k1"))
        wait_until(lambda: self.said(two, kid="k2") == good, "the second set is used", PATIENCE, 0.05)
        assert self.said(one, kid="k2") == refused, "only the key that is named is tried"

        # What is no set changes nothing, and is told once.
        before, self.site.answer = self.site.count, (200, b"<html>maintenance</html>")
        wait_until(lambda: self.site.count >= before + 3, "it is asked again and again", PATIENCE, 0.05)
        assert self.said(two, kid="k2") == good
        lines = server.log(UNFETCHED)
        assert len(lines) == 2 and "no JWK Set" in lines[1]["error"], lines

        # One that says nothing is waited for by nobody, not even at the end.
        before, self.site.answer = self.site.count, None
        wait_until(lambda: self.site.count > before, "it is asked once more", PATIENCE, 0.05)
        assert self.said(two, kid="k2") == good
        since = time.monotonic()
        assert server.stop() == 0 and time.monotonic() - since < PATIENCE / 3


class OnDisk:
    """A set in a file, beside a key in PEM."""

    def __init__(self, shop, folder, keys):
        self.pem, self.one, self.two = keys
        self.file = folder / "set.json"
        self.file.write_text(json.dumps({"keys": [jwk(self.one, kid="a")]}))
        self.server = shop.server("--token-jwks", self.file, keys=self.pem)
        self.tunnel = Tunnel.__new__(Tunnel)
        self.tunnel.server, self.tunnel.service = self.server, "nobody"

    def run(self):
        assert [status(self.tunnel, keys) for keys in (self.pem, self.one, self.two)] == [503, 503, 401]
        replace(self.file, json.dumps({"keys": [jwk(self.two, kid="a")]}))
        self.server.wait_log(LOADED, 2)
        wait_until(lambda: [status(self.tunnel, keys) for keys in (self.pem, self.one, self.two)] == [503, 401, 503],
                   "every ring has the new keys", PATIENCE)


# --- the agent's certificates ---

class Trust:
    """An agent that trusts neither its server nor its backend, until its files say so."""

    def __init__(self, shop, folder, keys):
        stranger = Authority(world().directory, "Somebody else's root")
        self.files = folder / "server-ca.pem", folder / "backend-ca.pem"
        for file in self.files:
            shutil.copy(stranger.certificate, file)
        backend = shop.backend(tls=server_context())
        self.server = shop.server(secure=world().server, keys=keys[0])
        self.agent = shop.agent(self.server, {"svc": backend.url}, "--ca-file", self.files[0], "--backend-ca-file", self.files[1],
                                "--reconnect-max", "20s", wait=False)
        self.tunnel = Tunnel(self.server, self.agent, "svc", backend)

    def run(self):
        root = world().root.certificate.read_bytes()
        self.agent.wait_log("cannot link to the server", 2)
        replace(self.files[0], root)
        replace(self.files[1], "no certificate")
        self.server.wait_agents("svc", through=self.agent)
        line, = self.agent.wait_log("the changed certificates cannot be used: those loaded before stay")
        assert "backend-ca.pem" in line["error"], line
        assert self.tunnel.get("/body?n=3").error == "backend_connect", "the stranger's root stays"
        replace(self.files[1], root)
        wait_until(lambda: self.tunnel.get("/body?n=3").status == 200, "the backend is trusted", PATIENCE, 0.05)


# --- the agent's token is renewed ---

class Renewal:
    """An agent of two services whose token files change while its links stand."""

    def __init__(self, shop, folder, keys):
        self.keys, self.backend = keys[0], shop.backend()
        self.server = shop.server(keys=self.keys)
        self.agent = shop.agent(self.server, {"svc": self.backend.url, "other": self.backend.url})

    def run(self):
        agent, server, subject = self.agent, self.server, self.agent.subject
        lanes = int(server.wait_log("server started")[0]["lanes"])
        server.wait_links(2 * lanes)
        good = self.keys.agent("svc", subject, "2h")
        replace(agent.token_files["svc"], good + "\n")
        replace(agent.token_files["other"], self.keys.agent("svc", subject, "2h"))
        for lane in range(lanes):
            renewed = [line for line in server.wait_log("agent's token renewed", lanes) if line["lane"] == lane]
            refused = [line for line in server.wait_log("agent's new token cannot be used: the one before stays", lanes)
                       if line["lane"] == lane]
            assert [line["service"] for line in renewed] == ["svc"]
            assert [line["service"] for line in refused] == ["other"] and "another service" in refused[0]["reason"]
        said = agent.wait_log("the server does not take the new token: the one before counts", lanes)
        assert {(line["service"], line["reason"]) for line in said} == {("other", refused[0]["reason"])}
        assert not server.log("agent detached"), "every link stands"
        for process in (server, agent):
            assert good not in process.text() and good.split(".")[2] not in process.text(), "no token is logged"


class Expiry:
    """Two agents whose tokens expire while a request runs through each. The one whose token is renewed notices nothing; the
    other loses its link, but not the request."""

    def __init__(self, shop, folder, keys):
        self.shop, self.keys, self.folder, self.let_go = shop, keys[0], folder, threading.Event()
        self.backend, self.server = shop.backend(self.script), shop.server(keys=keys[0])
        self.tunnel = Tunnel(self.server, None, "renewed", self.backend)

    async def script(self, peer):
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nat ")
            await asyncio.get_running_loop().run_in_executor(None, self.let_go.wait, PATIENCE)
            await peer.send(b"last")

    def run(self):
        tunnel, server, agents = self.tunnel, self.server, {}
        soon = int(time.time() + (11 if SANITIZED else 8))
        for name in ("renewed", "stale"):
            file = self.folder / name
            file.write_text(self.keys.forge(aud="gimlet-agent", sub=name, service=name, exp=soon))
            agents[name] = self.shop.agent(server, {name: self.backend.url}, subject=name, token_file=file)
        replace(self.folder / "renewed", self.keys.agent("renewed", "renewed", "1h"))
        with tunnel.wire() as first, tunnel.wire() as second:
            for name, wire in (("renewed", first), ("stale", second)):
                tunnel.service = name
                wire.send(tunnel.head("GET", "/"))
            server.wait_log("agent's token renewed")
            expired = server.wait_log("agent's token has expired")
            assert {line["agentID"] for line in expired} == {"stale"}
            self.let_go.set()
            assert [wire.answer("GET").body for wire in (first, second)] == [b"at last"] * 2
        gone = {line["agentID"] for line in server.wait_log("agent detached")}
        assert gone == {"stale"}
        assert not agents["renewed"].log("the server drains: dialling a replacement")


STORIES = (Exchange, Expiry, Fetched, OnDisk, Trust, Renewal)


@pytest.fixture(scope="module")
def three_keys(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("keys")
    return keys, Keys(folder, "second"), Keys(folder, "third")


@pytest.fixture(scope="module")
def stories(tmp_path_factory, three_keys):
    """All of them begun."""
    shop = Workshop(tmp_path_factory.mktemp("stories"), three_keys[0])
    try:
        ready = [(story, story(shop, tmp_path_factory.mktemp(story.__name__), three_keys)) for story in STORIES]
        with concurrent.futures.ThreadPoolExecutor(len(ready)) as threads:
            yield shop, {story: threads.submit(told.run) for story, told in ready}
    finally:
        shop.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__.lower())
def test_files_are_read_again(stories, request, story):
    shop, running = stories
    request.node.processes = shop.made
    running[story].result()


# --- names of keys ---

def test_a_token_may_name_its_key(tunnel, three_keys):
    """By RFC 7638's thumbprint. A name that no key has says nothing."""
    keys, stranger, _ = three_keys
    members = {name: value for name, value in sorted(jwk(keys).items())}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    name = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert status(tunnel, keys, kid=name) == 200
    assert status(tunnel, keys, kid="somebody") == 200
    assert status(tunnel, stranger, kid=name) == 401
    assert status(tunnel, stranger, kid="somebody") == 401
    tunnel.token = keys.client()
