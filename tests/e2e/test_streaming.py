"""Streams: events leave at once, a slow reader stops nobody else, whoever leaves is noticed, nothing is cut silently."""
import random
import threading
import time

import pytest
import requests

from lib.backend import pattern
from lib.settings import AT_ONCE, PATIENCE, SANITIZED, TLS, wait_until
from lib.tunnel import Tunnel
from lib.wire import Truncated, chunked

# What no event may wait for by design: Nagle's algorithm with delayed acknowledgements costs 0.04 s, a timer as much.
LATENCY = 0.15 if SANITIZED else 0.03
# Who is held up by another one's stall waits until it ends, which is never.
QUICK = 3.0
MIB = 1 << 20


# --- events ---------------------------------------------------------------------------------------

def test_the_head_of_an_event_stream_comes_before_its_first_event(tunnel):
    with tunnel.wire() as wire:
        since = time.monotonic()
        wire.send(tunnel.head("GET", "/sse?first=10&n=1"))
        assert wire.head().get("Content-Type") == "text/event-stream"
        assert time.monotonic() - since < 5, "the head waited for the event"


def test_events_arrive_as_they_leave(tunnel):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/sse?n=40&every=0.02"))
        answer = wire.final_head()
        delays = []
        for event in wire.events(answer):
            delays.append(time.monotonic() - float(event.split()[2]))
        assert len(delays) == 40
        # What waits by design waits each time; the others may meet moments in which the machine did something else.
        assert sorted(delays)[10] < LATENCY, sorted(delays)


def test_one_event_is_one_piece(tunnel):
    """The chunks of a slow stream are not taken apart, but where a receive buffer ends; nor gathered, but where the machine
    has been busy for the time between two (test_ping_pong_inside_one_exchange leaves it no such time)."""
    answer = tunnel.get("/sse?n=20&every=0.02")
    assert 5 <= answer.chunks <= 22 and answer.body.count(b"data:") == 20


