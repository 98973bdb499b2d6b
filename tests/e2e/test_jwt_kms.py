"""`gimlet jwt` with a key in AWS KMS, which a small emulator plays; botocore judges every signature."""
import base64
import datetime
import json
import os
import subprocess
import time

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lib.aws import ACCESS, ARN, ROLE, ROLE_PATH, SECRET, WEB_TOKEN, running
from lib.process import SANITIZER_ENV
from lib.settings import GIMLET
from lib.tls import Authority, server_context

STATIC = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
AGENT = ["agent", "--subject", "bob", "--service", "svc"]


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def kms(key):
    with running(key) as aws:
        yield aws


@pytest.fixture
def aws(kms):
    kms.asked.clear()
    kms.paths.clear()
    kms.failures.clear()
    kms.container_token, kms.instance = None, True
    return kms


def run(aws, home, *arguments, env=None, arn=ARN):
    """`gimlet jwt` in an environment without any AWS in it but what is given."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GIMLET_JWT_", "AWS_"))}
    words = [*arguments, *(["--kms-key-arn", arn] if arn else [])]
    began = time.monotonic()
    done = subprocess.run([GIMLET, "jwt", *words], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                          env={**clean, **SANITIZER_ENV, "HOME": str(home), "AWS_ENDPOINT_URL": aws.url,
                               "AWS_EC2_METADATA_DISABLED": "true", **(env or {})})
    assert time.monotonic() - began < 20
    return done


def good(*arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


def refused(words, *arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("Error"), done
    assert words in done.stderr, done.stderr
    assert SECRET not in done.stderr
    return done.stderr


# --- tokens ----------------------------------------------------------------------------------------

def test_a_token_is_signed_by_kms(aws, key, tmp_path):
    token = good(aws, tmp_path, *AGENT, env=STATIC)
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="gimlet-agent", issuer="gimlet")
    assert list(claims) == ["iss", "aud", "sub", "service", "iat", "exp", "nbf"] and claims["service"] == "svc"
    assert base64.urlsafe_b64decode(token.split(".")[0] + "==") == b'{"alg":"RS256","typ":"JWT"}'
    (target, question, access, region), = aws.asked
    assert (target, question["KeyId"], access, region) == ("TrentService.Sign", ARN, ACCESS, "eu-central-1")


def test_json_names_the_key(aws, key, tmp_path):
    data = json.loads(good(aws, tmp_path, "client", "--subject", "a", "--services", "x,y", "--json", arn=None,
                           env={**STATIC, "GIMLET_JWT_KMS_KEY_ARN": ARN}))
    assert list(data) == ["token", "subject", "services", "audience", "issuer", "duration", "expires_at", "signing_key"]
    assert data["signing_key"] == ARN and data["services"] == ["x", "y"]
    jwt.decode(data["token"], key.public_key(), algorithms=["RS256"], audience="gimlet-client")


def test_kms_does_what_a_server_believes(aws, tmp_path, workshop):
    """The key exported from KMS is what a server checks KMS's signatures with."""
    public = tmp_path / "kms.pem"
    assert run(aws, tmp_path, "export-public-key", "--output", str(public), env=STATIC).returncode == 0
    server = workshop.server("--token-public-key-dir", tmp_path)
    token = good(aws, tmp_path, "client", "--subject", "a", "--services", "nobody", env=STATIC)
    with server.wire() as wire:
        answer = wire.send(f"GET /services/nobody/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").answer()
    assert answer.status == 503, "the token is good, and nobody serves"


def test_limits_are_checked_before_kms_is_asked(aws, tmp_path):
    refused("refuse", aws, tmp_path, "client", "--subject", "a", "--services", "x" * 256, env=STATIC)
    refused("8192", aws, tmp_path, "client", "--subject", "a", "--services", "x" * 9000, env=STATIC)
    for names in (["--subject", "\udcff", "--service", "s"], ["--subject", "a", "--service", "\udcff"], [*AGENT[1:], "--issuer", "\udcff"],
                  [*AGENT[1:], "--scope", "\udcff"]):
        refused("UTF-8", aws, tmp_path, "agent", *names, env=STATIC)
    refused("numeric", aws, tmp_path, *AGENT, "--duration", "h", env=STATIC)
    assert aws.asked == []


