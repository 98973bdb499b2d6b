"""`gimlet jwt`, black box: what scripts see of it, judged by PyJWT and cryptography."""

import base64
import datetime
import json
import os
import pathlib
import re
import stat
import subprocess
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIMLET = os.environ.get("GIMLET_BIN", str(ROOT / "build" / "gimlet"))


def gimlet(*args, env=None, stdin=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIMLET_JWT_")}
    clean.update(env or {})
    return subprocess.run([GIMLET, "jwt", *args], env=clean, input=stdin, stdin=None if stdin is not None
                          else subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def good(*args, **kw):
    done = gimlet(*args, **kw)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(code, words, *args, **kw):
    done = gimlet(*args, **kw)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert words in done.stderr, done.stderr
    return done.stderr


def save(path, key, form=serialization.PrivateFormat.PKCS8, password=None):
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, lock))
    pub = path.with_suffix(".pub")
    pub.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                  serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def keyfile(key, tmp_path_factory):
    return save(tmp_path_factory.mktemp("key") / "private.pem", key)


def client(keyfile, *more, **kw):
    return good("client", "--subject", "alice", "--services", "svc", "--private-key-file", str(keyfile), *more, **kw)


def agent(keyfile, *more, **kw):
    return good("agent", "--subject", "bob", "--service", "svc", "--private-key-file", str(keyfile), *more, **kw)


def parts(token):
    pad = [p + "=" * (-len(p) % 4) for p in token.split(".")]
    return [base64.urlsafe_b64decode(p) for p in pad]


# ---- making ----

def test_agent_token_is_exactly_as_before(key, keyfile):
    before = int(time.time())
    token = agent(keyfile)
    after = int(time.time())
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token), "no newline, no padding"
    header, payload, signature = parts(token)
    assert header == b'{"alg":"RS256","typ":"JWT"}'
    claims = json.loads(payload)
    assert list(claims) == ["iss", "aud", "sub", "service", "iat", "exp", "nbf"]
    assert b" " not in payload
    assert before <= claims["iat"] <= after
    assert claims == {"iss": "gimlet", "aud": "gimlet-agent", "sub": "bob", "service": "svc",
                      "iat": claims["iat"], "nbf": claims["iat"], "exp": claims["iat"] + 86400}
    assert len(signature) == 256
    assert jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="gimlet-agent", issuer="gimlet") == claims


def test_client_token(key, keyfile):
    token = client(keyfile, "--scope", "status", "--scope", "x y", "--issuer", "acme", "--duration", "2D")
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="gimlet-client", issuer="acme")
    assert list(claims) == ["iss", "aud", "sub", "services", "iat", "exp", "nbf", "scope"]
    assert claims["services"] == ["svc"]
    assert claims["scope"] == ["status", "x y"]
    assert claims["exp"] - claims["iat"] == 2 * 86400


@pytest.mark.parametrize("text,services", [
    ("a", ["a"]), ("a,b", ["a", "b"]), (" a , b* ", ["a", "b*"]), ("a,,b,", ["a", "", "b", ""]),
    (",", ["", ""]), ("[,*", ["[", "*"]), ("ünï,\"q\"", ["ünï", '"q"']), (" ", [""])])
def test_services_are_split_at_commas(keyfile, text, services):
    token = good("client", "--subject", "a", "--services", text, "--private-key-file", str(keyfile))
    payload = parts(token)[1]
    assert json.loads(payload)["services"] == services
    assert payload.isascii()


