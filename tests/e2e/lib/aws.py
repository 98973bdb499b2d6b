"""A small AWS: KMS with a real RSA key, its callers' signatures checked by botocore; credential endpoints of a container and
of an instance. One port, plain or over TLS."""
import base64
import contextlib
import datetime
import http.server
import json
import threading
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, utils

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ACCESS, SECRET = "AKIAEXAMPLE", "wJalr+secret/with=signs"
ROLE = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "role/secret", "Token": "role+token/==", "Code": "Success",
        "Expiration": "2099-01-01T00:00:00Z"}
WEB_TOKEN = "eyJ.web-identity_token.sig"
ROLE_PATH = "/latest/meta-data/iam/security-credentials/"


class Aws:
    """`known`: access key id -> (secret, session token or None). `failures`: answers that come before the real ones, each
    (status, body), or None for a connection that is cut. `asked`: (target, body, access key id, region) of good calls."""

    def __init__(self, key, context=None):
        self.key, self.known, self.failures, self.asked, self.paths = key, {}, [], [], []
        self.known = {ACCESS: (SECRET, None), ROLE["AccessKeyId"]: (ROLE["SecretAccessKey"], ROLE["Token"])}
        self.container_token = None
        self.instance = True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self): outer.get(self)
            def do_PUT(self): outer.get(self)
            def do_POST(self): outer.post(self)
            def log_message(self, *_): pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            def handle_error(self, *_): pass
        self.server = Server(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # --- answers ---
    @staticmethod
    def answer(request, status, body, kind="application/x-amz-json-1.1"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def error(self, request, name, message, status=400):
        self.answer(request, status, {"__type": name, "message": message})

    def get(self, request):
        self.paths.append(f"{request.command} {request.path}")
        session = request.headers.get("X-aws-ec2-metadata-token") == "session=="
        if request.path == "/container?x=1":
            if request.headers.get("Authorization") != self.container_token:
                return self.error(request, "AccessDenied", "wrong token", 401)
            return self.answer(request, 200, ROLE)
        if request.path == "/latest/api/token" and self.instance and request.command == "PUT":
            assert 1 <= int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
            return self.answer(request, 200, b"session==", "text/plain")
        if request.path == ROLE_PATH and session:
            return self.answer(request, 200, b"the-role\n", "text/plain")
        if request.path == ROLE_PATH + "the-role" and session:
            return self.answer(request, 200, ROLE)
        return self.answer(request, 404, b"no", "text/plain")

    def post(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if self.failures:
            failure = self.failures.pop(0)
            if failure is None:
                request.close_connection = True
                return None
            return self.answer(request, *failure)
        if request.headers["Content-Type"] == "application/x-www-form-urlencoded":
            return self.assume(request, urllib.parse.parse_qs(body.decode(), strict_parsing=True))
        wrong = self.judge(request, body)
        if wrong:
            return self.error(request, *wrong)
        target, question = request.headers["X-Amz-Target"], json.loads(body)
        if question.pop("KeyId") != ARN:
            return self.error(request, "com.amazonaws.kms#NotFoundException", "Key does not exist")
        if target == "TrentService.GetPublicKey":
            der = self.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            return self.answer(request, 200, {"KeyId": ARN, "KeySpec": "RSA_2048", "PublicKey": base64.b64encode(der).decode()})
        assert target == "TrentService.Sign" and question["MessageType"] == "DIGEST" and len(question) == 3
        assert question["SigningAlgorithm"] == "RSASSA_PKCS1_V1_5_SHA_256"
        signature = self.key.sign(base64.b64decode(question["Message"]), padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        return self.answer(request, 200, {"KeyId": ARN, "Signature": base64.b64encode(signature).decode()})

    def assume(self, request, form):
        assert (form["Action"], form["Version"]) == (["AssumeRoleWithWebIdentity"], ["2011-06-15"]) and form["RoleSessionName"][0]
        if form["WebIdentityToken"] != [WEB_TOKEN] or form["RoleArn"] != ["arn:aws:iam::1:role/signer"]:
            return self.answer(request, 400, b"<ErrorResponse><Error><Code>InvalidIdentityToken</Code>"
                               b"<Message>not believed</Message></Error></ErrorResponse>", "text/xml")
        return self.answer(request, 200, (
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{ROLE['AccessKeyId']}</AccessKeyId><SecretAccessKey>{ROLE['SecretAccessKey']}</SecretAccessKey>"
            f"<SessionToken>{ROLE['Token']}</SessionToken></Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>").encode(), "text/xml")

    # --- signatures ---
    def judge(self, request, body):
        """None for a request that is signed as botocore would have signed it, or what is wrong with it."""
        given = request.headers.get("Authorization", "")
        if not given.startswith("AWS4-HMAC-SHA256 "):
            return "MissingAuthenticationTokenException", "not signed"
        parts = dict(part.strip().split("=", 1) for part in given.split(" ", 1)[1].split(","))
        access, day, region, service, end = parts["Credential"].split("/")
        stamp = request.headers["X-Amz-Date"]
        then = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
        if abs((datetime.datetime.utcnow() - then).total_seconds()) > 300 or day != stamp[:8] or (service, end) != ("kms", "aws4_request"):
            return "SignatureDoesNotMatch", "wrong time or scope"
        secret, token = self.known.get(access, (None, None))
        if not secret or request.headers.get("X-Amz-Security-Token") != token:
            return "UnrecognizedClientException", "The security token included in the request is invalid."
        names = parts["SignedHeaders"].split(";")
        if not {"host", "x-amz-date", "x-amz-target"} <= set(names) or token and "x-amz-security-token" not in names:
            return "SignatureDoesNotMatch", "what matters is not signed"
        scheme = self.url.split(":")[0]
        rebuilt = AWSRequest(request.command, f"{scheme}://{request.headers['Host']}{request.path}",
                             headers={name: request.headers[name] for name in names}, data=body)
        rebuilt.context["timestamp"] = stamp
        signer = SigV4Auth(Credentials(access, secret, token), "kms", region)
        text = signer.string_to_sign(rebuilt, signer.canonical_request(rebuilt))
        if signer.signature(text, rebuilt) != parts["Signature"]:
            return "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
        self.asked.append((request.headers["X-Amz-Target"], json.loads(body), access, region))
        return None


@contextlib.contextmanager
def running(key, context=None):
    aws = Aws(key, context)
    try:
        yield aws
    finally:
        aws.close()
