"""fly.toml: the ports, checks and times that it says are the program's."""
import tomllib

from lib import artefacts
from lib.artefacts import DEPLOY

FLY = tomllib.loads((DEPLOY / "fly/fly.toml").read_text())


def test_ports_are_those_of_the_environment():
    assert FLY["http_service"]["internal_port"] == int(FLY["env"]["GIMLET_SERVER_HTTP_PORT"])
    assert FLY["metrics"]["port"] == int(FLY["env"]["GIMLET_SERVER_METRICS_PORT"])


def test_variables_are_the_servers(help_of):
    assert set(FLY["env"]) <= help_of["server"].variables
    assert all(isinstance(value, str) for value in FLY["env"].values())


def test_processes_are_named_once():
    groups = set(FLY["processes"])
    assert set(FLY["http_service"]["processes"]) == groups == set(FLY["metrics"]["processes"])
    assert FLY["processes"]["server"] == "server", "what follows the image's ENTRYPOINT"


def test_machines_are_not_stopped_nor_killed_too_soon():
    assert FLY["http_service"]["auto_stop_machines"] == "off"
    own = artefacts.seconds(FLY["env"]["GIMLET_SERVER_SHUTDOWN_TIMEOUT"])
    assert artefacts.seconds(FLY["kill_timeout"]) >= own + 5


def test_health_check():
    check, = FLY["http_service"]["checks"]
    assert check["path"] == "/health"
    assert artefacts.seconds(check["timeout"]) < artefacts.seconds(check["interval"])
    limits = FLY["http_service"]["concurrency"]
    assert limits["soft_limit"] < limits["hard_limit"]
