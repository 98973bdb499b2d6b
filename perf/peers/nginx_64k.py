"""nginx with buffers of 64 KiB: the best that it does with large bodies."""
from peers import _nginx
from peers._nginx import available, version  # noqa: F401

KIND = "hop"
LARGE = True
ADVICE = "As nginx, with buffers of 64 KiB in both directions."
BUFFERS = "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; client_body_buffer_size 64k;"


def start(stage, name: str):
    return _nginx.start(stage, name, BUFFERS)
