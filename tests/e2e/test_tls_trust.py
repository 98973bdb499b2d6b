"""Whom an agent trusts: a server's and a backend's certificate that is expired, of another name, of nobody known, and so
on: each is refused, before a byte of ours has left, in words that say which it was."""
import asyncio
import datetime
import socket
import ssl
import subprocess

import pytest

from lib import tls
from lib.settings import GIMLET, free_port, wait_until
from lib.tls import DAY, LOCAL, Authority, server_context, world
from lib.tunnel import Tunnel

HOUR = datetime.timedelta(hours=1)


def stranger() -> Authority:
    return Authority(world().directory, "Somebody else's root")


def intermediate_without_basis():
    """Signed by an ordinary certificate that was never made an authority."""
    leaf = world().middle.issue(*LOCAL)
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    false = Authority.__new__(Authority)
    false.directory, false.parent = world().directory, world().middle
    false.key = serialization.load_pem_private_key(leaf.key.read_bytes(), None)
    false.x509 = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    return false.issue(*LOCAL)


NOT_TRUSTED = "issuer is not trusted"
# What is wrong with the certificate: how it is made, what the log says of it.
WRONG = {
    "expired": (lambda: world().middle.issue(*LOCAL, validity=(-30 * DAY, -HOUR)), "has expired"),
    "not yet": (lambda: world().middle.issue(*LOCAL, validity=(HOUR, 30 * DAY)), "not valid yet"),
    "other name": (lambda: world().middle.issue("elsewhere.example"), "for another name"),
    "other address": (lambda: world().middle.issue("127.0.0.2", "localhost"), "for another name"),
    "address as a name": (lambda: world().middle.issue(common_name="127.0.0.1"), "for another name"),
    "self-signed": (lambda: world().root.self_signed(*LOCAL), "self-signed"),
    "unknown authority": (lambda: stranger().issue(*LOCAL), NOT_TRUSTED),
    "missing intermediate": (lambda: world().middle.issue(*LOCAL, chain=False), NOT_TRUSTED),
    "false authority": (intermediate_without_basis, None),
    "expired intermediate": (lambda: lapsed().issue(*LOCAL), "has expired"),
}


def lapsed() -> Authority:
    """An intermediate whose time is over."""
    old = Authority(world().directory, "Old intermediate", world().root)
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    old.x509 = Authority._sign(old.x509.subject, old.key, world().root, (-30 * DAY, -HOUR),
                               [(x509.BasicConstraints(True, None), True)])
    old.certificate.write_bytes(old.x509.public_bytes(serialization.Encoding.PEM))
    return old


def loosely(server):
    """Its own health checks look at nothing: what is wrong with the certificate is for the agent to see."""
    import requests
    import warnings

    def ask(timeout):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return requests.get(server.url + "/health", timeout=timeout, verify=False)
    server._ask_health = ask
    return server


def serving(workshop, pair, *flags):
    server = loosely(workshop.server(*flags, secure=pair, ready=False))
    server.wait_ready()
    return server


def complaint(agent, message="cannot link to the server") -> str:
    return agent.wait_log(message)[0]["error"]


# --- the server's ---------------------------------------------------------------------------------

@pytest.mark.parametrize("what", WRONG)
def test_a_server_that_is_not_to_be_trusted(workshop, what):
    """Whoever it is, it learns nothing: neither token nor request."""
    make, words = WRONG[what]
    false = workshop.backend(tls=server_context(make()))
    agent = workshop.agent(f"wss://127.0.0.1:{false.port}/agent", {"svc": "http://127.0.0.1:1"})
    said = complaint(agent)
    if words:
        assert words in said, said
        others = {w for _, w in WRONG.values() if w and w != words}
        assert not any(other in said for other in others), f"{said}: which of them is it?"
    assert not false.seen and not false.oddities and false.accepted == 0


