"""The stage of the TLS scenarios: every leg encrypted, with the same version, suite, group and certificates for all.

 wrk ══▶ gimlet server ══▶ gimlet agent ══▶ nginx backend        three TLS connections, four ends in what is measured
 wrk ══▶ nginx proxy ═════════════════════▶ nginx backend        two, and two
 wrk ──▶ gimlet server ──▶ gimlet agent ──▶ nginx backend        none

What tls-openssl.cnf says is for whatever OpenSSL is linked into: load, sink, nginx. Before anything is measured the legs
are looked at; anything else than what is pinned ends the run.
"""
import contextlib
import os
import pathlib
import ssl
import subprocess
import sys
import urllib.request

from lab.stage import HERE as LAB
from lab.stage import Broken, PlainLegs, Stage, Subject, free_ports

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "TLS_AES_128_GCM_SHA256"
BUFFERS = "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; client_body_buffer_size 64k;"


class TlsLegs(PlainLegs):
    SCHEME = "https"

    def listen(self, stage, port: int) -> list:
        return ["--http-port", "off", "--https-port", port, "--tls-cert", stage.dir / "server.pem",
                "--tls-key", stage.dir / "server.key"]

    def dial(self, stage, port: int) -> list:
        return ["--server-url", f"wss://127.0.0.1:{port}/agent", "--ca-file", stage.dir / "ca.pem"]

    def target(self, stage, service: str) -> str:
        return f"https://127.0.0.1:{stage.tls_services[service]}"

    def target_options(self, stage) -> str:
        return f",ca-file={stage.dir}/ca.pem"


class TlsStage(Stage):
    """Its services have two ports: without TLS in `services`, with TLS in `tls_services`."""

    def __init__(self, gimlet: str, io: str):
        super().__init__(gimlet, io)
        os.sched_setaffinity(0, {self.load_core})
        self.tls_services = {}
        # A root and one P-256 certificate for all servers. The proxies and backends differ in nothing else.
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        ca, key = self.dir / "ca.pem", self.dir / "ca.key"
        for argv in (["-subj", "/CN=perf root", "-keyout", key, "-out", ca, "-addext", "keyUsage=critical,keyCertSign"],
                     ["-subj", "/CN=localhost", "-CA", ca, "-CAkey", key, "-addext", "basicConstraints=critical,CA:FALSE",
                      "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                      "-keyout", self.dir / "server.key", "-out", self.dir / "server.pem"]):
            subprocess.run(["openssl", "req", "-x509", *curve, *map(str, argv)], check=True, capture_output=True)
        self.environment["OPENSSL_CONF"] = str(HERE / "tls-openssl.cnf")
        self.context = ssl.create_default_context(cafile=str(ca))
        self.curl_options = ["--cacert", ca]

    def close(self):
        super().close()
        os.sched_setaffinity(0, set(self.all_cores))

    def web(self):
        port, tls = free_ports(2)
        self.large_file()
        self.nginx("backend", HERE / "tls-backend.conf", port, {"TLS": tls}, self.load_core)
        self.services["web"], self.warm["web"], self.tls_services["web"] = port, "/small", tls

    def sink(self):
        port, tls = free_ports(2)
        self.backend("sink", [sys.executable, LAB / "sink.py", port, tls, self.dir / "server.pem", self.dir / "server.key"], port)
        self.wait_port(tls)
        self.tls_services["sink"] = tls

    def nginx_hop(self, name: str, buffers: str = "") -> Subject:
        port = free_ports(1)[0]
        upstreams, locations = [], []
        for service, backend in self.tls_services.items():
            upstreams.append(f"upstream {service} {{ server 127.0.0.1:{backend}; keepalive 2048;"
                             " keepalive_requests 1000000000; keepalive_timeout 3600s; }")
            locations.append(f"location /services/{service}/ {{ proxy_pass https://{service}/; }}")
        worker = self.nginx(name, HERE / "tls-proxy.conf", port, {"UPSTREAMS": "\n    ".join(upstreams), "BUFFERS": buffers,
                                                                  "LOCATIONS": "\n        ".join(locations)}, self.proxy_core)
        return Subject(name, [worker], {service: (f"https://127.0.0.1:{port}/services/{service}", self.client_headers())
                                        for service in self.services}, "hop")

    def check_pinned(self, subject: Subject):
        """Both legs that can be looked at from outside agree on one version and suite; otherwise nothing is compared.

        The link is between two of our own programs: the server's choice is seen on the client's leg, and that the agent
        offers the suite on the backend's.
        """
        url, headers = subject.request("web", "/tls")
        port = url.split(":")[2].split("/")[0]
        free = {key: value for key, value in self.environment.items() if key != "OPENSSL_CONF"}
        for environment in (self.environment, free):
            done = subprocess.run(["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{port}",
                                   "-CAfile", self.dir / "ca.pem", "-verify_return_error"], input="", text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20, env=environment)
            for wanted in ("Protocol version: TLSv1.3", f"Ciphersuite: {SUITE}", "Server Temp Key: X25519",
                           "Signature type: ECDSA", "Verification: OK"):
                if wanted not in done.stdout:
                    raise Broken(f"{subject.name}, client's leg: not {wanted!r}:\n{done.stdout}")
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20, context=self.context) as answer:
            text = answer.read().decode()
        if text != f"TLSv1.3 {SUITE}":
            raise Broken(f"{subject.name}, backend's leg: {text!r}, not TLSv1.3 {SUITE}")


@contextlib.contextmanager
def tls_stage(lab, sink=False, wide=False, plain=True):
    """The stage, and its subjects: ours with TLS, ours without (if `plain`), an nginx hop, and one with 64 KiB buffers (if `wide`)."""
    with lab.stage(sink=sink, kind=TlsStage) as stage:
        subjects = [stage.tunnel("gimlet", legs=TlsLegs())]
        if plain:
            subjects.append(stage.tunnel("gimlet, plain"))
        hops = [("nginx", "")] + ([("nginx-64k", BUFFERS)] if wide else [])
        for name, buffers in hops:
            subjects.append(stage.nginx_hop(name, buffers))
            stage.wait_answer(subjects[-1], "web")
        for subject in subjects:
            if subject.name != "gimlet, plain":
                stage.check_pinned(subject)
        yield stage, subjects
