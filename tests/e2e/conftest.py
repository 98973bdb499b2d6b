"""Fixtures of the end-to-end tests. See lib/settings.py for how a run is parametrised from outside."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from lib import settings  # noqa: E402  (the path must be set first)
from lib.backend import Backend  # noqa: E402
from lib.keys import Keys  # noqa: E402
from lib.nginx import Nginx  # noqa: E402
from lib.process import Process  # noqa: E402
from lib.proxy import FaultProxy  # noqa: E402
from lib.tls import Meddler, server_context, world  # noqa: E402
from lib.tunnel import Agent, Server, Tunnel  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "bulk: moves gigabytes; release builds only")
    config.addinivalue_line("markers", "slow: takes more than some ten seconds; not in quick runs")
    config.addinivalue_line("markers", "plain(reason): is about plain text; not in runs over TLS")
    if settings.TLS:  # for the requests library, which some tests use by itself
        os.environ["REQUESTS_CA_BUNDLE"] = str(world().root.certificate)
    assert pathlib.Path(settings.GIMLET).exists(), f"{settings.GIMLET} is not there: build first, or set GIMLET_BIN"


def pytest_report_header(config):
    return (f"gimlet: {settings.GIMLET}{' (sanitizers)' if settings.SANITIZED else ''}, io {settings.IO}, "
            f"rings {settings.RINGS}, lanes {settings.LANES or 'default'}, "
            f"{'TLS ' + settings.TLS if settings.TLS else 'plain text'} on every leg")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("bulk") and settings.SANITIZED:
            item.add_marker(pytest.mark.skip(reason="bulk transfers are measured in release builds only"))
        plain = item.get_closest_marker("plain")
        if plain and settings.TLS:
            item.add_marker(pytest.mark.skip(reason=plain.args[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what every process under test has said last."""
    report = (yield).get_result()
    if report.failed and report.when == "call":
        for process in getattr(item, "processes", []):
            report.sections.append((process.name, process.tail()))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("gimlet")


@pytest.fixture(scope="session")
def keys(run_dir):
    return Keys(run_dir)


class Shared:
    """One tunnel for the tests that leave it as they found it; made anew when one has broken it. `secure`: over TLS on
    every leg, whatever the run is about."""

    def __init__(self, run_dir, keys, secure=False):
        self.run_dir, self.keys = run_dir, keys
        self.pair = world().server if secure else None
        self.backend = Backend(tls=server_context() if secure else None)
        self.tunnel = None

    def get(self) -> Tunnel:
        if self.tunnel and all(p.is_alive for p in self.tunnel.processes):
            return self.tunnel
        self.end()
        server = Server(self.run_dir, self.keys, secure=self.pair)
        agent = Agent(self.run_dir, self.keys, server.agent_url, {"svc": self.backend.url})
        server.wait_agents("svc", through=agent)
        agent.assert_io()
        self.tunnel = Tunnel(server, agent, "svc", self.backend)
        return self.tunnel

    def end(self):
        tunnel, self.tunnel = self.tunnel, None
        if tunnel:
            for process in tunnel.processes[::-1]:
                if process.is_alive:
                    process.dispose()


    def close(self):
        tunnel, self.tunnel = self.tunnel, None
        codes = [p.stop() for p in tunnel.processes[::-1] if p.is_alive] if tunnel else []
        self.backend.close()
        assert all(code == 0 for code in codes), f"exit codes {codes}"


@pytest.fixture(scope="session")
def shared(run_dir, keys):
    pair = Shared(run_dir, keys)
    yield pair
    pair.close()


@pytest.fixture(scope="session")
def shared_tls(run_dir, keys):
    pair = Shared(run_dir, keys, secure=True)
    yield pair
    pair.close()


def lend(shared, request):
    pair = shared.get()
    pair.backend.forget()
    request.node.processes = pair.processes
    yield pair
    pair.check()
    try:
        pair.server.wait_idle()
    except AssertionError:
        shared.end()
        raise


@pytest.fixture
def tunnel(shared, request):
    """The shared tunnel. Afterwards it must still live, and nothing of the test may be left in it."""
    yield from lend(shared, request)


@pytest.fixture
def secure(shared_tls, request):
    """The same with TLS on every leg."""
    yield from lend(shared_tls, request)


@pytest.fixture
def backend(tunnel):
    return tunnel.backend


class Workshop:
    """Makes processes of a test's own and ends them with it."""

    def __init__(self, directory: pathlib.Path, keys: Keys):
        self.directory, self.keys = directory, keys
        self.made, self.closers = [], []

    def server(self, *flags, **options) -> Server:
        ready = options.pop("ready", True)
        server = Server(self.directory, options.pop("keys", self.keys), *flags, ready=False, **options)
        self.made.append(server)
        if ready:
            server.wait_ready()
        return server

    def agent(self, server, services, *flags, wait=True, **options) -> Agent:
        url = server if isinstance(server, str) else server.agent_url
        before = {} if isinstance(server, str) or not wait else server.health()["agents"]
        agent = Agent(self.directory, options.pop("keys", self.keys), url, services, *flags, **options)
        self.made.append(agent)
        if wait and not isinstance(server, str):
            for service in services:
                server.wait_agents(service, before.get(service, 0) + 1, through=agent)
        return agent

    def backend(self, script=None, **options) -> Backend:
        backend = Backend(script, **options)
        self.closers.append(backend.close)
        return backend

    def nginx(self, configuration: str) -> Nginx:
        nginx = Nginx(self.directory, configuration)
        self.closers.append(nginx.close)
        return nginx

    def proxy(self, target: int, **options) -> FaultProxy:
        proxy = FaultProxy(target, **options)
        self.closers.append(proxy.close)
        return proxy

    def meddler(self, target: int, edit=None) -> Meddler:
        meddler = Meddler(target, edit)
        self.closers.append(meddler.close)
        return meddler

    def process(self, name: str, argv, **options) -> Process:
        process = Process(name, argv, self.directory, **options)
        self.made.append(process)
        return process

    def tunnel(self, *server_flags, agent_flags=(), backend=None, target=None, service="svc", **options) -> Tunnel:
        backend = backend or (None if target else self.backend())
        server = self.server(*server_flags, **options)
        agent = self.agent(server, {service: target or backend.url}, *agent_flags)
        return Tunnel(server, agent, service, backend)

    def close(self):
        problems = []
        for process in self.made[::-1]:
            try:
                process.check_alive()
            except AssertionError as problem:
                problems.append(str(problem))
            try:
                process.dispose()
            except AssertionError as problem:
                problems.append(str(problem))
        for closer in self.closers[::-1]:
            closer()
        assert not problems, "\n".join(problems)


@pytest.fixture
def workshop(tmp_path, keys, request):
    shop = Workshop(tmp_path, keys)
    request.node.processes = shop.made
    yield shop
    shop.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory, keys):
    """For what all tests of a file share."""
    shop = Workshop(tmp_path_factory.mktemp("standing"), keys)
    yield shop
    shop.close()


@pytest.fixture
def curl(tmp_path):
    """Runs curl: output, or the exit code it must end with."""
    program = shutil.which("curl")
    if not program:
        pytest.skip("curl is not installed")

    def run(*arguments, code=0, timeout=60):
        trust = ["--cacert", str(world().root.certificate)] if settings.TLS and "--cacert" not in arguments else []
        done = subprocess.run([program, "-sS", "--noproxy", "*", *trust, *map(str, arguments)], capture_output=True,
                              timeout=timeout, check=False)
        if code is not None:
            assert done.returncode == code, (done.returncode, done.stderr.decode(), done.stdout[:500])
        return done
    return run
