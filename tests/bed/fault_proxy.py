"""A TCP proxy between two services that loses, delays and breaks connections on demand."""

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

#: Most bytes that are forwarded at once.
CHUNK = 65_536

#: Value of ``SO_LINGER`` with which a close sends a reset (``struct linger``: on, 0 seconds).
RESET = struct.pack("ii", 1, 0)

#: First line of a request; HTTP clients send it in one piece.
REQUEST = re.compile(rb"([A-Z]+) \S+ HTTP/1\.[01]\r\n")

#: Start of the interim answer to ``Expect: 100-continue``, which is not the answer to the request.
CONTINUE = b"HTTP/1.1 100 "

#: One of the two streams of a connection.
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
        """Return how many of the next bytes may pass before the connection breaks."""
        if self.break_after is None or direction != self.direction:
            return length
        return min(length, self.break_after - self.passed[direction])


class FaultProxy:
    """
    Listens on loopback and forwards connections to its targets in turn, skipping targets that do not answer.

    It serves from its own thread, so that tests can inject faults at any time. A fault is active when the
    call returns; :meth:`heal` ends all faults.

    :param name: Its name in messages.
    :param targets: Ports of loopback to which it forwards.
    :param port: Port on which it listens; 0 for any free one.
    """

    def __init__(self, name: str, targets: Sequence[int], port: int = 0) -> None:
        self.name = name
        self.targets = list(targets)
        #: Number of connections since the start.
        self.accepted = 0
        self._delay = 0.0
        self._breaks: list[tuple[int, Direction]] = []
        self._answers: list[tuple[bytes, str | None]] = []
        self._answers_before_loss: int | None = None
        self._turns = count()
        self._connections: set[_Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {name}", daemon=True)
        self._thread.start()
        #: Port on which it listens.
        self.port: int = self._run(self._listen(port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Forward nothing on old and new connections, like an unplugged cable."""
        self._run(self._set_flowing(False))

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, like a host whose server has died."""
        self._run(self._refuse())

    def delay(self, seconds: float) -> None:
        """
        Delay the data of both directions.

        :param seconds: Delay of each piece of up to 64 KiB.
        """
        self._delay = seconds

    def reset_all(self) -> None:
        """Reset all current connections; new ones are served."""
        self._run(self._abort_all())

    def reset_next(self, *, after: int = 0, direction: Direction = "to_client", times: int = 1) -> None:
        """
        Reset the next connections in mid-stream.

        :param after: Bytes that each connection forwards before the reset.
        :param direction: Stream whose bytes count: ``to_client`` breaks answers, ``to_server`` uploads.
        :param times: Number of connections.
        """
        self._breaks += [(after, direction)] * times

    def answer_next(
        self, status: str, body: str = "", *, method: str | None = None, times: int = 1, headers: str = ""
    ) -> None:
        """
        Answer the next HTTP requests instead of the server, and close their connections.

        :param status: Status code and reason, such as ``503 Slow Down``.
        :param method: Answer only requests with this method.
        :param times: Number of requests.
        :param headers: Further header lines, each with ``\\r\\n``.
        """
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n{body}"
        )
        self._answers += [(answer.encode(), method)] * times

    def lose_answer(self, after: int = 0) -> None:
        """
        Forward an HTTP request, and reset its connection instead of returning the answer.

        :param after: Number of requests that are answered before.
        """
        self._answers_before_loss = after

    def heal(self) -> None:
        """End all faults. Data that :meth:`cut` held back is forwarded; reset connections stay closed."""
        self._delay = 0.0
        self._breaks.clear()
        self._answers.clear()
        self._answers_before_loss = None
        self._run(self._heal())

    def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._loop.is_closed():
            return
        self._run(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
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
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _heal(self) -> None:
        self._flowing.set()
        if self._server is None:
            await self._listen(self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            # While the network is cut, the server must not see the connection either.
            await self._flowing.wait()
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):  # asyncio's server would print our own cancellation
            writer.transport.abort()
        finally:
            self._serving.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raise ConnectionRefusedError(f"{self.name}: no target answers")
        connection = _Connection(writer, upstream[1])
        if self._breaks:
            connection.break_after, connection.direction = self._breaks.pop(0)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(reader, upstream[1], "to_server", connection),
                self._pump(upstream[0], writer, "to_client", connection),
            )
            for each in (writer, upstream[1]):
                each.close()  # asyncio sends what is still buffered first
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
            if direction == "to_server" and (answer := self._take_answer(data)):
                await _drain_request(data, reader)
                connection.client.write(answer)
                connection.server.close()
                return
            if direction == "to_server" and REQUEST.match(data):
                connection.answer_is_lost = self._loses_next_answer()
            if direction == "to_client" and connection.answer_is_lost and not data.startswith(CONTINUE):
                connection.abort()
                raise ConnectionResetError(f"{self.name}: answer lost on demand")
            allowed = connection.allowance(direction, len(data))
            writer.write(data[:allowed])
            await writer.drain()
            connection.passed[direction] += allowed
            if allowed < len(data):
                connection.abort()
                raise ConnectionResetError(f"{self.name}: connection broken on demand")
        if writer.can_write_eof():
            writer.write_eof()

    def _loses_next_answer(self) -> bool:
        left = self._answers_before_loss
        self._answers_before_loss = left - 1 if left else None
        return left == 0

    def _take_answer(self, data: bytes) -> bytes | None:
        request = REQUEST.match(data) if self._answers else None
        if request is None:
            return None
        for index, (answer, method) in enumerate(self._answers):
            if method in (None, request[1].decode()):
                del self._answers[index]
                return answer
        return None


async def _drain_request(data: bytes, reader: asyncio.StreamReader) -> None:
    """Read the rest of a request: a client that is still sending would get a reset instead of the answer."""
    while b"\r\n\r\n" not in data and (more := await reader.read(CHUNK)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    # After ``Expect: 100-continue``, the client does not send its body if the answer is another one.
    left = int(length[1]) - len(body) if length and b"100-continue" not in head.lower() else 0
    while left > 0 and (more := await reader.read(CHUNK)):
        left -= len(more)