def test_the_systems_roots_do_not_know_ours(workshop):
    server = serving(workshop, world().server)
    agent = workshop.agent(server, {"svc": "http://127.0.0.1:1"}, wait=False, trust=False)
    said = complaint(agent)
    assert NOT_TRUSTED in said and "ca-file" in said, said


def test_another_name_for_the_server(workshop):
    """--server-name is what the certificate must be for, and what is asked for."""
    one, two = (world().middle.issue(f"{name}.example") for name in ("one", "two"))
    folder = workshop.directory / "pairs"
    folder.mkdir()
    for name, pair in (("one", one), ("two", two)):
        pair.install(folder / f"{name}.crt", folder / f"{name}.key")
    server = serving(workshop, ["--tls-dir", str(folder)])
    backend = workshop.backend()
    agents = [workshop.agent(server, {"svc": backend.url}, "--server-name", f"{name}.example") for name in ("one", "two")]
    assert server.health()["agents"] == {"svc": 2}
    wrong = workshop.agent(server, {"svc": backend.url}, "--server-name", "three.example", wait=False)
    assert "for another name" in complaint(wrong)
    assert Tunnel(server, agents[0], "svc", backend).wire  # both live; the third tries on


def test_skipping_the_check_is_said_loudly(workshop):
    server = serving(workshop, world().root.self_signed("nobody.example"))
    backend = workshop.backend()
    agent = workshop.agent(server, {"svc": backend.url}, "--insecure-skip-verify")
    assert any(line["level"] in ("warn", "error") and "insecure-skip-verify" in str(line) for line in agent.log()), agent.tail()


def test_a_ca_file_can_be_the_self_signed_certificate(workshop):
    pair = world().root.self_signed(*LOCAL)
    server = serving(workshop, pair)
    workshop.agent(server, {"svc": workshop.backend().url}, "--ca-file", pair.certificate)


def test_the_agent_links_once_the_certificate_is_mended(workshop, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    WRONG["expired"][0]().install(cert, key)
    server = serving(workshop, ["--tls-cert", str(cert), "--tls-key", str(key)])
    agent = workshop.agent(server, {"svc": workshop.backend().url}, wait=False)
    assert "has expired" in complaint(agent)
    assert any(line["level"] == "warn" and "expired" in line["message"] for line in server.log()), "the server has noticed, too"
    world().server.install(cert, key)
    server.wait_agents("svc", through=agent)


def test_a_plain_server_is_no_tls_server(workshop):
    server = workshop.server(secure=False)
    agent = workshop.agent(f"wss://127.0.0.1:{server.port}/agent", {"svc": "http://127.0.0.1:1"}, wait=False)
    assert "does not speak TLS" in complaint(agent)


def test_a_tls_server_is_no_plain_server(workshop):
    server = serving(workshop, world().server)
    agent = workshop.agent(f"ws://127.0.0.1:{server.port}/agent", {"svc": "http://127.0.0.1:1"}, wait=False)
    agent.wait_log("cannot link to the server")
    assert any("does not speak TLS" in line["error"] for line in server.wait_log("TLS with a client failed"))


# --- a backend's ----------------------------------------------------------------------------------

def refused_backend(tunnel, reasons=("backend_connect",)) -> str:
    """The client's 502, and what the agent says."""
    answer = tunnel.get("/")
    assert answer.status == 502 and answer.error in reasons, answer
    return complaint(tunnel.agent, "TLS with the backend failed")


def s_server(workshop, *flags, pair=None) -> str:
    """OpenSSL's own server, which answers GET with a page about the connection; its URL."""
    port, pair = free_port(), pair or world().backend
    workshop.process("s_server", ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pair.certificate, "-cert_chain",
                                  pair.certificate, "-key", pair.key, "-www", "-quiet", *flags])

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    wait_until(listens, "s_server listens")
    return f"https://127.0.0.1:{port}"


