"""Peers that nobody here has written: nginx as backend, h2load, curl and wrk-like load as clients; what the counters say."""
import hashlib
import json
import re
import shutil
import subprocess
import threading

import pytest

from lib.backend import pattern
from lib.settings import PATIENCE, SANITIZED, wait_until


@pytest.fixture
def nginx(workshop):
    """A tunnel to an nginx that serves files, and proxies /app/ to the Python backend."""
    backend = workshop.backend()
    server = workshop.nginx("""
        gzip on; gzip_min_length 100; gzip_types text/plain;
        location / { default_type text/plain; }
        location = /small { default_type text/plain; return 200 "Hello, world"; }
        location = /tiny { client_max_body_size 1k; proxy_pass http://127.0.0.1:%d/echo; }
        location /app/ { proxy_pass http://127.0.0.1:%d/; }
    """ % (backend.port, backend.port))
    (server.www / "file").write_bytes(pattern(300_000))
    (server.www / "text").write_text("many words " * 1000)
    # What an agent costs that looks for more servers is counted as well: this one does not.
    tunnel = workshop.tunnel(target=server.url, backend=backend, agent_flags=("--connection-check-interval", "0"))
    tunnel.server.wait_lanes([tunnel.agent])
    tunnel.backend = backend
    return tunnel


def test_files(nginx):
    for _ in range(3):
        answer = nginx.get("/file")
        assert answer.body == pattern(300_000) and answer.get("Content-Length") == "300000"


def test_head_of_a_file(nginx):
    with nginx.wire() as wire:
        for _ in range(3):
            assert wire.send(nginx.head("HEAD", "/file")).answer("HEAD").get("Content-Length") == "300000"


def test_ranges(nginx):
    answer = nginx.get("/file", "Range: bytes=1000-1999")
    assert (answer.status, answer.body) == (206, pattern(1000, 1000))
    assert answer.get("Content-Range") == "bytes 1000-1999/300000"


def test_not_modified(nginx):
    tag = nginx.get("/file").get("ETag")
    with nginx.wire() as wire:
        answer = wire.send(nginx.head("GET", "/file", f"If-None-Match: {tag}")).answer()
        assert (answer.status, answer.body) == (304, b"")
        assert wire.send(nginx.head("GET", "/small")).answer().body == b"Hello, world"


def test_compressed_chunks(nginx):
    import zlib
    answer = nginx.get("/text", "Accept-Encoding: gzip")
    assert answer.get("Content-Encoding") == "gzip"
    assert zlib.decompress(answer.body, 31) == b"many words " * 1000


def test_errors_are_the_backends_own(nginx):
    answer = nginx.get("/nothing")
    assert answer.status == 404 and b"nginx" in answer.body and answer.error is None


def test_a_body_that_nginx_refuses(nginx):
    with nginx.wire() as wire:
        wire.send(nginx.head("POST", "/tiny", "Content-Length: 10000000"))
        answer = wire.answer()
        assert answer.status == 413 and b"nginx" in answer.body


def test_curl_posts_megabytes_to_nginx(nginx, curl, tmp_path):
    """What came back empty from version 0.0.6: nginx answers curl's Expect with a 100 of its own."""
    data = tmp_path / "data"
    data.write_bytes(pattern(10_000_000))
    done = curl("--data-binary", f"@{data}", "-H", f"Authorization: Bearer {nginx.token}", nginx.url("/app/echo"))
    seen = json.loads(done.stdout)
    assert (seen["length"], seen["sha256"]) == (10_000_000, hashlib.sha256(pattern(10_000_000)).hexdigest())


