#!/usr/bin/env python3
"""The demo's backend: a small private service, with nothing but Python's standard library.

Usage: backend.py PORT_FILE       listens on a free port of 127.0.0.1 and writes its number there
       backend.py ADDRESS:PORT    listens there
"""
import http.server
import json
import os
import sys
import time

WORDS = "Nothing private opened a port for this ; the agent dialled out , and your answer came back the same way .".split()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "demo-backend"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/events":
            self.events()
        elif path == "/whoami":
            self.answer(json.dumps({"method": self.command, "path": self.path, "headers": dict(self.headers)}, indent=2))
        else:
            self.answer(f"Hello from the private side! You asked for {self.path}\n", "text/plain; charset=utf-8")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(json.dumps({"you_sent": body.decode(errors="replace"), "bytes": len(body)}) + "\n")

    def answer(self, text, kind="application/json"):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def events(self):
        """A sentence, word by word, as a language model would stream it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for word in WORDS:
                self.chunk(f"data: {json.dumps({'token': word})}\n\n")
                time.sleep(0.15)
            self.chunk("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, form, *arguments):
        print(time.strftime("%H:%M:%S"), form % arguments, flush=True)


def main():
    address, _, port = sys.argv[1].rpartition(":")
    server = http.server.ThreadingHTTPServer((address or "127.0.0.1", int(port) if address else 0), Handler)
    if not address:
        with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
            file.write(str(server.server_address[1]))
        os.replace(sys.argv[1] + ".new", sys.argv[1])
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
