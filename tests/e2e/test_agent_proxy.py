"""The agent behind an HTTP proxy: asked for a tunnel by CONNECT, with ws:// and wss:// inside it."""
import base64
import subprocess
import threading

import pytest

from lib.backend import pattern
from lib.connect_proxy import ESTABLISHED, ConnectProxy
from lib.process import SANITIZER_ENV
from lib.settings import GIMLET, PATIENCE, free_port, wait_until
from lib.tls import server_context, world
from lib.tunnel import Server, Tunnel
from old_peer import DATA, OldServer, frame

pytestmark = pytest.mark.plain("says itself on which leg there is TLS")

# Nobody can resolve it but the proxy; the certificates of a run are for it.
NAME = "gimlet.example"
FAILED = "cannot link to the server"


@pytest.fixture
def proxies():
    made = []

    def make(target: int, host: str = "127.0.0.1") -> ConnectProxy:
        made.append(ConnectProxy(target, host))
        return made[-1]
    yield make
    for proxy in made:
        proxy.close()


class Servers:
    """One of each sort for all tests, made when it is asked for."""

    def __init__(self, run_dir, keys):
        self.run_dir, self.keys, self.made = run_dir, keys, {}

    def get(self, scheme: str) -> Server:
        if scheme not in self.made:
            server = self.made[scheme] = Server(self.run_dir, self.keys, secure=world().server if scheme == "wss" else False)
            server.scheme, server.variable = scheme, "HTTPS_PROXY" if scheme == "wss" else "HTTP_PROXY"
        return self.made[scheme]


@pytest.fixture(scope="module")
def servers(run_dir, keys):
    servers = Servers(run_dir, keys)
    yield servers
    for server in servers.made.values():
        server.dispose()


@pytest.fixture(autouse=True)
def quiet(servers, workshop):
    """What a test has linked to the servers has gone before the next begins."""
    yield
    for agent in workshop.made:
        agent.dispose()
    for server in servers.made.values():
        wait_until(lambda: not server.health()["agents"].get("svc"), "the agents have gone", step=0.05)


@pytest.fixture
def server(servers, request):
    """Over TLS, where a test does not say otherwise."""
    server = servers.get(getattr(request, "param", "wss"))
    assert server.is_alive
    return server


@pytest.fixture
def behind(server, workshop, proxies):
    """Starts an agent that knows the server by a name that the proxy alone can resolve: (tunnel, proxy)."""
    def start(*flags, user="", host="127.0.0.1", url=f"{NAME}:7443/agent", answer=ESTABLISHED, step=0, wait=True,
              slash=""):
        proxy = proxies(server.port, host)
        proxy.answer, proxy.step = answer, step
        backend = workshop.backend()
        agent = workshop.agent(f"{server.scheme}://{url}", {"svc": backend.url}, *flags,
                               env={server.variable: proxy.url_with(user) + slash})
        if wait:
            server.wait_agents("svc", through=agent)
        return Tunnel(server, agent, "svc", backend), proxy
    return start


@pytest.mark.parametrize("server", ["ws", "wss"], indirect=True)
def test_a_tunnel_through_it(behind, server):
    """It is asked once a link, learns nothing that is the server's, and both directions are whole."""
    tunnel, proxy = behind(step=3)
    assert proxy.heads[0] == f"CONNECT {NAME}:7443 HTTP/1.1\r\nHost: {NAME}:7443\r\n\r\n"
    assert tunnel.get("/body?n=3000000").body == pattern(3_000_000)
    assert b'"length": 2000000' in tunnel.ask("POST", "/echo", body=pattern(2_000_000)).body
    token = tunnel.agent.token_files["svc"].read_text().strip().encode()
    assert (token in proxy.up) == (server.scheme == "ws"), "over TLS it stays between the two ends"
    assert (b"Host: gimlet.example:7443\r\n" in proxy.up) == (server.scheme == "ws")
    assert not tunnel.backend.last().get("Proxy-Authorization")


def test_a_lost_tunnel_is_asked_for_again(behind, server):
    tunnel, proxy = behind()
    asked = len(proxy.heads)
    proxy.cut()
    wait_until(lambda: len(proxy.heads) > asked, "the proxy is asked again")
    wait_until(lambda: tunnel.get("/echo").status == 200, "the service is back", step=0.05)


