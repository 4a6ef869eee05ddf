"""A TCP proxy between two services that loses, slows and breaks connections when told to."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

from airflow_provider_vocalsep.demo.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

#: Bytes that are passed on at once.
CHUNK = 65_536

#: Closes with a reset instead of a farewell (``struct linger``: on, for no time).
RESET = struct.pack("ii", 1, 0)

#: The start of a request, as HTTP clients send it: in one piece.
REQUEST = re.compile(rb"([A-Z]+) \S+ HTTP/1\.[01]\r\n")

#: What a server says before it has the whole of a request: no answer to it.
GO_ON = b"HTTP/1.1 100 "

#: Which of the two streams of a connection.
Direction = Literal["to_server", "to_client"]


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    break_after: int | None = None
    direction: Direction = "to_client"
    passed: dict[Direction, int] = field(default_factory=lambda: {"to_server": 0, "to_client": 0})
    answer_is_lost: bool = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    def allowance(self, direction: Direction, length: int) -> int:
        """Return how many bytes may pass before the connection is to break."""
        if self.break_after is None or direction != self.direction:
            return length
        return min(length, self.break_after - self.passed[direction])


class FaultProxy:
    """
    Listens on loopback and passes connections on, in turn to each of its targets that answers.

    It serves from a thread of its own, so that tests and soaks can switch faults at any time; each switch holds when
    the call returns, and :meth:`heal` ends them all.

    :param name: What messages call it.
    :param targets: Ports of loopback behind it.
    :param port: Where to listen; 0 for any free port.
    """

    def __init__(self, name: str, targets: Sequence[int], port: int = 0) -> None:
        self.name = name
        self.targets = list(targets)
        #: Connections since the start.
        self.accepted = 0
        self._delay = 0.0
        self._breaks: list[tuple[int, Direction]] = []
        self._answers: list[tuple[bytes, str | None]] = []
        self._answered_before_one_is_lost: int | None = None
        self._turns = count()
        self._connections: set[_Connection] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {name}", daemon=True)
        self._thread.start()
        #: Where it listens.
        self.port: int = self._do(self._listen(port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Pass nothing on, old connections and new, as a network does whose cable is out."""
        self._do(self._set_flowing(False))

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a host does whose server has died."""
        self._do(self._refuse())

    def delay(self, seconds: float) -> None:
        """
        Hold back all that passes, in both directions.

        :param seconds: For how long each piece of up to 64 kB.
        """
        self._delay = seconds

    def reset_all(self) -> None:
        """Reset the connections that there are; new ones are served."""
        self._do(self._abort_all())

    def reset_next(self, *, after: int = 0, direction: Direction = "to_client", times: int = 1) -> None:
        """
        Reset the next connections in mid-stream.

        :param after: Bytes that each may pass on before.
        :param direction: Which stream's bytes count: ``to_client`` breaks answers and downloads, ``to_server`` uploads.
        :param times: How many connections.
        """
        self._breaks += [(after, direction)] * times

    def answer_next(
        self, status: str, body: str = "", *, method: str | None = None, times: int = 1, headers: str = ""
    ) -> None:
        """
        Answer the next HTTP requests in the server's place, and close their connections.

        :param status: Status line, ``503 Slow Down``.
        :param body: Body.
        :param method: Only requests of this method.
        :param times: How many requests.
        :param headers: More header lines, each with its end of line.
        """
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n{body}"
        )
        self._answers += [(answer.encode(), method)] * times

    def lose_answer(self, after: int = 0) -> None:
        """
        Pass an HTTP request on, and reset its connection in place of the answer.

        :param after: How many requests are answered before.
        """
        self._answered_before_one_is_lost = after

    def heal(self) -> None:
        """End all faults. What a cut held back goes on; connections that were reset stay so."""
        self._delay = 0.0
        self._breaks.clear()
        self._answers.clear()
        self._answered_before_one_is_lost = None
        self._do(self._heal())

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._loop.is_closed():
            return
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self, port: int) -> int:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _set_flowing(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._abort_all()
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _heal(self) -> None:
        self._flowing.set()
        if self._server is None:
            await self._listen(self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            # A cut network does not even get the connection through; the client thinks otherwise only
            # because it speaks to us.
            await self._flowing.wait()
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):  # the latter is ours: asyncio's server would print it
            writer.transport.abort()
        finally:
            self._pumps.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raise ConnectionRefusedError(f"{self.name}: nobody is there")
        connection = _Connection(writer, upstream[1])
        if self._breaks:
            connection.break_after, connection.direction = self._breaks.pop(0)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(reader, upstream[1], "to_server", connection),
                self._pump(upstream[0], writer, "to_client", connection),
            )
            for ended in (writer, upstream[1]):
                ended.close()  # once all that was written is sent
        except (OSError, asyncio.CancelledError):
            upstream[1].transport.abort()
            raise
        finally:
            self._connections.discard(connection)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = next(self._turns)
        for step in range(len(self.targets)):
            target = self.targets[(first + step) % len(self.targets)]
            with suppress(OSError):
                return await asyncio.open_connection(LOOPBACK, target)
        return None

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        connection: _Connection,
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            if direction == "to_server" and (answer := self._answer_to(data)):
                await _read_request(data, reader)
                connection.client.write(answer)
                connection.server.close()
                return
            if direction == "to_server" and REQUEST.match(data):
                connection.answer_is_lost = self._is_to_be_lost()
            if direction == "to_client" and connection.answer_is_lost and not data.startswith(GO_ON):
                connection.abort()
                raise ConnectionResetError(f"{self.name}: an answer lost on purpose")
            allowed = connection.allowance(direction, len(data))
            writer.write(data[:allowed])
            await writer.drain()
            connection.passed[direction] += allowed
            if allowed < len(data):
                connection.abort()
                raise ConnectionResetError(f"{self.name}: broken on purpose")
        if writer.can_write_eof():
            writer.write_eof()

    def _is_to_be_lost(self) -> bool:
        left = self._answered_before_one_is_lost
        self._answered_before_one_is_lost = left - 1 if left else None
        return left == 0

    def _answer_to(self, data: bytes) -> bytes | None:
        request = REQUEST.match(data) if self._answers else None
        if request is None:
            return None
        for place, (answer, method) in enumerate(self._answers):
            if method in (None, request[1].decode()):
                del self._answers[place]
                return answer
        return None


async def _read_request(data: bytes, reader: asyncio.StreamReader) -> None:
    """Take in the rest of a request: a client that is still sending would see a reset instead of the answer."""
    while b"\r\n\r\n" not in data and (more := await reader.read(CHUNK)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    # A client that asked whether to send its body sends none after another answer.
    left = int(length[1]) - len(body) if length and b"100-continue" not in head.lower() else 0
    while left > 0 and (more := await reader.read(CHUNK)):
        left -= len(more)
