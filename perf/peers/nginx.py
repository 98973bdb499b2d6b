"""nginx as it comes: buffers of 4 or 8 KiB. The hop that the budgets are about."""
from peers import _nginx
from peers._nginx import available, version  # noqa: F401

KIND = "hop"
ADVICE = ("One worker; keep-alive to clients and backends, HTTP/1.1 upstream, as its page on tuning says; bodies streamed"
          " (no temporary files), so that its disk is not measured. Buffers as it comes.")


def start(stage, name: str):
    return _nginx.start(stage, name, "")
