"""The connections below viser: whose they are, and ending them.

The one place that uses parts of viser that are not public.
Browsers let any web page open a WebSocket to 127.0.0.1. Without the check of the origin a page of another site, open in the same
browser, could read the map.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import viser

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def may_connect(origin: str | None, host_header: str | None, bound_to: str) -> bool:
    """Whether a page may connect.

    Args:
        origin: Origin header of the request: the site whose page asks; None where no browser asks.
        host_header: Host header: the address that was asked.
        bound_to: Address that the server listens at.

    Returns:
        True for programs without an origin, and for pages that this server has served. On a loopback address the name must be
        a loopback one, too: a foreign name can be made to point to 127.0.0.1.
    """
    if origin is None:
        return True
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"//{host_header or ''}")
        same = page.hostname is not None and (page.hostname, page.port or 80) == (asked.hostname, asked.port or 80)
    except ValueError:
        return False
    if bound_to in _LOOPBACK:
        return same and page.hostname in _LOOPBACK
    return same


def is_own_page(server: viser.ViserServer, client: viser.ClientHandle, bound_to: str) -> bool:
    """:func:`may_connect` for a connected browser; False when it is gone already."""
    connection = server._websock_server._live_connections.get(client.client_id)
    if connection is None or connection.request is None:
        return False
    headers = connection.request.headers
    return may_connect(headers.get("Origin"), headers.get("Host"), bound_to)


def hang_up(server: viser.ViserServer) -> None:
    """Cut all connections while the server stops; call it right before.

    The server would wait for them: for the goodbye of a busy browser, and ten seconds for connections that browsers open in
    advance and never use.
    """
    loop = server.get_event_loop()

    def cut() -> None:
        for connection in tuple(server._websock_server._live_connections.values()):
            connection.transport.abort()
        for task in asyncio.all_tasks(loop):
            if getattr(task.get_coro(), "__qualname__", "") == "Server.conn_handler":
                task.cancel()

    def cut_now_and_soon() -> None:
        cut()
        for seconds in (0.05, 0.2, 0.5):  # until the server has closed its door, browsers come back at once
            loop.call_later(seconds, cut)

    loop.call_soon_threadsafe(cut_now_and_soon)