@pytest.mark.parametrize("text,seconds", [
    ("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), ("1H", 3600), ("2M", 120), ("007s", 7)])
def test_durations(keyfile, text, seconds):
    claims = json.loads(parts(agent(keyfile, "--duration", text))[1])
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("text,words", [
    ("", "cannot be empty"), (" ", "cannot be empty"), ("10", "Invalid duration unit"), ("2w", "Invalid duration unit"),
    ("h", "numeric value"), ("1.5h", "Must be an integer"), ("1h30m", "Must be an integer"),
    ("xh", "Must be an integer"), ("+1h", "Must be an integer"), ("-1h", "non-negative"),
    ("99999999999999999999d", "too long"), ("9999999d", "too long")])
def test_bad_durations(keyfile, text, words):
    err = refused(1, words, "agent", "--subject", "a", "--service", "s", "--private-key-file", str(keyfile),
                  "--duration", text)
    assert err.startswith("Error: ")


def test_json_output(keyfile):
    out = agent(keyfile, "--json", "--scope", "status", "--duration", "1H")
    data = json.loads(out)
    assert list(data) == ["token", "subject", "service", "audience", "issuer", "duration", "expires_at"]
    assert out.startswith('{\n  "token": "')
    assert (data["subject"], data["service"], data["audience"]) == ("bob", "svc", "gimlet-agent")
    assert (data["issuer"], data["duration"]) == ("gimlet", "1H")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", data["expires_at"])
    expires = datetime.datetime.fromisoformat(data["expires_at"]).timestamp()
    assert 0 <= expires - json.loads(parts(data["token"])[1])["exp"] < 1

    data = json.loads(client(keyfile, "--json"))
    assert list(data) == ["token", "subject", "services", "audience", "issuer", "duration", "expires_at"]
    assert data["services"] == ["svc"]


def test_missing_key_is_made(tmp_path):
    path = tmp_path / "new" / "deep" / "agent.key.pem"
    done = gimlet("agent", "--subject", "a", "--service", "s", "--private-key-file", str(path))
    assert done.returncode == 0
    assert str(path) in done.stderr, "one note says so"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["agent.key.pem", "agent.key.pub"]
    text = path.read_bytes()
    assert text.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    private = serialization.load_pem_private_key(text, None)
    assert private.key_size == 2048
    public_text = (path.parent / "agent.key.pub").read_bytes()
    public = serialization.load_pem_public_key(public_text)
    assert public.public_numbers() == private.public_key().public_numbers()
    assert public_text == public.public_bytes(serialization.Encoding.PEM,
                                              serialization.PublicFormat.SubjectPublicKeyInfo)
    jwt.decode(done.stdout, public, algorithms=["RS256"], audience="gimlet-agent")

    again = gimlet("client", "--subject", "a", "--services", "s", "--private-key-file", str(path))
    assert again.stderr == ""
    assert path.read_bytes() == text, "an existing key is used, not replaced"


def test_two_at_once_make_one_key(tmp_path):
    path = tmp_path / "k.pem"
    runs = [subprocess.Popen([GIMLET, "jwt", "agent", "--subject", "a", "--service", "s", "--private-key-file",
                              str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    tokens = [r.communicate(timeout=60)[0] for r in runs]
    assert [r.returncode for r in runs] == [0] * 4
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    for token in tokens:
        jwt.decode(token, private.public_key(), algorithms=["RS256"], audience="gimlet-agent")
    public = serialization.load_pem_public_key((tmp_path / "k.pub").read_bytes())
    assert public.public_numbers() == private.public_key().public_numbers()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.pem", "k.pub"], "nothing is left lying about"


@pytest.mark.parametrize("bits,form", [
    (2048, serialization.PrivateFormat.TraditionalOpenSSL), (4096, serialization.PrivateFormat.PKCS8)])
def test_private_key_forms(tmp_path, bits, form):
    private = rsa.generate_private_key(65537, bits)
    path = save(tmp_path / "k.pem", private, form)
    token = client(path)
    jwt.decode(token, private.public_key(), algorithms=["RS256"], audience="gimlet-client")
    assert "✓" in good("inspect", "--verify", "--public-key", str(path.with_suffix(".pub")), token)


def test_unusable_private_keys(tmp_path):
    cases = {
        "ec": (ec.generate_private_key(ec.SECP256R1()), None, "RSA private key"),
        "small": (rsa.generate_private_key(65537, 1024), None, "1024 bits"),
        "locked": (rsa.generate_private_key(65537, 2048), b"x", "passphrase"),
    }
    for name, (private, password, words) in cases.items():
        path = save(tmp_path / f"{name}.pem", private, password=password)
        err = refused(1, words, "agent", "--subject", "a", "--service", "s", "--private-key-file", str(path))
        assert str(path) in err and "openssl" in err
        assert "MII" not in err
    (tmp_path / "text.pem").write_text("hello")
    refused(1, "no complete PEM block", "agent", "--subject", "a", "--service", "s", "--private-key-file",
            str(tmp_path / "text.pem"))
    refused(1, "/proc", "agent", "--subject", "a", "--service", "s", "--private-key-file", "/proc/nowhere/k.pem")


def test_key_options(keyfile):
    base = ["agent", "--subject", "a", "--service", "s"]
    refused(1, "Error: Either ", *base)
    refused(1, "must be provided", *base, "--private-key-file", "")
    refused(1, "mutually exclusive", *base, "--private-key-file", str(keyfile), "--kms-key-arn", "arn:x")
    refused(1, "mutually exclusive", *base, "--private-key-file", str(keyfile), env={"GIMLET_JWT_KMS_KEY_ARN": "arn:x"})
    good(*base, "--private-key-file", str(keyfile), env={"GIMLET_JWT_KMS_KEY_ARN": ""})


def test_environment(key, keyfile):
    token = good("agent", "--subject", "a", "--service=s", env={"GIMLET_JWT_PRIVATE_KEY_FILE": str(keyfile),
                                                               "GIMLET_JWT_ISSUER": "from-env"})
    jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="gimlet-agent", issuer="from-env")
    token = good("agent", "--subject", "a", "--service", "s", "--issuer", "flag",
                 env={"GIMLET_JWT_PRIVATE_KEY_FILE": str(keyfile), "GIMLET_JWT_ISSUER": "from-env"})
    assert json.loads(parts(token)[1])["iss"] == "flag"


def test_usage_errors(keyfile):
    err = refused(2, "--subject", "agent", "--service", "s", "--private-key-file", str(keyfile))
    assert err.startswith("Usage: gimlet jwt agent ") and "\nTry 'gimlet jwt agent --help'" in err and "\nError: " in err
    refused(2, "--service", "agent", "--subject", "s", "--private-key-file", str(keyfile))
    refused(2, "--services", "client", "--subject", "s", "--private-key-file", str(keyfile))
    refused(2, "--nonsense", "client", "--nonsense", "1")
    refused(2, "Usage", "frobnicate")
    refused(2, "Usage")
    refused(2, "--subject", "client", "--subject")
    assert "Usage" in good("--help")
    for verb in ("agent", "client", "inspect", "export-public-key"):
        assert "Usage" in good(verb, "--help")


def test_tokens_no_server_would_take_are_not_made(keyfile):
    refused(1, "refuse", "client", "--subject", "a", "--services", "x" * 256, "--private-key-file", str(keyfile))
    refused(1, "refuse", "client", "--subject", "a", "--services", ",".join("x" * 129), "--private-key-file", str(keyfile))
    refused(1, "8192", "client", "--subject", "a", "--services", "x" * 9000, "--private-key-file", str(keyfile))


def test_output_that_cannot_be_written_is_a_failure(keyfile):
    with open("/dev/full", "w") as full:
        done = subprocess.run([GIMLET, "jwt", "agent", "--subject", "a", "--service", "s", "--private-key-file",
                               str(keyfile)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "Error: " in done.stderr


# ---- inspect ----

def claim_lines(out):
    return [line for line in out.splitlines() if line.startswith("  ")]


def test_inspect_shows_claims_in_order(keyfile):
    token = client(keyfile, "--scope", "status")
    out = good("inspect", token)
    lines = out.splitlines()
    assert lines[0].startswith("⚠") and "not verified" in lines[0]
    assert lines[1] == "" and lines[2] == "Claims:"
    claims = json.loads(parts(token)[1])
    assert [line.split(":")[0].strip() for line in claim_lines(out)] == list(claims)
    when = datetime.datetime.fromtimestamp(claims["iat"], datetime.timezone.utc).isoformat()
    assert f"  iat: {when}" in lines
    assert "  services: ['svc']" in lines
    assert "  sub: alice" in lines
    assert re.search(r"^  exp: \S+\+00:00 \(expires in 23:59:\d\d(\.\d{6})?\)$", out, re.M)
    piped = good("inspect", stdin=f"\n {token} \n").splitlines()
    assert [p for p in piped if "exp" not in p] == [p for p in lines if "exp" not in p]


def test_inspect_renders_values_as_python_does(key):
    now = int(time.time())
    values = {"a": "it's", "b": ["x", "it's", 'say "hi"', 1, 1.5, True, None, "tab\t", "ü"], "c": 3, "d": False,
              "e": None, "f": 0.1, "g": 2.0, "h": -7, "iat": 1700000000.5, "exp": now + 3 * 86400 + 100,
              "k": {"n": 1, "s": "t"}, "m": 123456789012345678}
    out = good("inspect", jwt.encode(values, key, "RS256"))
    lines = dict(line[2:].split(": ", 1) for line in claim_lines(out))
    for name in "bcdefghkm":
        assert lines[name] == str(values[name]), name
    assert lines["a"] == "it's"
    assert lines["iat"] == "2023-11-14T22:13:20.500000+00:00"
    assert re.search(r"\(expires in 3 days, 0:01:\d\d\.\d{6}\)$", lines["exp"])


def test_inspect_keeps_control_characters_off_the_terminal(key):
    out = good("inspect", jwt.encode({"sub": "a\x1b[31m\nb\x9b", "x\x1b": ["\x1b"]}, key, "RS256"))
    assert "\x1b" not in out and "\x9b" not in out
    assert r"  sub: a\x1b[31m\nb\x9b" in out


def test_inspect_verify(key, keyfile, tmp_path):
    pub = str(keyfile.with_suffix(".pub"))
    verify = ["inspect", "--verify", "--public-key", pub]
    now = int(time.time())

    def sign(claims, private=key, alg="RS256"):
        return jwt.encode(claims, private, alg)

    out = good(*verify, sign({"sub": "a", "iss": "anyone", "aud": ["x", "y"]}))
    assert out.startswith("✓") and "verified" in out.splitlines()[0] and "not verified" not in out
    good("inspect", sign({"sub": "a"}), "--verify", f"--public-key={pub}")
    good(*verify, sign({"exp": now + 100, "nbf": now - 1, "iat": now - 1}))
    refused(1, "Error: --public-key required for verification", "inspect", "--verify", "x")
    refused(1, "Error: Signature has expired", *verify, sign({"exp": now - 1}))
    refused(1, "Error: The token is not yet valid (nbf)", *verify, sign({"nbf": now + 100}))
    refused(1, "Error: The token is not yet valid (iat)", *verify, sign({"iat": now + 100}))
    refused(1, "must be an integer", *verify, sign_raw(key, b'{"exp":"x"}'))
    refused(1, "Error: The specified alg value is not allowed", *verify, sign({"a": 1}, alg="RS512"))
    refused(1, "Error: The specified alg value is not allowed", *verify, sign({"a": 1}, "secret" * 8, "HS256"))
    other = rsa.generate_private_key(65537, 2048)
    refused(1, "Error: Signature verification failed", *verify, sign({"a": 1}, other))
    token = sign({"a": 1})
    refused(1, "Error: Signature verification failed", *verify, token[:-5] + "XXXXX")
    refused(1, "no-such.pub", "inspect", "--verify", "--public-key", str(tmp_path / "no-such.pub"), token)
    refused(1, "private key, which does not belong", "inspect", "--verify", "--public-key", str(keyfile), token)

    expired = good("inspect", sign({"exp": now - 1}))
    assert "(EXPIRED)" in expired


def sign_raw(key, payload):
    return jwt.api_jws.encode(payload, key, "RS256")


@pytest.mark.parametrize("token,words", [
    ("abc", "Not enough segments"), ("a.b", "Not enough segments"), ("", "Not enough segments"),
    ("a.b.c.d", "Too many segments"), ("!.e30.AA", "Invalid header"), ("e30.!.AA", "Invalid payload"),
    ("W10.e30.AA", "Invalid header string"), ("e30.W10.AA", "Invalid payload string"), ("e30." + "A" * 9000 + ".A", "too long")])
def test_inspect_malformed(token, words):
    refused(1, "Error: " + ("" if words == "too long" else words), "inspect", token, stdin="")
    err = refused(1, words, "inspect", stdin=token)
    assert err.startswith("Error: ")


# ---- differential: ours against PyJWT on damaged tokens ----

def test_inspect_agrees_with_pyjwt_on_damaged_tokens(key, keyfile):
    token = client(keyfile)
    pub = str(keyfile.with_suffix(".pub"))
    for at in range(0, len(token), 23):
        damaged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
        try:
            jwt.decode(damaged, key.public_key(), algorithms=["RS256"], options={"verify_aud": False})
            theirs = 0
        except (jwt.PyJWTError, UnicodeDecodeError):
            theirs = 1
        assert gimlet("inspect", "--verify", "--public-key", pub, damaged).returncode == theirs, at
