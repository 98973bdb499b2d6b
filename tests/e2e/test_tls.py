"""TLS as it should be spoken: every client, version, suite and way to cut records; resumption, key updates, names,
certificates that change, certificates of clients; what must be refused."""
import hashlib
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

from lib import tls
from lib.backend import pattern
from lib.settings import PATIENCE, SANITIZED, free_port, wait_until
from lib.tls import SUITES, Authority, Ragged, client_context, s_client, server_context, world
from lib.tunnel import Tunnel
from lib.wire import Truncated, Wire, chunked

BROKEN = (ssl.SSLError, ConnectionError, Truncated)


def exchange(tunnel, *, upload=30_000, download=100_000, **options):
    """One connection: an upload, a download, trailers, all checked; its TLS object."""
    data = pattern(upload)
    with tunnel.wire(timeout=2 * PATIENCE, **options) as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(data[:100], data[100:]))
        assert hashlib.sha256(data).hexdigest().encode() in wire.answer().body
        assert wire.send(tunnel.head("GET", f"/body?n={download}")).answer().body == pattern(download)
        assert wire.send(tunnel.head("GET", "/trailers", "TE: trailers")).answer().trailers[0] == ("X-Sum", "42")
        return wire.socket.tls


# --- client x version x suite x fragmentation -----------------------------------------------------

@pytest.fixture(scope="module")
def with_rsa(shared_tls, run_dir, keys):
    """A server with an RSA certificate, in front of the shared backend."""
    from lib.tunnel import Agent, Server
    server = Server(run_dir, keys, secure=world().rsa())
    agent = Agent(run_dir, keys, server.agent_url, {"svc": shared_tls.backend.url})
    server.wait_agents("svc", through=agent)
    yield Tunnel(server, agent, "svc", shared_tls.backend)
    for process in (agent, server):
        process.dispose()


@pytest.fixture
def signed(request, secure):
    """Gives the tunnel whose server signs with "ECDSA" or "RSA"."""
    return lambda kind: secure if kind == "ECDSA" else request.getfixturevalue("with_rsa")


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
@pytest.mark.parametrize("suite", SUITES["1.2"])
def test_suites_of_version_12(signed, kind, suite):
    suite = suite % kind
    spoken = exchange(signed(kind), tls=client_context(version="1.2", suite=suite))
    assert spoken.version() == "TLSv1.2" and spoken.cipher()[0] == suite


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
@pytest.mark.parametrize("suite", SUITES["1.3"])
def test_suites_of_version_13(signed, kind, suite, curl, tmp_path):
    """By curl, as Python cannot choose them."""
    tunnel, path = signed(kind), tmp_path / "upload"
    path.write_bytes(pattern(300_000))
    done = curl("-v", "--cacert", world().root.certificate, "--tlsv1.3", "--tls13-ciphers", suite, "-T", path, "-H",
                f"Authorization: Bearer {tunnel.token}", tunnel.url("/echo"))
    assert f"TLSv1.3 / {suite}".encode() in done.stderr
    assert hashlib.sha256(pattern(300_000)).hexdigest().encode() in done.stdout


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("record,segment,size", [(1, 0, 400), (16384, 1, 2000), (17, 3, 4000), (100, 0, 30_000),
                                                 (1000, 7, 30_000), (16384, 1400, 200_000)])
def test_records_and_segments_of_every_size(secure, version, record, segment, size):
    exchange(secure, upload=size, tls=client_context(version=version), record=record, segment=segment)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("step", [1, 3, 4, 100])
def test_a_hello_in_many_records(secure, workshop, version, step):
    """A handshake message may be spread over records (RFC 8446 section 5.1), whose header wolfSSL wants in one of them."""
    def spread(way, number, record):
        if (way, number) != (0, 0):
            return record
        return b"".join(record[:3] + len(part).to_bytes(2, "big") + part
                        for part in (record[at:at + step] for at in range(5, len(record), step)))
    meddler = workshop.meddler(secure.server.port, spread)
    with Wire(meddler.port, tls=client_context(version=version)) as wire:
        assert wire.send(secure.head("GET", "/body?n=5")).answer().body == pattern(5)


