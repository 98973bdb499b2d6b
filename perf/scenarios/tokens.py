"""What checking tokens costs: one token, many, and more than the cache holds."""
import base64
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from lab.drive import wrk
from lab.lab import counted

TITLE = "Tokens: known, many, and more than the cache holds"
ABOUT = """64 connections, small requests, each case beside the same tunnel with one token. A token that the ring's cache knows costs a hash and a
comparison; one that it does not know costs an RSA signature's check. The counter says how many of the requests had one that was not known.
There is no server without tokens to compare with: a request without one is refused."""
ORDER = 145
PLOT = None
MANY = (16, 1000, 20000)
CONNECTIONS = 64


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def write_tokens(stage, count: int):
    """`count` tokens that differ in their subject."""
    key = serialization.load_pem_private_key((stage.dir / "gimlet.pem").read_bytes(), None)
    now, path = int(time.time()), stage.dir / f"tokens-{count}"
    head = encoded(b'{"alg":"RS256","typ":"JWT"}')
    with open(path, "w", encoding="ascii") as file:
        for index in range(count):
            claims = {"iss": "gimlet", "aud": "gimlet-client", "sub": f"perf-{index}", "services": ["*"], "iat": now,
                      "exp": now + 43200, "nbf": now}
            signed = f"{head}.{encoded(json.dumps(claims).encode())}"
            file.write(f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}\n")
    return path


def run(lab):
    with lab.stage() as stage:
        several, one = stage.tunnel("several tokens"), stage.tunnel("one token")
        for count in MANY:
            path = write_tokens(stage, count)
            words = {several.name: ("tokens", path), one.name: ()}
            measure = counted(lambda stage, subject, _, w=words: wrk(stage, subject, CONNECTIONS, lab.seconds, *w[subject.name]),
                              "token_misses")
            lab.compare(f"{count:,} tokens", [several, one], measure, warm=measure, stage=stage)
            misses = lab.row(f"{count:,} tokens", several.name)["server token_misses"]
            lab.note(f"{count:,} tokens: {misses:.1%} of the requests had one that was not in the cache")