# --- the public key --------------------------------------------------------------------------------

def test_the_public_key(aws, key, tmp_path):
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    assert good(aws, tmp_path, "export-public-key", env=STATIC) == pem
    for flag in ("-o", "--output"):
        path = tmp_path / f"key{flag}.pem"
        done = run(aws, tmp_path, "export-public-key", flag, str(path), env=STATIC)
        assert (done.returncode, done.stdout, path.read_text()) == (0, "", pem) and str(path) in done.stderr
    assert [target for target, *_ in aws.asked] == ["TrentService.GetPublicKey"] * 3


def test_a_public_key_that_cannot_be_had(aws, tmp_path):
    prefix = "Error getting public key from KMS: "
    assert refused("NotFoundException: Key does not exist", aws, tmp_path, "export-public-key", arn=ARN[:-1], env=STATIC).startswith(prefix)
    assert refused("Unable to locate credentials", aws, tmp_path, "export-public-key").startswith(prefix)
    assert refused("/nothing/x", aws, tmp_path, "export-public-key", "-o", "/nothing/x", env=STATIC).startswith(prefix)
    done = run(aws, tmp_path, "export-public-key", arn=None)
    assert done.returncode == 2 and "--kms-key-arn" in done.stderr and done.stderr.startswith("Usage: ")


def test_a_key_that_servers_do_not_take_is_warned_of(tmp_path):
    with running(ec.generate_private_key(ec.SECP256R1())) as other:
        done = run(other, tmp_path, "export-public-key", env=STATIC)
    assert done.returncode == 0 and "BEGIN PUBLIC KEY" in done.stdout and done.stderr.startswith("Warning: ")


# --- region and endpoint ---------------------------------------------------------------------------

@pytest.mark.parametrize("arn,env,config,region", [
    ("arn:aws:kms:us-gov-west-1:1:key/x", {"AWS_DEFAULT_REGION": "no-1"}, "", "us-gov-west-1"),
    ("a:b:c:d", {}, "", "d"),
    ("alias/x", {"AWS_DEFAULT_REGION": "ap-south-1", "AWS_REGION": "no-1"}, "", "ap-south-1"),
    ("alias/x", {"AWS_REGION": "ap-south-2"}, "[default]\nregion=no-1\n", "ap-south-2"),
    ("arn:aws:kms::1:key/x", {}, "[default]\n# region = no-1\nregion = sa-east-1\n", "sa-east-1"),
    ("alias/x", {"AWS_PROFILE": "p"}, "[default]\nregion=no-1\n[profile p]\nregion=sa-east-2\n", "sa-east-2")])
def test_the_region(aws, tmp_path, arn, env, config, region):
    (tmp_path / "config").write_text(config)
    done = run(aws, tmp_path, *AGENT, arn=arn, env={**STATIC, **env, "AWS_CONFIG_FILE": str(tmp_path / "config")})
    assert "NotFoundException" in done.stderr, "signed well for another key"
    assert aws.asked[0][3] == region and aws.asked[0][1]["KeyId"] == arn


def test_a_region_is_needed(aws, tmp_path):
    refused("You must specify a region", aws, tmp_path, *AGENT, arn="alias/x", env=STATIC)
    refused("no region", aws, tmp_path, *AGENT, arn="arn:aws:kms:ev/il:1:key/x", env=STATIC)


