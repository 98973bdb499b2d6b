"""Fields that the agent sets in requests to its backend: an API key that no client ever sees."""
import subprocess
import time

import pytest
from lib.settings import GIMLET, PATIENCE, wait_until
from lib.tunnel import Tunnel

SECRET = "s3cret-of-the-backend"


def last_fields(tunnel, *fields):
    assert tunnel.get("/echo", *fields).status == 200
    return tunnel.backend.last()


def test_the_agents_word_counts(workshop, tmp_path):
    key = tmp_path / "key"
    key.write_text(f"  Bearer {SECRET}-1\n\n")
    tunnel = workshop.tunnel(agent_flags=("--backend-header", f"Authorization: @{key}", "--backend-header", "X-Env:test one"))
    seen = last_fields(tunnel)
    assert (seen.get("authorization"), seen.get("x-env")) == (f"Bearer {SECRET}-1", "test one")
    # A client that says the same by the same name, and one whose own key would have passed.
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Bearer {tunnel.token}\r\n"
                  "Authorization: Bearer mine\r\nX-ENV: mine\r\nx-env: again\r\nX-Other: o\r\n\r\n".encode())
        assert wire.answer().status == 200
    seen = tunnel.backend.last()
    assert (seen.get("authorization"), seen.get("x-env"), seen.get("x-other")) == (f"Bearer {SECRET}-1", "test one", "o")

    key.write_text(f"Bearer {SECRET}-2")
    tunnel.agent.wait_log("backend headers read again")
    wait_until(lambda: last_fields(tunnel).get("authorization") == f"Bearer {SECRET}-2", "the new key is used")
    assert SECRET not in tunnel.agent.text() + tunnel.server.text()


@pytest.mark.slow
def test_a_change_that_is_no_value_changes_nothing(workshop, tmp_path):
    key = tmp_path / "key"
    key.write_text(SECRET)
    tunnel = workshop.tunnel(agent_flags=("--backend-header", f"X-Key: @{key}"))
    assert last_fields(tunnel).get("x-key") == SECRET
    key.write_text("two\nlines\n")
    line = tunnel.agent.wait_log("a changed backend header cannot be used: what was read before stays")[0]
    assert "X-Key" in line["error"] and str(key) in line["error"] and "line end" in line["error"]
    assert last_fields(tunnel).get("x-key") == SECRET
    assert SECRET not in tunnel.agent.text()


def test_uploads_upgrades_and_hosts(workshop):
    tunnel = workshop.tunnel(agent_flags=("--backend-header", "Host: api.example", "--backend-header", "X-Key: k"))
    assert tunnel.ask("POST", "/echo", body=b"x" * 100000).status == 200
    seen = tunnel.backend.last()
    assert (seen.get("host"), seen.get("x-key"), seen.body_bytes) == ("api.example", "k", 100000)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/upgrade", "Connection: Upgrade", "Upgrade: raw/1", "X-Key: mine"))
        assert wire.answer().status == 101
        assert wire.send(b"ping").exactly(4) == b"ping"
    assert tunnel.backend.last().get("x-key") == "k"


def test_each_service_its_own(workshop, tmp_path):
    key = tmp_path / "key"
    key.write_text("from-a-file\n")
    server, backend = workshop.server(), workshop.backend()
    agent = workshop.agent(server, {"a": f"{backend.url},backend-header=X-Key:own, and only,backend-header=X-File:@{key}",
                                    "b": backend.url}, "--backend-header", "X-Key: all")
    for service, wanted in (("a", ["own, and only", "from-a-file"]), ("b", ["all", None])):
        seen = last_fields(Tunnel(server, agent, service, backend))
        assert [seen.get("x-key"), seen.get("x-file")] == wanted


@pytest.mark.parametrize("header, words, code", [
    ("Connection: x", ["Connection", "is about one connection"], 2),
    ("transfer-encoding: x", ["transfer-encoding", "framed"], 2),
    ("X-Key: @/nowhere/at/all", ["X-Key", "cannot read /nowhere/at/all"], 1),
    ("X-Key: @/dev/null", ["X-Key", "/dev/null", "is empty"], 2),
    (f"X\x01: {SECRET}", ["no name of a field"], 2),
    (f"X-Key: {SECRET}\r\nX: y", ["X-Key", "holds a line end"], 2),
    (SECRET, ["NAME: VALUE"], 2),
])
def test_what_cannot_be_set_is_refused_by_name(header, words, code):
    since = time.monotonic()
    done = subprocess.run([GIMLET, "agent", "--token", "t", "--backend-header", header], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == code and time.monotonic() - since < PATIENCE
    said = done.stdout + done.stderr
    assert "--backend-header" in said and all(word in said for word in words), said
    assert SECRET not in said