@pytest.mark.parametrize("fragment", [512, 1000, 16384])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(secure, version, fragment):
    data = pattern(60_000)
    head = secure.head("POST", "/echo", f"Content-Length: {len(data)}", "Connection: close")
    done = subprocess.run(s_client(secure.server.port, version, "-quiet", "-max_send_frag", fragment),
                          input=head + data, capture_output=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"HTTP/1.1 200 ") and hashlib.sha256(data).hexdigest().encode() in done.stdout


@pytest.mark.parametrize("groups,used", [("X25519", b"X25519"), ("P-256", b"prime256v1"), ("P-384", b"secp384r1"),
                                         ("X448:P-256", b"prime256v1")])
def test_groups(secure, groups, used):
    """The last one's first key share is of a group that few servers have: a second hello is asked for."""
    done = subprocess.run(s_client(secure.server.port, "-groups", groups), input=b"Q\n", capture_output=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0 and b"Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
    spoken = re.search(rb"Server Temp Key: (.*)", done.stdout)[1]
    assert used in spoken, spoken


def test_curl_of_every_version(secure, curl, tmp_path):
    """Downloads and uploads of some megabytes, whole."""
    path = tmp_path / "upload"
    path.write_bytes(pattern(3_000_000))
    common = ("--cacert", world().root.certificate, "-H", f"Authorization: Bearer {secure.token}")
    for flags in (("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",)):
        done = curl(*common, *flags, secure.url("/body?n=3000000"))
        assert done.stdout == pattern(3_000_000)
        done = curl(*common, *flags, "-T", path, secure.url("/echo"))
        assert hashlib.sha256(pattern(3_000_000)).hexdigest().encode() in done.stdout


def test_http11_is_agreed_on_where_it_is_offered(secure):
    for offer in (["http/1.1"], ["h2", "http/1.1"]):
        assert exchange(secure, tls=client_context(alpn=offer)).selected_alpn_protocol() == "http/1.1"
    assert exchange(secure).selected_alpn_protocol() is None


# --- refused --------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [
    ("-tls1",), ("-tls1_1",), ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384"),
    ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA"), ("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"),
], ids=" ".join)
def test_what_is_out_of_date_is_refused_with_an_alert(secure, flags):
    flags = [f"{flag}:@SECLEVEL=0" if before == "-cipher" else flag for before, flag in zip(("", *flags), flags)]
    if "-cipher" not in flags:
        flags += ["-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(s_client(secure.server.port, *flags), input=b"Q\n", capture_output=True, timeout=PATIENCE,
                          check=False)
    assert done.returncode == 1
    assert re.search(rb"alert (protocol version|handshake failure)", done.stderr), done.stderr
    assert secure.get("/body?n=1").status == 200