def test_the_endpoint(aws, tmp_path):
    nowhere = {**STATIC, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    good(aws, tmp_path, *AGENT, env={**nowhere, "AWS_ENDPOINT_URL_KMS": aws.url + "/"})
    refused("127.0.0.1:1", aws, tmp_path, *AGENT, env={**nowhere, "HTTPS_PROXY": "", "https_proxy": ""})
    refused("HTTPS_PROXY is set, but is not used", aws, tmp_path, *AGENT, env={**nowhere, "HTTPS_PROXY": "http://x:1"})
    refused("nonsense", aws, tmp_path, *AGENT, env={**STATIC, "AWS_ENDPOINT_URL": "nonsense"})
    assert "hush" not in refused("user name or password", aws, tmp_path, *AGENT, env={**STATIC, "AWS_ENDPOINT_URL": "http://u:hush@h/"})
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[default]\nendpoint_url = {aws.url}\n")
    good(aws, tmp_path, *AGENT, env={**STATIC, "AWS_ENDPOINT_URL": ""})


def test_over_tls(key, tmp_path):
    authority = Authority(tmp_path)
    with running(key, server_context(authority.issue("127.0.0.1"))) as aws:
        good(aws, tmp_path, *AGENT, env={**STATIC, "AWS_CA_BUNDLE": str(authority.certificate)})
        done = run(aws, tmp_path, *AGENT, env={**STATIC, "AWS_CA_BUNDLE": str(Authority(tmp_path).certificate)})
        assert done.returncode == 1 and done.stdout == "" and "Error: AWS KMS: " in done.stderr and "issuer" in done.stderr.lower()


def test_a_root_with_the_number_zero(key, tmp_path):
    """As Go Daddy's, Starfield's and others' in every system's bundle."""
    authority = Authority(tmp_path)
    root = authority.renumbered(0)
    assert x509.load_pem_x509_certificate(root.read_bytes()).serial_number == 0
    with running(key, server_context(authority.issue("127.0.0.1"))) as aws:
        good(aws, tmp_path, *AGENT, env={**STATIC, "AWS_CA_BUNDLE": str(root)})


# --- credentials -----------------------------------------------------------------------------------

def test_credentials_from_the_environment(aws, tmp_path):
    aws.known["AKIATEMP"] = ("temp", "session+token/==")
    env = {"AWS_ACCESS_KEY_ID": "AKIATEMP", "AWS_SECRET_ACCESS_KEY": "temp"}
    good(aws, tmp_path, *AGENT, env={**env, "AWS_SESSION_TOKEN": "session+token/=="})
    good(aws, tmp_path, *AGENT, env={**env, "AWS_SECURITY_TOKEN": "session+token/=="})
    refused("UnrecognizedClientException: The security token", aws, tmp_path, *AGENT, env=env)
    refused("does not match", aws, tmp_path, *AGENT, env={**STATIC, "AWS_SECRET_ACCESS_KEY": "guess"})
    refused("AWS_SECRET_ACCESS_KEY is not", aws, tmp_path, *AGENT, env={"AWS_ACCESS_KEY_ID": ACCESS})
    refused("Unable to locate credentials", aws, tmp_path, *AGENT)


def shared(home, credentials=None, config=None):
    (home / ".aws").mkdir(exist_ok=True)
    for name, text in (("credentials", credentials), ("config", config)):
        if text is not None:
            (home / ".aws" / name).write_text(text)


def keys(access=ACCESS, secret=SECRET, more=""):
    return f"aws_access_key_id = {access}\nAWS_Secret_Access_Key={secret}\n{more}"


def test_credentials_from_the_shared_files(aws, tmp_path):
    shared(tmp_path, f"# mine\n[other]\n{keys('NO', 'no')}[default]\r\ns3 =\r\n  aws_access_key_id = NESTED\r\n{keys()}\n[last]\n{keys('NO')}")
    good(aws, tmp_path, *AGENT)
    shared(tmp_path, f"[team a]\n{keys(ROLE['AccessKeyId'], ROLE['SecretAccessKey'], 'aws_session_token = ' + ROLE['Token'])}",
           f'[default]\nregion = x\n[profile "b c"]\n{keys()}')
    for profile in ("team a", "b c"):
        good(aws, tmp_path, *AGENT, env={"AWS_PROFILE": profile})
    assert [access for _, _, access, _ in aws.asked] == [ACCESS, ROLE["AccessKeyId"], ACCESS]
    (tmp_path / "elsewhere").write_text(f"[default]\n{keys()}")
    good(aws, tmp_path, *AGENT, env={"AWS_SHARED_CREDENTIALS_FILE": "~/elsewhere"})
    refused("the profile c (AWS_PROFILE)", aws, tmp_path, *AGENT, env={"AWS_PROFILE": "c"})
    shared(tmp_path, "[default]\naws_access_key_id = x\n")
    refused("no aws_secret_access_key", aws, tmp_path, *AGENT)


@pytest.mark.parametrize("config,env,word", [
    ("[default]\nrole_arn = arn:x\nsource_profile = y\n", {}, "role_arn"), ("[default]\nsso_session = x\n", {}, "sso_session"),
    ("[profile p]\ncredential_process = /bin/x\n", {"AWS_PROFILE": "p"}, "credential_process"),
    ("[default]\nrole_arn = arn:x\n", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/x", "AWS_ROLE_ARN": "arn:x"}, "role_arn")])
def test_ways_that_are_not_spoken_are_refused_by_name(aws, tmp_path, config, env, word):
    shared(tmp_path, f"[default]\n{keys()}", config)
    assert "not supported" in refused(word, aws, tmp_path, *AGENT, env=env)
    assert aws.asked == []


def test_a_role_for_a_web_identity(aws, tmp_path):
    (tmp_path / "web").write_text(WEB_TOKEN + "\n")
    env = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "web"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/signer"}
    shared(tmp_path, f"[default]\n{keys('NO', 'no')}")
    good(aws, tmp_path, *AGENT, env=env)
    assert aws.asked[0][2] == ROLE["AccessKeyId"]
    refused("InvalidIdentityToken not believed", aws, tmp_path, *AGENT, env={**env, "AWS_ROLE_ARN": "arn:other"})
    refused("AWS_ROLE_ARN is not", aws, tmp_path, *AGENT, env={**env, "AWS_ROLE_ARN": ""})


def test_credentials_of_a_container(aws, tmp_path):
    url = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.url}/container?x=1"}
    good(aws, tmp_path, *AGENT, env=url)
    aws.container_token = "Bearer abc"
    refused("status 401", aws, tmp_path, *AGENT, env=url)
    good(aws, tmp_path, *AGENT, env={**url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer abc"})
    (tmp_path / "token").write_text("Bearer abc\n")
    good(aws, tmp_path, *AGENT, env={**url, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
                                     "AWS_CONTAINER_AUTHORIZATION_TOKEN": "old"})
    assert {access for _, _, access, _ in aws.asked} == {ROLE["AccessKeyId"]}
    for far in ("http://example.com/x", "http://127.0.0.1.example.com/x", "ftp://localhost/", "http://127.0.0.1@example.com/"):
        refused("AWS_CONTAINER_CREDENTIALS_FULL_URI", aws, tmp_path, *AGENT, env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": far})


def test_credentials_of_an_instance(aws, tmp_path):
    env = {"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": aws.url + "/"}
    good(aws, tmp_path, *AGENT, env=env)
    assert aws.paths == ["PUT /latest/api/token", f"GET {ROLE_PATH}", f"GET {ROLE_PATH}the-role"]
    assert aws.asked[0][2] == ROLE["AccessKeyId"]
    aws.instance = False
    refused("Unable to locate credentials", aws, tmp_path, *AGENT, env=env)


# --- trouble ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("failures", [
    [(500, b"oops"), (503, b"oops")], [None], [(400, {"__type": "ThrottlingException", "message": "slow"}), (429, b"")]])
def test_what_may_pass_is_tried_again(aws, tmp_path, failures):
    aws.failures = list(failures)
    good(aws, tmp_path, *AGENT, env=STATIC)


@pytest.mark.parametrize("failures,words", [
    ([(500, b"oops")] * 3, "status 500"), ([(200, b"{}")], "no usable Signature"), ([(200, b"x" * 20000)], "larger than"),
    ([(200, {"Signature": "****"})], "no usable Signature"), ([(302, b"")], "status 302"),
    ([(403, {"__type": "x#AccessDenied\u0007", "Message": "no\n\u001b[31m\u009b2J"})], "AccessDenied : no  [31m  2J")])
def test_what_does_not_pass_is_said(aws, tmp_path, failures, words):
    aws.failures = list(failures)
    refused(words, aws, tmp_path, *AGENT, env=STATIC)
    assert aws.failures == [] and aws.asked == []


def test_expiry_is_what_was_asked_for(aws, key, tmp_path):
    token = good(aws, tmp_path, *AGENT, "--duration", "90m", env=STATIC)
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="gimlet-agent")
    assert claims["exp"] - claims["iat"] == 5400
    assert abs(claims["iat"] - datetime.datetime.now().timestamp()) < 30