@pytest.mark.parametrize("what", WRONG)
def test_a_backend_that_is_not_to_be_trusted(workshop, what):
    make, words = WRONG[what]
    backend = workshop.backend(tls=server_context(make()))
    said = refused_backend(workshop.tunnel(backend=backend))
    assert not words or words in said, said
    assert not backend.seen and not backend.oddities, "nothing was sent to it"


def test_a_backend_that_speaks_no_tls(workshop):
    async def script(peer):
        await peer.reader.read(100)
        await peer.answer("400 Bad Request", b"what?")
    backend = workshop.backend(script, tls=False)
    assert "does not speak TLS" in refused_backend(workshop.tunnel(target=f"https://127.0.0.1:{backend.port}"))


def test_openssl_as_a_backend(workshop):
    for flags, words in ((("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), b"TLS_CHACHA20_POLY1305_SHA256"),
                         (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), b"ECDHE-ECDSA-AES256-GCM-SHA384")):
        tunnel = workshop.tunnel(target=s_server(workshop, *flags))
        for _ in range(3):
            answer = tunnel.get("/")
            assert answer.status == 200 and words in answer.body


@pytest.mark.parametrize("flags", [("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA")],
                         ids=" ".join)
def test_a_backend_of_old(workshop, flags):
    said = refused_backend(workshop.tunnel(target=s_server(workshop, *flags)))
    assert "no TLS version or cipher suite in common" in said or "fatal alert" in said, said


@pytest.mark.parametrize("when", ["at once", "never"])
def test_a_backend_that_gives_up_in_the_handshake(workshop, when):
    async def script(peer):
        await peer.reader.read(100)
        if when == "never":
            await asyncio.sleep(30)
    backend = workshop.backend(script, tls=False)
    tunnel = workshop.tunnel(target=f"https://127.0.0.1:{backend.port}", agent_flags=("--connect-timeout", "1s"))
    assert refused_backend(tunnel)


def test_a_backend_is_asked_for_by_name(workshop):
    names = []
    context = server_context()
    context.sni_callback = lambda _, name, __: names.append(name)
    backend = workshop.backend(tls=context)
    for url, flags, expected in ((backend.url_at(backend.port, "localhost"), (), "localhost"),
                                 (backend.url, (), None),
                                 (backend.url, ("--backend-server-name", "backend.example"), "backend.example")):
        names.clear()
        tunnel = workshop.tunnel(backend=backend, target=url, agent_flags=flags)
        assert tunnel.get("/body?n=3").status == 200
        assert set(names) == {expected}, (url, flags)


def test_a_backend_whose_check_is_skipped(workshop):
    backend = workshop.backend(tls=server_context(world().root.self_signed("nobody.example")))
    tunnel = workshop.tunnel(backend=backend, agent_flags=("--backend-insecure-skip-verify",))
    assert tunnel.get("/body?n=3").status == 200
    assert any(line["level"] in ("warn", "error") and "insecure-skip-verify" in str(line) for line in tunnel.agent.log())


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_backend_that_wants_a_certificate(workshop, version):
    context = server_context(version=version, client_ca=world().client_root().certificate)
    backend, pair = workshop.backend(tls=context), world().client("the-agent")
    tunnel = workshop.tunnel(backend=backend, agent_flags=("--backend-client-cert", pair.certificate, "--backend-client-key", pair.key))
    assert tunnel.get("/body?n=3").status == 200
    asking = s_server(workshop, f"-tls{version.replace('.', '_')}", "-Verify", "1", "-verify_return_error", "-CAfile",
                      world().client_root().certificate)
    said = refused_backend(workshop.tunnel(target=asking), ("backend_connect", "backend_closed"))
    assert "certificate" in said or "fatal alert" in said, said


def test_each_service_has_its_own_trust(workshop):
    """Three services of one agent: another CA, another name, no check."""
    other = stranger()
    backends = {"ca": workshop.backend(tls=server_context(other.issue(*LOCAL))),
                "name": workshop.backend(tls=server_context(world().middle.issue("name.example"))),
                "any": workshop.backend(tls=server_context(world().root.self_signed("x.example"))),
                "strict": workshop.backend(tls=server_context(other.issue(*LOCAL)))}
    more = {"ca": f",ca-file={other.certificate}",
            "name": f",ca-file={world().root.certificate},server-name=name.example",
            "any": ",insecure-skip-verify", "strict": f",ca-file={world().root.certificate}"}
    server = workshop.server()
    agent = workshop.agent(server, {name: backend.url + more[name] for name, backend in backends.items()}, trust=False, rings=1,
                           **({} if not server.trust else {"env": {"SSL_CERT_FILE": str(world().root.certificate)}}))
    for name, backend in backends.items():
        answer = Tunnel(server, agent, name, backend).get("/body?n=3")
        assert answer.status == (502 if name == "strict" else 200), name


def test_connections_to_a_tls_backend_are_kept(workshop):
    """One handshake serves many requests."""
    backend = workshop.backend(tls=server_context())
    tunnel = workshop.tunnel(backend=backend)
    with tunnel.wire() as wire:
        for _ in range(20):
            assert wire.send(tunnel.head("GET", "/body?n=100")).answer().status == 200
    assert backend.accepted <= 2


# --- start ----------------------------------------------------------------------------------------

def start(*flags, keys):
    return subprocess.run([GIMLET, "server", "--listen-address", "127.0.0.1", "--http-port", "off", "--https-port", "0", "--metrics-port",
                           "off", "--token-public-key-file", str(keys.public), *map(str, flags)], capture_output=True, text=True, timeout=30,
                          check=False)


def broken_files(directory):
    """What is wrong: flags, and what the complaint must name."""
    good, other = world().server, world().backend
    (directory / "rubbish.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    (directory / "empty").mkdir(exist_ok=True)
    (directory / "lonely").mkdir(exist_ok=True)
    (directory / "lonely" / "one.crt").write_bytes(good.certificate.read_bytes())
    return {
        "no certificate": (("--tls-cert", directory / "none.pem", "--tls-key", good.key), "none.pem"),
        "no key": (("--tls-cert", good.certificate, "--tls-key", directory / "none.key"), "none.key"),
        "not PEM": (("--tls-cert", directory / "rubbish.pem", "--tls-key", good.key), "rubbish.pem"),
        "swapped": (("--tls-cert", good.key, "--tls-key", good.certificate), good.key.name),
        "another key": (("--tls-cert", good.certificate, "--tls-key", other.key), other.key.name),
        "no folder": (("--tls-dir", directory / "nowhere"), "nowhere"),
        "empty folder": (("--tls-dir", directory / "empty"), "empty"),
        "lonely": (("--tls-dir", directory / "lonely"), "one"),
        "no client CA": ((*good.flags, "--tls-client-ca", directory / "none.pem"), "none.pem"),
        "auth without CA": ((*good.flags, "--tls-client-auth", "require"), "--tls-client-ca"),
        "no pair at all": ((), "--tls-cert"),
        "half a pair": (("--tls-cert", good.certificate), "--tls-key"),
    }


@pytest.mark.parametrize("what", ["no certificate", "no key", "not PEM", "swapped", "another key", "no folder", "empty folder", "lonely",
                                  "no client CA", "auth without CA", "no pair at all", "half a pair"])
def test_a_start_that_cannot_be_names_the_file(tmp_path, keys, what):
    flags, named = broken_files(tmp_path)[what]
    done = start(*flags, keys=keys)
    assert done.returncode in (1, 2), done
    assert named in done.stdout + done.stderr, done.stdout + done.stderr


def test_python_can_read_what_we_make():
    """The certificates of these tests are what they are said to be."""
    for make, _ in WRONG.values():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make())
    assert tls.client_context().check_hostname