@pytest.mark.parametrize("server", ["ws", "wss"], indirect=True)
@pytest.mark.parametrize("url,asked", [("[2001:db8::1]:7443/agent", "[2001:db8::1]:7443"), ("192.0.2.1", "192.0.2.1:")])
def test_addresses(server, behind, workshop, url, asked):
    """Of the server, in the form that CONNECT wants, with the scheme's port where it names none; of the proxy, on IPv6."""
    asked += ("443" if server.scheme == "wss" else "80") if asked.endswith(":") else ""
    flags = ("--server-name", NAME) if server.scheme == "wss" else ()
    tunnel, proxy = behind(*flags, host="::1", url=url, slash="/")
    assert proxy.heads[0].startswith(f"CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n")
    assert tunnel.get("/body?n=7").body == pattern(7)


@pytest.mark.parametrize("server", ["ws", "wss"], indirect=True)
def test_credentials(behind, server):
    """Percent-encoded in the variable, as they are in the field; without them its 407 is said with the cure."""
    tunnel, proxy = behind(user="me:p%40ss%3Aword@")
    field = base64.b64encode(b"me:p@ss:word").decode()
    assert f"\r\nProxy-Authorization: Basic {field}\r\n" in proxy.heads[0]
    assert b"Proxy-Authorization" not in proxy.up, "what is the proxy's does not go on to the server"
    assert tunnel.get("/echo").status == 200
    for secret in ("p@ss", "p%40ss", field):
        assert secret not in tunnel.agent.text()


