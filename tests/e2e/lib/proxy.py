"""A TCP proxy that misbehaves on demand: it delays, splits, slows, freezes, cuts and resets."""
import asyncio
import socket
import struct
import threading

from lib.settings import PATIENCE


class FaultProxy:
    """Listens on `port` and passes everything to `target`. Settings may change at any time:
    delay (s, both ways), split (bytes per segment, 0 off), rate (bytes/s, 0 off), frozen, refuse. `tls`: an SSLContext,
    whose end it is: the target is spoken to in plain text."""

    def __init__(self, target: int, tls=None):
        self.target = target
        self.tls = tls
        self.delay = 0.0
        self.split = 0
        self.rate = 0
        self.frozen = False
        self.refuse = False
        self.accepted = 0
        self.passed = [0, 0]  # towards the target, back
        self._pairs: "set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]]" = set()
        self._cut_after: "int | None" = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 18,
                                                                               ssl=self.tls))
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    @property
    def connections(self) -> int:
        return len(self._pairs)

    async def _accept(self, reader, writer):
        self.accepted += 1
        if self.refuse:
            self._abort(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=1 << 18)
        except OSError:
            self._abort(writer)
            return
        for end in (writer, far_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(reader, far_writer, 0), self._pump(far_reader, writer, 1))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.close()

    async def _pump(self, reader, writer, way: int):
        due = asyncio.Queue(maxsize=256)
        sender = asyncio.ensure_future(self._send(due, writer, way))
        try:
            while True:
                data = await reader.read(65536)
                await due.put((self._loop.time() + self.delay, data))
                if not data:
                    break
            await sender
        finally:
            sender.cancel()

    async def _send(self, due, writer, way: int):
        while True:
            at, data = await due.get()
            if (wait := at - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            while self.frozen:
                await asyncio.sleep(0.01)
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            await self._write(data, writer, way)

    async def _write(self, data, writer, way):
        step = self.split or (max(1, min(len(data), self.rate // 20)) if self.rate else len(data))
        for start in range(0, len(data), step):
            piece = data[start:start + step]
            if self._cut_after is not None and way == 1:
                piece = piece[:self._cut_after]
                self._cut_after -= len(piece)
            writer.write(piece)
            await writer.drain()
            self.passed[way] += len(piece)
            if self._cut_after == 0 and way == 1:
                self._cut_after = None
                self._cut_now(False)
                return
            if self.rate:
                await asyncio.sleep(step / self.rate)
            elif self.split:
                await asyncio.sleep(0)

    def _abort(self, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def _cut_now(self, reset: bool):
        for pair in list(self._pairs):
            for writer in pair:
                if reset:
                    self._abort(writer)
                else:
                    writer.transport.abort()

    def _call(self, function, *arguments):
        done = threading.Event()

        def call():
            function(*arguments)
            done.set()
        self._loop.call_soon_threadsafe(call)
        assert done.wait(PATIENCE)

    def cut(self, reset: bool = False):
        """Ends all connections at both ends; with reset, by RST."""
        self._call(self._cut_now, reset)

    def cut_after(self, count: int):
        """Ends all connections once `count` more bytes have come back from the target."""
        self._cut_after = count

    def close(self):
        def stop():
            self._server.close()
            self._cut_now(False)
            self._loop.call_later(0.05, self._loop.stop)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(stop)
            self._thread.join(PATIENCE)
