"""One nginx worker as a reverse proxy, with the buffers that are asked for."""
import pathlib
import shutil
import subprocess

from lab.stage import Subject, free_ports

TEMPLATE = pathlib.Path(__file__).with_name("nginx.conf")
# Never more idle connections to a backend than this: the greatest number of clients in a scenario, and then some.
KEPT = 2048


def available() -> "str | None":
    return None if shutil.which("nginx") else "not installed: deploy/packages.sh perf"


def version() -> str:
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().rsplit(" ", 1)[-1]


def start(stage, name: str, buffers: str) -> Subject:
    port = free_ports(1)[0]
    upstreams, locations = [], []
    for service, backend in stage.services.items():
        upstreams.append(f"upstream {service} {{ server 127.0.0.1:{backend}; keepalive {KEPT};"
                         " keepalive_requests 1000000000; keepalive_timeout 3600s; }")
        locations.append(f"location /services/{service}/ {{ proxy_pass http://{service}/; }}")
    worker = stage.nginx(name, TEMPLATE, port, {"UPSTREAMS": "\n    ".join(upstreams), "LOCATIONS": "\n        ".join(locations),
                                                "BUFFERS": buffers}, stage.proxy_core)
    routes = {service: (f"http://127.0.0.1:{port}/services/{service}", stage.client_headers()) for service in stage.services}
    return Subject(name, [worker], routes, "hop")
