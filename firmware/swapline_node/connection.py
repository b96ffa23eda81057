"""Connections: names to addresses, and TCP (or TLS) streams that are closed whatever happens to them.

MicroPython's `asyncio.open_connection` forgets the socket of an attempt that fails or is cancelled, and a stream's
`close` does nothing: on the unix port every attempt would keep a file for ever (measured: one each, 1024 are allowed).
"""

import asyncio
import errno
import select
import socket

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_LOOK_MS = const(20)


async def resolve(host: str, port: int) -> "tuple[int, Any]":
    """Return family and address of a name. Blocks for as long as the resolver takes. Raises OSError."""
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    return found[0], found[-1]


async def open_stream(family: int, address: "Any", *, context: "Any" = None, server_hostname: str = "") -> "Any":
    """Connect and return an asyncio stream that reads and writes; with a TLS `context`, encrypted. Raises OSError.

    Close it with `close_stream`. It waits for as long as the kernel tries: put a time limit around it.
    """
    connection: "Any" = socket.socket(family, socket.SOCK_STREAM)
    is_open = False
    try:
        connection.setblocking(False)
        await _connect(connection, address)
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname=server_hostname, do_handshake_on_connect=False)
            connection.setblocking(False)
        is_open = True
    finally:
        if not is_open:
            connection.close()
    return asyncio.StreamReader(connection)


def close_stream(stream: "Any") -> None:
    """Close the stream's socket."""
    stream.s.close()


async def _connect(connection: "Any", address: "Any") -> None:
    try:
        connection.connect(address)
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            raise
    room = select.poll()
    room.register(connection, select.POLLOUT)
    while not room.poll(0):  # noqa: ASYNC110 - there is no event before the stream exists
        await asyncio.sleep(_LOOK_MS / 1000)