def test_h2load_gets_every_answer(nginx):
    program = shutil.which("h2load")
    if not program:
        pytest.skip("h2load is not installed")
    count = 2000 if SANITIZED else 10_000
    done = subprocess.run([program, "--h1", "-n", str(count), "-c", "50", "-t", "1", "-H", f"Authorization: Bearer {nginx.token}",
                           nginx.url("/small")], capture_output=True, text=True, timeout=8 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    assert found and found.groups() == (str(count), str(count), "0", "0"), done.stdout


def test_steady_state_allocates_and_copies_nothing(nginx):
    """On connections that stand, a request costs no allocation; payload is never copied in large pieces."""
    with nginx.wire() as wire:
        def some(count):
            for _ in range(count):
                wire.send(nginx.head("GET", "/file"))
                assert len(wire.answer().body) == 300_000
                wire.send(nginx.head("POST", "/app/echo", "Content-Length: 100000") + bytes(100_000))
                assert wire.answer().status == 200
        some(10)
        before = nginx.server.counters()
        some(40)
        after = nginx.server.counters()
    assert after["requests"] - before["requests"] >= 80
    # Reading the counters is itself a connection.
    assert after["allocations"] - before["allocations"] <= 2
    assert after["copies_large"] == before["copies_large"] == 0


def test_the_token_is_verified_once(nginx):
    with nginx.wire() as wire:
        wire.send(nginx.head("GET", "/small")).answer()
        before = nginx.server.counters()
        for _ in range(100):
            assert wire.send(nginx.head("GET", "/small")).answer().status == 200
        after = nginx.server.counters()
    assert after["token_hits"] - before["token_hits"] == 100
    assert after["token_misses"] == before["token_misses"]


def test_frames_of_many_clients_share_messages(workshop):
    """What makes the tunnel cheap: under load, a WebSocket message carries frames of several streams."""
    tunnel = workshop.tunnel()
    wires = [tunnel.wire() for _ in range(50)]
    before = tunnel.server.counters()
    for _ in range(10):
        for wire in wires:
            wire.send(tunnel.head("GET", "/body?n=10"))
        for wire in wires:
            assert wire.answer().status == 200
    after = tunnel.server.counters()
    frames, messages = (after[n] - before[n] for n in ("frames_sent", "messages_sent"))
    assert frames >= 500 and messages <= frames
    for wire in wires:
        wire.close()


def test_a_spent_budget_is_a_503_at_once_and_comes_back(workshop):
    """The smallest ring there is, and more stalled readers than it can reserve for: new ones are told, old ones go on."""
    tunnel = workshop.tunnel("--ring-memory", "8MiB", agent_flags=("--ring-memory", "8MiB"))
    # Every ring has a budget of its own, and clients spread over the rings.
    count = 250 * tunnel.server.rings
    wires = [tunnel.wire(receive_buffer=4096) for _ in range(count)]
    for wire in wires:
        wire.send(tunnel.head("GET", "/body?n=50000000"))
    statuses = [wire.final_head() for wire in wires]
    refused = [answer for answer in statuses if answer.status != 200]
    assert refused, f"{count} windows fit into {tunnel.server.rings} x 8 MiB?"
    assert {(answer.status, answer.error) for answer in refused} == {(503, "overload")}
    assert len(refused) < count
    for wire in wires:
        wire.reset()
    tunnel.server.wait_idle()
    wait_until(lambda: tunnel.get("/body?n=100000").body == pattern(100_000), "it serves again", PATIENCE, 0.1)


def test_many_clients_of_all_kinds_at_once(tunnel):
    """Everything that the other tests do one at a time."""
    failed = []

    def one(number):
        try:
            with tunnel.wire(timeout=4 * PATIENCE) as wire:
                for step in range(6):
                    kind = (number + step) % 6
                    if kind == 0:
                        assert wire.send(tunnel.head("GET", f"/body?n={number * 1000}")).answer().body == pattern(number * 1000)
                    elif kind == 1:
                        wire.send(tunnel.head("POST", "/echo", f"Content-Length: {number * 500}") + pattern(number * 500))
                        assert json.loads(wire.answer().body)["length"] == number * 500
                    elif kind == 2:
                        assert wire.send(tunnel.head("GET", "/trailers")).answer().trailers
                    elif kind == 3:
                        assert wire.send(tunnel.head("GET", "/sse?n=5&every=0.01")).answer().body.count(b"data:") == 5
                    elif kind == 4:
                        assert wire.send(tunnel.head("GET", "/hints")).answer().body == b"hinted"
                    else:
                        assert wire.send(tunnel.head("GET", f"/chunks?n={number * 300}")).answer().body == pattern(number * 300)
        except BaseException as problem:  # a thread's assertion must reach the test
            failed.append((number, problem))
    threads = [threading.Thread(target=one, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8 * PATIENCE)
    assert not failed, failed[:3]