REFUSALS = {
    "407": (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 3\r\n\r\nno!",
            "status 407 Proxy Authentication Required (put user:password@"),
    "403": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\nfor a reason", "it refused the tunnel with status 403 Forbidden"),
    "502": (b"HTTP/1.0 502 \r\n\r\n", "it refused the tunnel with status 502"),
    "surplus": (ESTABLISHED + b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "bytes follow its answer"),
    "ssh": (b"SSH-2.0-OpenSSH_9\r\n", "its answer is not HTTP"),
    "endless": (b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 10_000, "its answer is"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_is_said_and_asked_again(behind, server, why):
    """With the proxy's name and its words; once it agrees, all is well. Nothing of the token was said meanwhile."""
    answer, words = REFUSALS[why]
    tunnel, proxy = behind(answer=answer, wait=False)
    said = tunnel.agent.wait_log(FAILED)[0]["error"]
    assert f"through the proxy 127.0.0.1:{proxy.port}: " in said and words in said, said
    assert not proxy.up
    proxy.answer = ESTABLISHED
    server.wait_agents("svc", through=tunnel.agent)
    assert tunnel.get("/echo").status == 200


def test_a_proxy_that_hangs(behind, server):
    """It costs the time to connect and no more."""
    tunnel, proxy = behind("--connect-timeout", "1s", answer=None, wait=False)
    said = tunnel.agent.wait_log(FAILED)[0]["error"]
    assert "not established in time" in said and f"127.0.0.1:{proxy.port}" in said, said
    proxy.answer = ESTABLISHED
    server.wait_agents("svc", through=tunnel.agent)
    assert tunnel.get("/echo").status == 200


def test_a_proxy_that_is_not_there(server, workshop):
    port = free_port()
    agent = workshop.agent(f"{server.scheme}://{NAME}:7443/agent", {"svc": "http://127.0.0.1:1"},
                           env={server.variable: f"http://127.0.0.1:{port}"})
    said = agent.wait_log(FAILED)[0]
    assert said["address"] == f"127.0.0.1:{port}" and f"through the proxy 127.0.0.1:{port}: " in said["error"], said


def test_the_certificate_is_the_servers(workshop, keys, proxies, tmp_path):
    """Who stands at the end of the tunnel is judged by the server's name, whatever the proxy is called."""
    backend, stranger = workshop.backend(), workshop.server(secure=world().middle.issue("127.0.0.1", "localhost"))
    proxy = proxies(stranger.port)
    agent = workshop.agent(f"wss://{NAME}/agent", {"svc": backend.url}, env={"HTTPS_PROXY": proxy.url})
    assert "name" in agent.wait_log(FAILED)[0]["error"]
    assert agent.token_files["svc"].read_text().strip().encode() not in proxy.up
    assert not stranger.health()["agents"].get("svc")


@pytest.mark.parametrize("env,used", [
    ({"NO_PROXY": "*"}, False), ({"no_proxy": "localhost", "NO_PROXY": "*"}, True), ({"http_proxy": ""}, True),
    ({"http_proxy": "http://127.0.0.1:1"}, None),
], ids=["exempt", "small letters win", "empty is none", "small letters name another"])
def test_which_proxy(servers, workshop, proxies, env, used):
    """None for the exempt; small letters before capitals. A direct dial fails here: nobody resolves the name."""
    backend, server = workshop.backend(), servers.get("ws")
    proxy = proxies(server.port)
    agent = workshop.agent("ws://server.invalid:7080/agent", {"svc": backend.url},
                           env={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:1", **env})
    if used:
        server.wait_agents("svc", through=agent)
        assert proxy.heads
        return
    said = agent.wait_log(FAILED if used is None else "cannot dial the server")[0]
    assert ("127.0.0.1:1" in said["error"]) if used is None else said["step"] == "resolve"
    assert not proxy.heads


def test_this_machine_is_dialled_directly(servers, workshop, proxies):
    """As by 0.0.x: no proxy has a way to another machine's own addresses."""
    backend, server = workshop.backend(), servers.get("ws")
    proxy = proxies(server.port)
    for host in ("127.0.0.1", "localhost"):
        agent = workshop.agent(f"ws://{host}:{server.port}/agent", {"svc": backend.url}, env={"HTTP_PROXY": proxy.url})
        server.wait_agents("svc", through=agent)
        agent.dispose()
        wait_until(lambda: not server.health()["agents"].get("svc"), "it has gone", step=0.05)
    assert not proxy.heads


def test_backends_are_not_asked_through_it(servers, workshop, proxies):
    """The proxy is for the way to the server."""
    backend, server = workshop.backend(tls=server_context()), servers.get("ws")
    proxy = proxies(server.port)
    agent = workshop.agent(f"ws://{NAME}/agent", {"svc": backend.url}, env={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url})
    server.wait_agents("svc", through=agent)
    assert Tunnel(server, agent, "svc", backend).get("/echo").status == 200
    assert {head.split(" ")[1] for head in proxy.heads} == {f"{NAME}:80"}


@pytest.mark.parametrize("value", ["https://p:1", "socks5://p:1", "http://p:99999", "http://p/path", "http://%zz@p:1", "http://"])
def test_one_that_cannot_be_used_is_refused_by_name(value, tmp_path):
    token = tmp_path / "token"
    token.write_text("a.b.c")
    done = subprocess.run([GIMLET, "agent", "--server-url", "ws://h/agent", "--target-url", "http://127.0.0.1:1",
                           "--token-file", token],
                          env={"HTTP_PROXY": value, **SANITIZER_ENV}, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode in (1, 2) and b"HTTP_PROXY" in done.stderr + done.stdout, done


@pytest.mark.parametrize("proxied", [True, False], ids=["proxied", "direct"])
def test_what_an_old_server_may_be_ahead_is_bounded(workshop, proxies, proxied):
    """0.0.x knows no credit: when a backend does not read, the link is not read either, through TLS and a proxy alike."""
    old = OldServer(timeout=PATIENCE)
    backend = workshop.backend(receive_buffer=4096)
    front = workshop.proxy(old.port, tls=server_context(world().server))
    proxy = proxies(front.port)
    host, env = (NAME, {"HTTPS_PROXY": proxy.url}) if proxied else ("127.0.0.1", {})
    agent = workshop.agent(f"wss://{host}:{front.port}/agent", {"svc": backend.url}, env=env)
    link = old.accept()
    link.greet()
    before = agent.rss_bytes()
    size = 1 << 30  # all that the sockets and queues in between may hold is a tenth of it
    link.start("1", f"POST /never-read HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n", end=False)
    sent = 0

    def flood():
        nonlocal sent
        try:
            while sent < size:
                link.message(frame(DATA, "1", bytes(16384)))
                sent += 16384
        except OSError:
            pass
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    last = -1

    def stands():
        nonlocal last
        before_it, last = last, sent
        return sent > 0 and before_it == sent
    wait_until(stands, "the link is not read any more", step=0.5)
    assert sent < size, "all of it was taken"
    assert agent.rss_bytes() - before < 32 << 20
    front.close()
    old.close()