def test_events_pass_while_bulk_fills_the_link(tunnel):
    with tunnel.wire() as bulk, tunnel.wire() as wire:
        bulk.send(tunnel.head("GET", "/body?n=2000000000"))
        stop = threading.Event()

        def swallow():
            while not stop.is_set():
                bulk.socket.recv(1 << 20)
        thread = threading.Thread(target=swallow, daemon=True)
        thread.start()
        wire.send(tunnel.head("GET", "/sse?n=20&every=0.03"))
        answer = wire.final_head()
        delays = [time.monotonic() - float(event.split()[2]) for event in wire.events(answer)]
        stop.set()
        thread.join()
        # Backend, both programs, this reader and the bulk's share two cores and one Python: only standing still is a fault.
        assert sorted(delays)[len(delays) // 2] < 1, sorted(delays)


# --- slow readers ---------------------------------------------------------------------------------

def quick_requests(tunnel, count=30):
    """Latencies of small requests, in seconds."""
    found = []
    with tunnel.wire() as wire:
        for _ in range(count):
            since = time.monotonic()
            assert wire.send(tunnel.head("GET", "/body?n=100")).answer().status == 200
            found.append(time.monotonic() - since)
    return sorted(found)


def test_a_client_that_reads_nothing_stops_only_itself(tunnel, backend):
    with tunnel.wire(receive_buffer=4096) as wire:
        wire.send(tunnel.head("GET", "/body?n=500000000"))
        seen = backend.wait_seen()
        sent = settled(seen)
        assert sent < 64 * MIB, "the tunnel takes what nobody reads"
        assert quick_requests(tunnel)[-2] < QUICK
        assert settled(seen) - sent < 4 * MIB, "and goes on taking"


def settled(seen, seconds=0.5) -> int:
    """How much a backend has sent, once it stands still."""
    deadline = time.monotonic() + PATIENCE
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        if seen.body_bytes != last:
            last, since = seen.body_bytes, time.monotonic()
        elif time.monotonic() - since > seconds:
            return last
        time.sleep(0.02)
    raise AssertionError("the backend can send and send")


def test_a_client_of_one_kilobyte_a_second_stops_only_itself(tunnel, backend):
    with tunnel.wire(receive_buffer=4096) as wire:
        wire.send(tunnel.head("GET", "/body?n=500000000"))
        stop = threading.Event()
        got = []

        def sip():
            while not stop.is_set():
                got.append(len(wire.socket.recv(100)))
                time.sleep(0.1)
        thread = threading.Thread(target=sip, daemon=True)
        thread.start()
        settled(backend.wait_seen())
        worst = quick_requests(tunnel, 50)
        stop.set()
        thread.join()
        assert worst[-2] < QUICK, worst[-5:]
        assert sum(got) > 200, "the slow one is served, slowly"


def test_a_backend_that_reads_nothing_stops_only_its_own_upload(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/never-read", "Content-Length: 500000000"))
        wire.socket.setblocking(False)
        sent, quiet = 0, time.monotonic()
        data = bytes(1 << 16)
        while time.monotonic() - quiet < 0.7:
            try:
                sent += wire.socket.send(data)
                quiet = time.monotonic()
                assert sent < 64 * MIB, "the tunnel takes what nobody reads"
            except BlockingIOError:
                time.sleep(0.01)
        assert quick_requests(tunnel)[-2] < QUICK
        wire.reset()  # a FIN would wait behind the bytes that nobody takes


def test_two_hundred_stalled_readers(workshop):
    """64 MiB wait for each of them; the processes hold their budgets, and others are served."""
    tunnel = workshop.tunnel()
    wires = [tunnel.wire(receive_buffer=4096) for _ in range(200)]
    try:
        for wire in wires:
            wire.send(tunnel.head("GET", f"/body?n={64 * MIB}&step=65536"))
        wait_until(lambda: len(tunnel.backend.seen) + tunnel.server.counter("requests_failed") >= 200, "all have been asked",
                   2 * PATIENCE)
        time.sleep(1.0)
        assert quick_requests(tunnel, 20)[10] < QUICK
        if not SANITIZED:
            budget = 64 * MIB * tunnel.server.rings + 16 * MIB
            for process in tunnel.processes:
                assert process.rss_peak_bytes() <= budget, f"{process.name}: {process.rss_peak_bytes() / MIB:.1f} MiB"
    finally:
        for wire in wires:
            wire.reset()
    tunnel.server.wait_idle()
    assert tunnel.get("/body?n=10").status == 200


def test_bodies_share_a_link_fairly(tunnel):
    """Two equal downloads at once end at about the same time: neither starves."""
    ends = {}

    def fetch(name):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("GET", "/body?n=30000000"))
            assert len(wire.answer().body) == 30_000_000
        ends[name] = time.monotonic()
    since = time.monotonic()
    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE)
    assert len(ends) == 2
    spans = sorted(end - since for end in ends.values())
    assert spans[0] > spans[1] * 0.4, spans


# --- both directions at once ----------------------------------------------------------------------

def echo_through(tunnel, total: int, step: int = 1 << 18):
    """Sends `total` bytes as a chunked body to the duplex echo and checks what comes back, at the same time."""
    problem = []
    with tunnel.wire(timeout=4 * PATIENCE) as wire:
        wire.send(tunnel.head("POST", "/duplex", "Transfer-Encoding: chunked"))
        block = pattern(251 * 1024)

        def push():
            try:
                left = total
                while left > 0:
                    piece = block[:left]
                    wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    left -= len(piece)
                wire.send(b"0\r\n\r\n")
            except OSError as error:
                problem.append(error)
        thread = threading.Thread(target=push)
        thread.start()
        answer = wire.final_head()
        assert answer.status == 200
        at = 0
        for piece in wire.body_pieces(answer):
            assert piece == pattern(len(piece), at), f"bytes differ near {at}"
            at += len(piece)
        thread.join()
    assert at == total and not problem, (at, total, problem)


