"""What a client connection costs the server that has had its answer and waits for its next request. Release builds only."""
import resource
import socket

import pytest

from lib.settings import wait_until

pytestmark = [pytest.mark.bulk]

# Design section 9, and what blurs the measurement: pages that nothing had touched until then.
IDLE_BYTES, BLUR_BYTES = 256, 64
FIRST, MORE, AT_ONCE = 600, 6000, 100
ANSWER = """
    location = /large { sendfile on; }
    location = /one { default_type text/plain; return 200 x; }
"""


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_idle_client_costs_its_budget(workshop, many_descriptors):
    nginx = workshop.nginx(ANSWER)
    with open(nginx.www / "large", "wb") as file:
        file.truncate(8 << 20)
    tunnel = workshop.tunnel(target=nginx.url, rings=1)  # each has buffers of its own, which are touched one by one
    request = tunnel.head("GET", "/one")
    long_request = tunnel.head("GET", "/one", f"X-Long: {'x' * 7000}")
    held = []

    def answered(peer):
        data = b""
        while not data.endswith(b"\r\n\r\nx"):
            got = peer.recv(4096)
            assert got, f"{data!r}, and the end"
            data += got
        assert data.startswith(b"HTTP/1.1 200 "), data

    def ask(batch, request):
        for peer in batch:
            peer.sendall(request)
        for peer in batch:
            answered(peer)

    def open_more(count):
        for _ in range(count // AT_ONCE):
            batch = [socket.create_connection(("127.0.0.1", tunnel.server.port), timeout=20) for _ in range(AT_ONCE)]
            held.extend(batch)
            ask(batch, request)
    try:
        # Whatever is used in turn has been touched: buffers, and what as many requests at once need.
        assert len(tunnel.get("/large").body) == 8 << 20
        open_more(FIRST)
        for peer in held:
            ask([peer], long_request)
        ask(held, request)
        tunnel.server.wait_idle()
        before = tunnel.server.rss_exact_bytes()
        open_more(MORE)
        tunnel.server.wait_idle()
        each = (tunnel.server.rss_exact_bytes() - before) / MORE
        print(f"{each:.0f} bytes for each of {MORE} idle connections")
        assert each <= IDLE_BYTES + BLUR_BYTES
        ask(held[::100], request)
    finally:
        for peer in held:
            peer.close()
    wait_until(lambda: tunnel.server.descriptors() < 100, "the server has closed them")
