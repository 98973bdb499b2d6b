"""Revoked certificates: lists made by OpenSSL's CA, named by option, read again by the server when they change."""
import datetime
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lib.settings import wait_until
from lib.tls import LOCAL, Authority, Ragged, client_context, server_context, world

BROKEN = (OSError, Ragged)
CONFIG = """[ca]
default_ca = this
[this]
database = index
default_md = sha256
unique_subject = no
[list]
authorityKeyIdentifier = keyid:always
"""


def revocation_list(authority: Authority, folder, *revoked, days=30) -> bytes:
    """A list of the authority's, in PEM; with days < 0 one that has expired."""
    place = folder / f"ca-{len(list(folder.iterdir()))}"
    place.mkdir()
    key = authority.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "key").write_bytes(key)
    (place / "config").write_text(CONFIG)
    serials = [f"{pair.serial:X}" for pair in revoked]
    (place / "index").write_text("".join(f"R\t400101000000Z\t200101000000Z\t{'0' * (len(s) % 2)}{s}\tunknown\t/CN=x\n" for s in serials))
    end = datetime.datetime.utcnow() + datetime.timedelta(days=days)
    stamps = [(end - datetime.timedelta(days=60)).strftime("%Y%m%d%H%M%SZ"), end.strftime("%Y%m%d%H%M%SZ")]
    subprocess.run(["openssl", "ca", "-gencrl", "-config", "config", "-keyfile", "key", "-cert", str(authority.certificate), "-crlexts",
                    "list", "-crl_lastupdate", stamps[0], "-crl_nextupdate", stamps[1], "-out", "list"], cwd=place, check=True,
                   capture_output=True)
    return (place / "list").read_bytes()


def install(path, data: bytes):
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(data)
    beside.replace(path)


# Which list names which certificate, and what the agent says.
REVOKED = {
    "leaf": (lambda folder, pair: revocation_list(world().middle, folder, pair), "the certificate has been revoked"),
    "chain": (lambda folder, pair: revocation_list(world().root, folder, IntermediatePair()), "revoked chain"),
}


class IntermediatePair:
    """The run's intermediate, as far as a list needs it."""

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(world().middle.certificate.read_bytes()).serial_number


@pytest.mark.parametrize("what", REVOKED)
def test_an_agent_refuses_a_revoked_server(workshop, tmp_path, what):
    """It says which it was; once no list names it any more, it is linked to."""
    make, words = REVOKED[what]
    revoked = world().middle.issue(*LOCAL)
    crl = tmp_path / "revoked.pem"
    crl.write_bytes(make(tmp_path, revoked))
    server, backend = workshop.server(secure=revoked), workshop.backend()
    agent = workshop.agent(server, {"svc": backend.url}, "--crl-file", crl, wait=False)
    said = agent.wait_log("cannot link to the server")[0]["error"]
    assert words in said, said
    assert server.health()["agents"].get("svc", 0) == 0
    others = {other for _, other in REVOKED.values()} - {words}
    assert not any(other in said for other in others)
    install(crl, revocation_list(world().root, tmp_path) + revocation_list(world().middle, tmp_path, world().backend))
    server.wait_agents("svc", through=agent)  # it has read the list again


def refused(tunnel, pair) -> bool:
    try:
        return tunnel.get("/echo?refused", tls=client_context(pair=pair)).status != 200
    except BROKEN:
        return True


def test_a_server_refuses_a_revoked_client(workshop, tmp_path):
    """From the moment that its list names the certificate, without a new start; a list that cannot be read changes nothing."""
    authority = world().client_root()
    alice, bob, the_agent = (authority.issue(common_name=name, client=True) for name in ("alice", "bob", "the-agent"))
    crl = tmp_path / "clients.pem"
    install(crl, revocation_list(authority, tmp_path))
    tunnel = workshop.tunnel("--tls-client-ca", authority.certificate, "--tls-client-crl", crl, secure=world().server, client=alice,
                             backend=workshop.backend(), agent_flags=("--client-cert", the_agent.certificate, "--client-key", the_agent.key))
    assert tunnel.get("/echo", tls=client_context(pair=bob)).status == 200
    install(crl, revocation_list(authority, tmp_path, bob))
    wait_until(lambda: refused(tunnel, bob), "bob is refused", step=0.2)
    wait_until(lambda: any("has been revoked" in str(line.get("error")) for line in tunnel.server.log("TLS with a client failed")),
               "the server says why")
    assert tunnel.get("/echo", tls=client_context(pair=alice)).status == 200, "alice is not bob"
    install(crl, b"no list\n")
    line = tunnel.server.wait_log("the changed certificates cannot be used: those loaded before stay")[0]
    assert "clients.pem" in line["error"] and "has no revocation list" in line["error"], line
    assert refused(tunnel, bob) and tunnel.get("/echo", tls=client_context(pair=alice)).status == 200
    install(crl, revocation_list(authority, tmp_path, the_agent))
    wait_until(lambda: not refused(tunnel, bob), "bob is back", step=0.2)
    late = workshop.agent(tunnel.server, {"svc": tunnel.backend.url}, "--client-cert", the_agent.certificate, "--client-key",
                          the_agent.key, wait=False)
    wait_until(lambda: late.log("cannot link to the server") or late.log("link to the server lost"), "a revoked agent is refused")


def test_an_expired_list_still_counts(workshop, tmp_path):
    """With a warning, on both sides; what it names stays refused, what it does not name is served."""
    authority = world().client_root()
    bob = authority.issue(common_name="bob", client=True)
    crl, servers = tmp_path / "clients.pem", tmp_path / "servers.pem"
    crl.write_bytes(revocation_list(authority, tmp_path, bob, days=-1))
    servers.write_bytes(revocation_list(world().middle, tmp_path, world().backend, days=-1))
    alice = world().client()
    tunnel = workshop.tunnel("--tls-client-ca", authority.certificate, "--tls-client-crl", crl, secure=world().server, client=alice,
                             backend=workshop.backend(),
                             agent_flags=("--client-cert", alice.certificate, "--client-key", alice.key, "--crl-file", servers))
    assert tunnel.get("/echo").status == 200
    assert refused(tunnel, bob)
    for process, path in ((tunnel.server, crl), (tunnel.agent, servers)):
        told = [line for line in process.log() if line["level"] == "warn" and "revocation list has expired" in line["message"]]
        assert told and told[0]["file"] == str(path), process.tail()


def test_a_revoked_backend_is_not_asked(workshop, tmp_path):
    """By the option of the single service, and by the key of one among others."""
    revoked = world().middle.issue(*LOCAL)
    crl = tmp_path / "backends.pem"
    crl.write_bytes(revocation_list(world().middle, tmp_path, revoked))
    backend = workshop.backend(tls=server_context(revoked))
    tunnel = workshop.tunnel(backend=backend, agent_flags=("--backend-crl-file", crl))
    other = workshop.agent(tunnel.server, {"keyed": backend.url + f",crl-file={crl},ca-file={world().root.certificate}"}, many=True)
    for agent, name in ((tunnel.agent, "svc"), (other, "keyed")):
        answer = type(tunnel)(tunnel.server, agent, name, backend).get("/")
        assert answer.status == 502, answer
        assert "has been revoked" in agent.wait_log("TLS with the backend failed")[0]["error"]
    assert not backend.seen