def test_full_duplex_echo(tunnel):
    echo_through(tunnel, (8 if SANITIZED else 64) * MIB)


def test_many_full_duplex_echoes(tunnel):
    threads, failed = [], []

    def run(size):
        try:
            echo_through(tunnel, size)
        except BaseException as problem:
            failed.append(problem)
    for n in range(8):
        threads.append(threading.Thread(target=run, args=(MIB + n * 1000,)))
        threads[-1].start()
    for thread in threads:
        thread.join(4 * PATIENCE)
    assert not failed, failed


def test_ping_pong_inside_one_exchange(tunnel, backend):
    """The answer to each piece comes before the next one is sent: nothing waits for more."""
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/duplex", "Transfer-Encoding: chunked"))
        answer = wire.final_head()
        for n in range(100):
            wire.send(b"5\r\n%05d\r\n" % n)
            piece = wire.chunk(answer)
            while len(piece) < 5:  # what straddles two receive buffers passes as two chunks
                piece += wire.chunk(answer)
            assert piece == b"%05d" % n
        wire.send(b"0\r\n\r\n")
        assert wire.chunk(answer) == b""


# --- clients that leave ---------------------------------------------------------------------------

def leaves(tunnel, backend, rest, how, *, method="GET", body=b"", read=0, fields=()):
    """A client that leaves in a certain phase: the backend must notice at once."""
    wire = tunnel.wire(receive_buffer=8192)
    wire.send(tunnel.head(method, rest, *fields) + body)
    seen = backend.wait_seen()
    if read:
        wire.exactly(read)
    since = time.monotonic()
    getattr(wire, how)()
    assert seen.gone.wait(PATIENCE), "the backend's request goes on without its client"
    assert seen.gone_at - since < AT_ONCE, f"noticed after {seen.gone_at - since:.2f} s"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("phase", ["before the head", "in the body", "between events", "in an upload", "in a stalled download"])
def test_a_client_that_leaves_cancels_its_backend_at_once(tunnel, backend, phase, how):
    if phase == "before the head":
        leaves(tunnel, backend, "/hang", how)
    elif phase == "in the body":
        leaves(tunnel, backend, "/stall?n=5000", how, read=1000)
    elif phase == "between events":
        leaves(tunnel, backend, "/sse?n=100&every=0.05", how, read=300)
    elif phase == "in an upload":
        leaves(tunnel, backend, "/echo", how, method="POST", body=b"half", fields=("Content-Length: 1000",))
    else:
        leaves(tunnel, backend, "/body?n=500000000", how, read=5000)