def test_renegotiation_is_refused(secure):
    process = subprocess.Popen(s_client(secure.server.port, "-tls1_2"), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    process.stdin.write(b"R\n")
    process.stdin.flush()
    output, _ = process.communicate(timeout=PATIENCE)
    assert b"RENEGOTIATING" in output, output
    after = output.split(b"RENEGOTIATING")[1]
    assert re.search(rb"no renegotiation|alert|unexpected eof|errno", after), after
    assert b"verify return:1" not in after, "a second handshake has begun"
    assert secure.get("/body?n=1").status == 200


@pytest.mark.parametrize("hello", [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /services/svc/ HTTP/1.1\r\n\r\n"])
def test_plain_http_on_the_tls_port_is_told_so(secure, hello):
    """A 400 in plain text, or an end; and a line that says what was wrong."""
    lines = len(secure.server.log("TLS with a client failed"))
    with Wire(secure.server.port) as wire:
        try:
            got = wire.send(hello).until_end()
        except ConnectionResetError:
            got = b""
    assert not got or got.startswith((b"HTTP/1.1 400 ", b"\x15\x03")), got
    line = secure.server.wait_log("TLS with a client failed", lines + 1)[-1]
    assert "does not speak TLS" in line["error"] and line["from"] == "127.0.0.1"


def test_noise_on_the_tls_port_ends_the_connection(secure):
    for noise in (bytes(100), b"\xff" * 600, b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + bytes(500),
                  b"\x80\x2e\x01\x00\x02" + bytes(60), b"\x15\x03\x03\x00\x02\x02\x28", b"\x17\x03\x03\x00\x10" + bytes(16)):
        with Wire(secure.server.port) as wire:
            try:
                got = wire.send(noise).until_end()
            except ConnectionResetError:
                continue
            assert not got or got[:1] == b"\x15", got
    assert secure.get("/body?n=1").status == 200


def test_tls_on_the_plain_port_is_a_400(workshop):
    server = workshop.server(secure=False)
    with Wire(server.port) as wire:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        spoken = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            spoken.do_handshake()
        answer = wire.send(outgoing.read()).answer()
        assert answer.status == 400
        assert wire.expect_end() == b""


def test_sslscan_finds_nothing(secure):
    import shutil
    import xml.etree.ElementTree as tree
    program = shutil.which("sslscan")
    if not program:
        pytest.skip("sslscan is not installed")
    done = subprocess.run([program, "--no-colour", "--xml=-", "--show-certificate", f"127.0.0.1:{secure.server.port}"],
                          capture_output=True, timeout=4 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    test = tree.fromstring(done.stdout[done.stdout.index(b"<?xml"):]).find("ssltest")
    protocols = {(p.get("type"), p.get("version")): p.get("enabled") for p in test.findall("protocol")}
    on = {name for name, enabled in protocols.items() if enabled == "1"}
    assert on == {("tls", "1.2"), ("tls", "1.3")} and len(protocols) == 6, protocols
    ciphers = [(c.get("sslversion"), c.get("cipher"), int(c.get("bits"))) for c in test.findall("cipher")]
    assert {version for version, _, _ in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for version, name, bits in ciphers:
        assert bits >= 128 and re.search("GCM|POLY1305", name), (version, name, bits)
        assert version == "TLSv1.3" or name.startswith("ECDHE-"), f"{name} has no forward secrecy"
    compression = test.find("compression")  # Debian's OpenSSL cannot ask for any: see test_compression_is_never_chosen
    assert compression is None or compression.get("supported") == "0"
    renegotiation = test.find("renegotiation")
    assert renegotiation.get("supported") == "0" or renegotiation.get("secure") == "1", renegotiation.attrib
    assert all(bleed.get("vulnerable") == "0" for bleed in test.findall("heartbleed"))
    weak = [group.get("name") for group in test.findall("group") if int(group.get("bits")) < 112]
    assert not weak, weak
    assert secure.get("/body?n=1").status == 200


# --- resumption and key updates -------------------------------------------------------------------

@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(secure, version, tmp_path):
    session, ask = tmp_path / "session", secure.head("GET", "/body?n=3", "Connection: close")

    def run(*flags):
        process = subprocess.Popen(s_client(secure.server.port, version, "-ign_eof", *flags), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return process.communicate(ask, timeout=PATIENCE)[0]
    first = run("-sess_out", session)
    assert b"\nNew, TLSv1" in first and session.exists() and pattern(3) in first
    for _ in range(2):
        again = run("-sess_in", session)
        assert b"\nReused, TLSv1" in again and pattern(3) in again, again


def test_a_session_of_another_server_is_not_resumed_but_served(secure, workshop):
    """A ticket that nobody can open costs a whole handshake, not the connection."""
    stranger = workshop.server(secure=world().server)
    context = client_context(version="1.2")
    with stranger.wire(tls=context) as wire:
        session = wire.socket.tls.session
    with secure.wire(tls=context, session=session) as wire:
        assert not wire.socket.tls.session_reused
        assert wire.send(secure.head("GET", "/body?n=3")).answer().body == pattern(3)


class Session:
    """openssl s_client, spoken to: each thing is said once what was said before has had its effect, for it takes a letter
    for a command only at the beginning of what it reads at once."""

    def __init__(self, port, *flags):
        self.process = subprocess.Popen(s_client(port, *flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self.output += piece

    def say(self, words: bytes, effect: bytes, count: int):
        self.process.stdin.write(words)
        self.process.stdin.flush()
        wait_until(lambda: self.output.count(effect) >= count, f"{effect} for the {count}. time", PATIENCE)

    def end(self):
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.mark.parametrize("letter", [b"k", b"K"])
def test_keys_are_updated_in_the_middle(secure, letter):
    """k: the client's keys change; K: it asks for the server's, too."""
    update = b"TLS 1.3, Handshake [length 0005], KeyUpdate"
    session = Session(secure.server.port, "-tls1_3", "-msg")
    session.say(b"", b", Finished", 2)
    for i, (rest, keep) in enumerate((("/body?n=1000", "keep-alive"), ("/body?n=2000", "keep-alive"), ("/body?n=3000", "close"))):
        for n in range(2):
            session.say(letter + b"\n", b">>> " + update, 2 * i + n + 1)
        session.say(secure.head("GET", rest, f"Connection: {keep}"), b"HTTP/1.1 200 ", i + 1)
    session.end()
    assert session.output.count(b">>> " + update) == 6, "that is what was to be tested"
    answers = session.output.count(b"<<< " + update)
    assert answers >= 3 if letter == b"K" else answers == 0, "each request for new keys is answered before the next payload"


# --- names ----------------------------------------------------------------------------------------

@pytest.fixture
def named(workshop, tmp_path):
    """A server with a folder of pairs, and what each name gets."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    pairs = {
        "a-default": world().middle.issue(*tls.LOCAL, "gimlet.example"),
        "exact": world().middle.issue("one.example.com", "deep.one.example.com"),
        "wild": world().middle.issue("*.example.com", kind="rsa"),
        "other": world().middle.issue("other.example.org", "*.cdn.example.org"),
    }
    for name, pair in pairs.items():
        pair.install(folder / f"{name}.{'pem' if name == 'other' else 'crt'}", folder / f"{name}.key")
    server = workshop.server(secure=["--tls-dir", str(folder)])
    server.pairs, server.folder = pairs, folder
    return server


def shown(port: int, name: "str | None", **options) -> int:
    """The serial number of the certificate that a client who asks for `name` is shown."""
    context = client_context(**options)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Wire(port, tls=context, server_name=name) as wire:
        from cryptography import x509
        return x509.load_der_x509_certificate(wire.socket.tls.getpeercert(True)).serial_number


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_certificate_is_chosen_by_name(named, version):
    expected = {"one.example.com": "exact", "ONE.Example.COM": "exact", "two.example.com": "wild", "deep.one.example.com": "exact",
                "deep.two.example.com": "a-default", "example.com": "a-default", "other.example.org": "other",
                "x.cdn.example.org": "other", "a.x.cdn.example.org": "a-default", "unknown.test": "a-default",
                "gimlet.example": "a-default", None: "a-default"}
    got = {name: shown(named.port, name, version=version) for name in expected}
    names = {pair.serial: name for name, pair in named.pairs.items()}
    assert {name: names[serial] for name, serial in got.items()} == expected
    with Wire(named.port, tls=client_context(version=version), server_name="two.example.com") as wire:
        assert wire.send("GET /health HTTP/1.1\r\nHost: two.example.com\r\n\r\n").answer().status == 200


def test_a_pair_of_its_own_and_a_folder(workshop, tmp_path):
    """Who asks for a name that the folder does not have gets --tls-cert's."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    one = world().middle.issue("one.example.com")
    one.install(folder / "one.crt", folder / "one.key")
    server = workshop.server(secure=[*world().server.flags, "--tls-dir", str(folder)])
    assert shown(server.port, "one.example.com") == one.serial
    assert shown(server.port, "two.example.com") == shown(server.port, None) == world().server.serial


# --- certificates that change ---------------------------------------------------------------------

@pytest.fixture
def renewable(workshop, tmp_path):
    """A tunnel whose server's certificate can be replaced."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    world().server.install(cert, key)
    tunnel = workshop.tunnel(secure=["--tls-cert", str(cert), "--tls-key", str(key)])
    tunnel.cert, tunnel.key = cert, key
    return tunnel


def test_a_renewed_certificate_is_used_and_no_connection_dropped(renewable):
    server, renewed = renewable.server, world().middle.issue(*tls.LOCAL, kind="rsa")
    server.wait_lanes([renewable.agent])
    links = len(server.log("agent attached"))
    with renewable.wire() as stream, renewable.wire() as idle:
        stream.send(renewable.head("GET", "/sse?n=35&every=0.1"))
        pieces = stream.body_pieces(stream.final_head())
        events = next(pieces).count(b"data:")
        renewed.install(renewable.cert, renewable.key)
        wait_until(lambda: shown(server.port, None) == renewed.serial, "the new certificate is shown", step=0.2)
        assert idle.send(renewable.head("GET", "/body?n=7")).answer().body == pattern(7)
        events += sum(piece.count(b"data:") for piece in pieces)
    assert events == 35
    again = [line for line in server.log("certificates loaded") if line["again"]]
    assert len(again) == 1 and again[0]["pairs"] == 1 and again[0]["notAfter"].startswith("20"), again
    assert len(server.log("agent attached")) == links and not server.log("agent detached"), "the link stayed"
    assert renewable.get("/body?n=3").body == pattern(3)


BROKEN_RENEWALS = {
    "rubbish": lambda cert, key: cert.write_text("this is no certificate\n"),
    "another key": lambda cert, key: key.write_bytes(world().backend.key.read_bytes()),
    "half a file": lambda cert, key: cert.write_bytes(cert.read_bytes()[:300]),
    "no file": lambda cert, key: cert.unlink(),
}


def test_a_broken_renewal_changes_nothing_and_is_logged(workshop, tmp_path):
    """Of every sort at once, each at a server of its own: a change takes its seconds to be seen."""
    cases = []
    for what, harm in BROKEN_RENEWALS.items():
        (tmp_path / what).mkdir()
        cert, key = tmp_path / what / "cert.pem", tmp_path / what / "key.pem"
        world().server.install(cert, key)
        server = workshop.server(secure=["--tls-cert", str(cert), "--tls-key", str(key)])
        cases.append((what, server, cert, key))
        harm(cert, key)
    for what, server, cert, key in cases:
        line = server.wait_log("the changed certificates cannot be used: those loaded before stay")[0]
        assert line["level"].lower() == "error", what
        assert str(cert) in line["error"] or str(key) in line["error"], f"{what}: {line['error']!r} names no file"
        assert shown(server.port, None) == world().server.serial, what
    mended = world().middle.issue(*tls.LOCAL)
    for _, server, cert, key in cases:
        mended.install(cert, key)
    for what, server, *_ in cases:
        wait_until(lambda: shown(server.port, None) == mended.serial, f"{what}: the mended one is used", step=0.2)


def test_a_folder_gains_and_loses_pairs(named):
    added = world().middle.issue("late.example.net")
    assert shown(named.port, "late.example.net") == named.pairs["a-default"].serial
    added.install(named.folder / "late.crt", named.folder / "late.key")
    wait_until(lambda: shown(named.port, "late.example.net") == added.serial, "the new pair serves its name", step=0.2)
    (named.folder / "late.crt").unlink()
    (named.folder / "late.key").unlink()
    wait_until(lambda: shown(named.port, "late.example.net") == named.pairs["a-default"].serial, "its name is forgotten", step=0.2)


# --- certificates of clients ----------------------------------------------------------------------

def asking(workshop, *flags, client=None, agent_flags=()):
    client_ca = ["--tls-client-ca", str(world().client_root().certificate)]
    return workshop.tunnel(*client_ca, *flags, secure=world().server, client=client, agent_flags=agent_flags,
                           backend=workshop.backend())


AGENT_PAIR = ("--client-cert", "--client-key")


def as_agent(pair) -> "list[str]":
    return [item for flag, path in zip(AGENT_PAIR, pair) for item in (flag, str(path))]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_required_certificates(workshop, version):
    alice, mallory = world().client(), Authority(world().directory, "Somebody else").issue(common_name="mallory", client=True)
    tunnel = asking(workshop, "--tls-client-auth", "require", client=alice, agent_flags=as_agent(world().client("the-agent")))
    answer = tunnel.get("/echo", "X-Forwarded-Client-Cert: Subject=\"CN=root\"", tls=client_context(version=version, pair=alice))
    assert answer.status == 200
    told = tunnel.backend.last().get("x-forwarded-client-cert")
    assert told.startswith('Subject="') and "CN=alice" in told and "O=Gimlet" in told and "root" not in told
    for pair in (None, mallory, world().server):
        with pytest.raises(BROKEN):
            with tunnel.wire(tls=client_context(version=version, pair=pair)) as wire:
                wire.send(tunnel.head("GET", "/echo?refused")).answer()
    assert not any("refused" in seen.target for seen in tunnel.backend.seen)
    tunnel.server.wait_log("TLS with a client failed", 3)


def test_required_is_what_a_ca_alone_means(workshop):
    tunnel = asking(workshop, client=world().client(), agent_flags=as_agent(world().client("the-agent")))
    assert tunnel.get("/echo").status == 200
    with pytest.raises(BROKEN):
        tunnel.get("/echo", tls=client_context())


def test_an_agent_without_the_certificate_says_so(workshop):
    tunnel = asking(workshop, client=world().client(), agent_flags=as_agent(world().client("the-agent")))
    bare = workshop.agent(tunnel.server, {"svc": tunnel.backend.url}, wait=False)
    line = wait_until(lambda: [entry for message in ("cannot link to the server", "link to the server lost")
                               for entry in bare.log(message)], "the agent says why it cannot link")[0]
    assert "certificate" in line["error"] or "alert" in line["error"], line
    assert tunnel.server.health()["agents"] == {"svc": 1}


def test_optional_certificates(workshop):
    tunnel = asking(workshop, "--tls-client-auth", "optional")
    mallory = Authority(world().directory, "Somebody else").issue(common_name="mallory", client=True)
    forged = "X-Forwarded-Client-Cert: Subject=\"CN=root\""
    assert tunnel.get("/echo", forged).status == 200
    assert tunnel.backend.last().get("x-forwarded-client-cert") is None
    assert tunnel.get("/echo", forged, tls=client_context(pair=world().client())).status == 200
    assert "CN=alice" in tunnel.backend.last().get("x-forwarded-client-cert")
    with pytest.raises(BROKEN):
        tunnel.get("/echo", tls=client_context(pair=mallory))


def test_no_certificate_is_asked_for(secure):
    assert secure.get("/echo", "X-Forwarded-Client-Cert: Subject=\"CN=root\"", tls=client_context(pair=world().client())).status == 200
    assert secure.backend.last().get("x-forwarded-client-cert") is None


# --- what backends are told -----------------------------------------------------------------------

def test_the_backend_is_told_the_scheme(secure):
    assert secure.get("/echo").status == 200
    assert secure.backend.last().get("x-forwarded-proto") == "https"


def test_both_ports_serve_the_same(workshop):
    plain = free_port()
    tunnel = workshop.tunnel("--http-port", plain, secure=world().server)
    assert tunnel.get("/echo").status == 200
    assert tunnel.backend.last().get("x-forwarded-proto") == "https"
    with Wire(plain) as wire:
        assert wire.send(tunnel.head("GET", "/echo")).answer().status == 200
    assert tunnel.backend.last().get("x-forwarded-proto") == "http"


def test_the_start_says_what_tls_is_made_of(secure):
    line = secure.server.wait_log("certificates loaded")[0]
    assert "wolfSSL" in line["tls"] and line["pairs"] == 1
    if "bundled" in line["tls"] or "AES-NI" in line["tls"]:
        assert "AES-NI" in line["tls"], "the bundled library does AES in hardware"


# --- close_notify ---------------------------------------------------------------------------------

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_an_orderly_end_is_said(secure, version):
    """Both ways: ours behind Connection: close, and the client's own between requests."""
    with secure.wire(tls=client_context(version=version)) as wire:
        wire.send(secure.head("GET", "/body?n=10", "Connection: close"))
        assert wire.answer().body == pattern(10)
        assert wire.expect_end() == b"", "Ragged would have been raised"
    with secure.wire(tls=client_context(version=version)) as wire:
        assert wire.send(secure.head("GET", "/body?n=10")).answer().status == 200
        wire.half_close()
        assert wire.expect_end(5) == b""


def test_an_answer_delimited_by_its_end(secure):
    """HTTP/1.0 clients: only close_notify tells the end from a cut."""
    with secure.wire() as wire:
        wire.send(f"GET {secure.path('/until-close?n=70000')} HTTP/1.0\r\nAuthorization: Bearer {secure.token}\r\n\r\n")
        answer = wire.answer()
        assert answer.body == pattern(70_000) and answer.get("Content-Length") is None
    with secure.wire() as wire:
        wire.send(f"GET {secure.path('/cut?coding=chunked&pause=0.3')} HTTP/1.0\r\nAuthorization: Bearer {secure.token}\r\n\r\n")
        wire.final_head()
        with pytest.raises(ConnectionResetError):
            wire.until_end()


async def sever(peer):
    """Ends the connection below TLS: a FIN without close_notify."""
    import asyncio
    await asyncio.sleep(0.2)
    peer.writer.transport.abort()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("coding", ["close", "length", "chunked", "whole"])
def test_a_backend_that_ends_without_close_notify(workshop, version, coding):
    """What is delimited by the connection's end was cut, for all anybody knows; what was whole stays whole."""
    heads = {"close": b"", "length": b"Content-Length: 1000\r\n", "chunked": b"Transfer-Encoding: chunked\r\n",
             "whole": b"Content-Length: 500\r\n"}
    body = b"%x\r\n%s\r\n" % (500, pattern(500)) if coding == "chunked" else pattern(500)

    async def script(peer):
        while seen := await peer.head():
            await peer.take(seen)
            await peer.send(b"HTTP/1.1 200 OK\r\n" + heads[coding] + b"\r\n" + body)
            await sever(peer)
    tunnel = workshop.tunnel(backend=workshop.backend(script, tls=server_context(version=version)))
    for _ in range(2):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("GET", "/"))
            if coding == "whole":
                assert wire.answer().body == pattern(500)
            else:
                with pytest.raises((Truncated, ConnectionResetError)):
                    wire.answer()


def test_a_client_that_ends_its_upload_without_close_notify(secure):
    """The bytes so far are no whole body."""
    with secure.wire() as wire:
        wire.send(secure.head("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        seen = secure.backend.wait_seen()
        wire.socket.raw.shutdown(socket.SHUT_WR)
        assert seen.gone.wait(5) and not seen.complete
