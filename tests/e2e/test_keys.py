"""Keys that change while everything runs: key files, the agent's token, names of keys in tokens."""
import base64
import hashlib
import shutil

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from lib.keys import Keys
from lib.settings import PATIENCE, wait_until
from lib.tunnel import Tunnel

AGAIN = "token keys loaded"
KEPT = "the changed token keys cannot be used: those loaded before stay"
WITHDRAWN = "the key of an agent's token is no longer accepted"


@pytest.fixture
def rotation(workshop, tmp_path):
    """A server that reads a folder of keys with `old` in it, and an agent whose token `old` has signed."""
    old, new = Keys(tmp_path, "old"), Keys(tmp_path, "new")
    folder = tmp_path / "accepted"
    folder.mkdir()
    shutil.copy(old.public, folder / "old.pem")
    backend = workshop.backend()
    server = workshop.server("--token-public-key-dir", folder, keys=old)
    agent = workshop.agent(server, {"svc": backend.url}, keys=old)
    tunnel = Tunnel(server, agent, "svc", backend)
    tunnel.old, tunnel.new, tunnel.folder = old, new, folder
    return tunnel


def status(tunnel, keys, headers=None) -> int:
    tunnel.token = keys.forge(headers=headers)
    return tunnel.get("/body?n=3").status


def replace(path, text: str):
    """As an operator does: written beside, then renamed."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def test_keys_are_exchanged_while_requests_run(rotation):
    server, agent, old, new = rotation.server, rotation.agent, rotation.old, rotation.new
    assert status(rotation, old) == 200
    assert status(rotation, new) == 401
    with rotation.wire() as wire:
        rotation.token = old.forge()
        wire.send(rotation.head("POST", "/echo", "Content-Length: 10") + b"01234")
        rotation.backend.wait_seen(2)

        # One file that is no key: nothing changes, and its name is in the log.
        replace(rotation.folder / "new.pem", new.public.read_text())
        replace(rotation.folder / "typo.pem", "not a key")
        line, = server.wait_log(KEPT)
        assert "typo.pem" in line["error"]
        assert status(rotation, old) == 200
        assert status(rotation, new) == 401

        # Mended, and the old key withdrawn at once: tokens that were known are forgotten, and those refused.
        agent.token_files["svc"].write_text(new.agent("svc", agent.subject))
        (rotation.folder / "typo.pem").unlink()
        (rotation.folder / "old.pem").unlink()
        line = server.wait_log(AGAIN, 2)[1]
        assert line["keyCount"] == 1 and line["again"] is True
        wait_until(lambda: status(rotation, old) == 401, "every ring has the new keys", PATIENCE)
        server.wait_log(WITHDRAWN)

        # The agent's links go once what they carry is done, and new ones stand in their place.
        wait_until(lambda: status(rotation, new) == 200, "the agent is back by its new token", PATIENCE, 0.05)
        answer = wire.send(b"56789").answer("POST")
        assert answer.status == 200 and hashlib.sha256(b"0123456789").hexdigest() in answer.body.decode()
    assert not [line for line in agent.log("link to the server lost")]


def test_a_token_may_name_its_key(workshop, keys):
    """By RFC 7638's thumbprint. A name that no key has says nothing."""
    tunnel = workshop.tunnel()
    numbers = load_pem_public_key(keys.public.read_bytes()).public_numbers()

    def digits(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
    text = f'{{"e":"{digits(numbers.e)}","kty":"RSA","n":"{digits(numbers.n)}"}}'
    name = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    assert status(tunnel, keys, {"kid": name}) == 200
    assert status(tunnel, keys, {"kid": "somebody"}) == 200
    other = Keys(keys.private.parent, "stranger")
    assert status(tunnel, other, {"kid": name}) == 401
    assert status(tunnel, other, {"kid": "somebody"}) == 401