def test_a_storm_of_disconnects_while_streaming(tunnel, backend):
    """What killed version 0.0.6 within seconds: clients that begin a streaming answer and hang up."""
    chance = random.Random(11)
    began, enough = time.monotonic(), 30 if TLS else 100  # with TLS each has a handshake of Python's own
    count = [0]

    def goes_on():
        span = time.monotonic() - began
        return span < 4 or (count[0] < enough and span < PATIENCE)

    def storm(seed):
        chance_here = random.Random(seed)
        while goes_on():
            wire = tunnel.wire()
            wire.send(tunnel.head("GET", chance_here.choice(["/sse?n=1000&every=0.001", "/body?n=3000000&step=5000", "/chunks?n=900000"])))
            if chance_here.random() < 0.7:
                wire.some()
            if chance_here.random() < 0.5:
                time.sleep(chance_here.random() * 0.01)
            wire.reset() if chance_here.random() < 0.5 else wire.close()
            count[0] += 1
    threads = [threading.Thread(target=storm, args=(chance.random(),)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert count[0] >= enough, count
    tunnel.check()
    tunnel.server.wait_idle()
    wait_until(lambda: backend.open <= 64, "the backend's connections are given up")
    assert tunnel.get("/body?n=100").body == pattern(100)


def test_nothing_is_left_behind(workshop):
    """After all sorts of requests and ends, every reservation and every buffer is home."""
    tunnel = workshop.tunnel()

    def gauges():
        counters = tunnel.server.counters()
        return {name: counters[name] for name in ("memory_reserved_bytes", "blocks_in_use")}
    tunnel.get("/body?n=1000")
    tunnel.server.wait_idle()
    before = gauges()
    for rest in ("/body?n=2000000", "/chunks?n=100000", "/trailers", "/cut?coding=length", "/cut?coding=chunk", "/drop",
                 "/until-close?n=9999", "/nothing"):
        for _ in range(5):
            try:
                tunnel.get(rest)
            except (Truncated, ConnectionResetError):
                pass
    for _ in range(20):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("POST", "/echo", "Content-Length: 100000") + bytes(5000))
        with tunnel.wire(receive_buffer=4096) as wire:
            wire.send(tunnel.head("GET", "/body?n=10000000"))
            wire.exactly(1000)
            wire.reset()
    tunnel.server.wait_idle()
    # A ping on its way may have held a block when the first look was taken.
    wait_until(lambda: all(now <= before[name] for name, now in gauges().items()), f"gauges return from {gauges()} to {before}", 10)
    assert tunnel.server.counter("copies_large") == 0, "payload is never copied in large pieces"


# --- backends that die ----------------------------------------------------------------------------

CUTS = ["length", "chunked", "chunk"]


@pytest.mark.parametrize("coding", CUTS)
def test_a_backend_that_dies_in_its_body_is_an_error_to_the_client(tunnel, coding):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", f"/cut?coding={coding}"))
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()


@pytest.mark.parametrize("coding", CUTS)
def test_the_requests_library_notices(tunnel, coding):
    """Chunked: it raises. Counted: version 2.28 hands the short body over, whose length tells."""
    if coding == "length":
        answer = requests.get(tunnel.url("/cut?coding=length"), headers=tunnel.auth, timeout=PATIENCE)
        assert len(answer.content) < int(answer.headers["Content-Length"])
    else:
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
            assert not requests.get(tunnel.url(f"/cut?coding={coding}"), headers=tunnel.auth, timeout=PATIENCE).content


@pytest.mark.parametrize("coding", CUTS)
def test_the_standard_library_raises(tunnel, coding):
    import http.client
    if tunnel.server.context:
        connection = http.client.HTTPSConnection("127.0.0.1", tunnel.server.port, timeout=PATIENCE, context=tunnel.server.context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", tunnel.server.port, timeout=PATIENCE)
    connection.request("GET", tunnel.path(f"/cut?coding={coding}"), headers=tunnel.auth)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize("coding", CUTS)
def test_curl_reports_it(tunnel, curl, coding):
    done = curl("-H", f"Authorization: Bearer {tunnel.token}", tunnel.url(f"/cut?coding={coding}"), code=None)
    assert done.returncode in (18, 56), done


def test_a_reset_until_close_body_is_an_error(tunnel):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/cut?coding=close"))
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()


def test_a_cut_answer_to_an_http10_client_ends_with_a_reset(tunnel):
    """Its body ends with the connection, so only a RST tells the cut from the end."""
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/cut?coding=chunked&pause=0.3')} HTTP/1.0\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n")
        assert wire.final_head().get("Transfer-Encoding") is None
        with pytest.raises(ConnectionResetError):
            wire.until_end()


def test_a_backend_that_dies_in_the_upload(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/drop?unread=1", "Content-Length: 100000") + bytes(1000))
        answer = wire.answer()
        assert (answer.status, answer.error) == (502, "backend_closed")


# --- bad networks ---------------------------------------------------------------------------------

def through_proxies(workshop, delay=0.0):
    """A tunnel whose link and whose backend are reached through fault proxies."""
    backend = workshop.backend()
    server = workshop.server()
    link, back = workshop.proxy(server.port), workshop.proxy(backend.port)
    link.delay = delay
    agent = workshop.agent(server.agent_url_at(link.port), {"svc": backend.url_at(back.port)})
    server.wait_agents("svc", through=agent)
    tunnel = Tunnel(server, agent, "svc", backend)
    tunnel.link, tunnel.back = link, back
    return tunnel


@pytest.fixture
def rough(workshop):
    return through_proxies(workshop)


def everything(tunnel):
    data = pattern(30_000)
    with tunnel.wire(timeout=4 * PATIENCE) as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(data, trailers=b"A: b\r\n"))
        assert b'"length": 30000' in wire.answer().body
        assert wire.send(tunnel.head("GET", "/body?n=40000")).answer().body == pattern(40_000)
        answer = wire.send(tunnel.head("GET", "/trailers", "TE: trailers")).answer()
        assert answer.trailers == [("X-Sum", "42"), ("X-More", "yes it is")]
        assert wire.send(tunnel.head("HEAD", "/body?n=9")).answer("HEAD").get("Content-Length") == "9"


@pytest.mark.parametrize("where", ["link", "back"])
def test_every_segment_is_a_single_byte(rough, where):
    getattr(rough, where).split = 1
    everything(rough)


@pytest.mark.parametrize("where", ["link", "back"])
def test_a_long_way(rough, where):
    getattr(rough, where).delay = 0.1
    everything(rough)


def test_a_narrow_link(rough):
    rough.link.rate = 200_000
    everything(rough)


def test_a_long_fat_link_gets_its_window(workshop):
    """40 ms each way and no loss: with a window of 64 KiB that never grew, 16 MiB would take 20 s."""
    rough = through_proxies(workshop, delay=0.04)
    since = time.monotonic()
    with rough.wire(timeout=4 * PATIENCE) as wire:
        assert len(wire.send(rough.head("GET", f"/body?n={16 * MIB}")).answer().body) == 16 * MIB
    span = time.monotonic() - since
    assert span < (15 if SANITIZED else 10), f"{span:.1f} s: the window does not grow"


@pytest.mark.parametrize("reset", [False, True])
def test_a_link_that_is_cut_ends_its_streams_at_once_and_comes_back(rough, reset):
    with rough.wire() as wire:
        wire.send(rough.head("GET", "/stall?coding=chunked"))
        wire.final_head()
        since = time.monotonic()
        rough.link.cut(reset)
        try:
            assert not wire.until_end().endswith(b"0\r\n\r\n"), "a cut answer that looks whole"
        except ConnectionResetError:
            pass
        assert time.monotonic() - since < AT_ONCE
    assert rough.backend.last().gone.wait(5), "the agent abandons what the server no longer waits for"
    wait_until(lambda: rough.get("/body?n=5").status == 200, "the agent has linked again", PATIENCE, 0.1)


def test_a_backend_connection_that_is_reset_is_a_502(rough):
    with rough.wire() as wire:
        wire.send(rough.head("POST", "/hang", "Content-Length: 0"))  # a GET would be tried again on another lane
        rough.backend.wait_seen()
        rough.back.cut(reset=True)
        answer = wire.answer()
        assert (answer.status, answer.error) == (502, "backend_closed")


def test_a_stale_pooled_connection_is_not_a_clients_problem(rough):
    """The pooled connection dies while it is idle; the next request of any kind must not notice."""
    assert rough.get("/body?n=1").status == 200
    rough.back.cut()
    time.sleep(0.1)
    assert rough.ask("POST", "/echo", body=b"x").status == 200


def test_a_pooled_connection_that_dies_under_a_get_is_retried(workshop):
    """It accepts the second request and closes without a byte: GET goes again on a fresh connection, POST does not."""
    asked = []

    async def script(peer):
        first = True
        while seen := await peer.head():
            await peer.take(seen)
            asked.append((peer.number, seen.method))
            if not first:
                return
            first = False
            await peer.answer("200 OK", b"fine")
    tunnel = workshop.tunnel(backend=workshop.backend(script))
    with tunnel.wire() as wire:
        for _ in range(6):
            assert wire.send(tunnel.head("GET", "/")).answer().status == 200
    assert len(asked) > 6, "at least one connection has been used twice"
