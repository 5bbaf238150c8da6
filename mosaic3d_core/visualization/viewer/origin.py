"""Whether a connection comes from the viewer's own page.

Browsers let any web page open a WebSocket to 127.0.0.1. Without this check a page of another site, open in the same
browser, could read the map.
"""

from __future__ import annotations

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
    """:func:`may_connect` for a connected browser; False when its request cannot be looked up."""
    connections = server._websock_server._live_connections  # viser has no public way to the request's headers
    connection = connections.get(client.client_id)
    if connection is None or connection.request is None:
        return False
    headers = connection.request.headers
    return may_connect(headers.get("Origin"), headers.get("Host"), bound_to)
