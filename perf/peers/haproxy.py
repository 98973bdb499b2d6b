"""HAProxy, one thread: the other hop that everybody knows."""
import pathlib

from lab.stage import Subject, free_ports
from peers import _tools

KIND = "hop"
ADVICE = ("One thread; http-reuse always and splice-auto, which its manual recommends for steady backends and large bodies;"
          " the fields of a request that nginx writes.")
TEMPLATE = pathlib.Path(__file__).with_name("haproxy.cfg")


def available() -> "str | None":
    return None if _tools.find("haproxy") else "not installed: deploy/packages.sh perf"


def version() -> str:
    return _tools.version("haproxy", "-v")


def start(stage, name: str) -> Subject:
    port = free_ports(1)[0]
    backends = [f"backend {service}\n    http-request set-path /%[path,field(4,/,0)]\n    server one 127.0.0.1:{backend}"
                for service, backend in stage.services.items()]
    file = stage.dir / f"{name}.cfg"
    file.write_text(TEMPLATE.read_text().replace("@PORT@", str(port)).replace("@BACKENDS@", "\n".join(backends)))
    process = stage.start(name, [_tools.find("haproxy"), "-db", "-f", file], stage.proxy_core)
    routes = {service: (f"http://127.0.0.1:{port}/services/{service}", stage.client_headers()) for service in stage.services}
    return Subject(name, [process.pid], routes)
