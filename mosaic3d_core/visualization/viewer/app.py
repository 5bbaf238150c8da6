"""The viewer: a web server that shows a map to several browsers, each with its own query."""

from __future__ import annotations

import atexit
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mosaic3d_core.errors import MissingDependencyError, Mosaic3DError
from mosaic3d_core.query.config import QueryConfig
from mosaic3d_core.visualization.viewer.connections import hang_up, is_own_page
from mosaic3d_core.visualization.viewer.scene import Scene
from mosaic3d_core.visualization.viewer.session import Session, Shown, step_back
from mosaic3d_core.visualization.viewer.view_data import ViewData

if TYPE_CHECKING:
    import viser

MAX_POINTS = 1_000_000
"""Most points that a browser is sent unless told otherwise."""

MAX_VIEWERS = 16
"""Most browsers at a time unless told otherwise: each has a thread and is sent the map."""

_log = logging.getLogger(__name__)


class ViewerError(Mosaic3DError):
    """The viewer cannot be started."""


class MapViewer:
    """Shows the newest map in the browsers that look at its address.

    Nothing that is called waits for a browser: maps are prepared and sent on own threads, and when they come faster than that,
    the newest counts.

    Args:
        port: TCP port, 0 for any free one (``url`` says which).
        host: Address to listen at. The default is seen from this machine only; "0.0.0.0" from all that reach it: there is no
            password, whoever reaches the port sees the map.
        max_points: Most points that a browser is sent, at least 1; of larger maps an even selection.
        max_viewers: Most browsers at a time.
        on_error: Called with unexpected exceptions, from any thread; by default they are logged.

    Raises:
        MissingDependencyError: If viser is not installed.
        ViewerError: If the port cannot be had.
    """

    def __init__(
        self,
        port: int = 8080,
        host: str = "127.0.0.1",
        *,
        max_points: int = MAX_POINTS,
        max_viewers: int = MAX_VIEWERS,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._max_points = max(int(max_points), 1)
        self._max_viewers = max_viewers
        self._on_error = on_error or (lambda error: _log.error("viewer: %s: %s", type(error).__name__, error, exc_info=error))
        self._shown = Shown(None, time.monotonic())
        self._min_score = float(QueryConfig.min_score)
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._fresh = threading.Event()
        self._next: tuple[ViewData | None, float] | None = None
        self._host = host
        self._server = _start_server(host, port)
        self._server.on_client_connect(self._connected)
        self._server.on_client_disconnect(self._disconnected)
        self._builder = threading.Thread(target=self._build, name="viewer-build", daemon=True)
        self._builder.start()
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """Address for a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, f"[{self._host}]" if ":" in self._host else self._host)
        return f"http://{host}:{self._server.get_port()}"

    @property
    def viewers(self) -> int:
        """Browsers that are connected."""
        return len(self._sessions)

    def show(self, data: ViewData | None) -> None:
        """Show a map from now on, None for an empty page. Returns at once, from any thread; the newest wins."""
        self._next = data, time.monotonic()
        self._fresh.set()

    def close(self) -> None:
        """End all connections and threads; harmless when called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        atexit.unregister(self.close)
        self._fresh.set()
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.close(0.0)
        hang_up(self._server)
        with _quiet():
            self._server.stop()
        for session in sessions:
            session.close(0.5)
        self._builder.join(0.5)

    def _build(self) -> None:
        step_back()
        while True:
            self._fresh.wait()
            self._fresh.clear()
            if self._closed.is_set():
                return
            wanted = self._next
            if wanted is None:
                continue
            data, since = wanted
            try:
                self._shown = Shown(None if data is None else Scene(data), since)
            except Exception as error:  # an odd map must not end the viewer
                self._on_error(error)
                continue
            if data is not None:
                self._min_score = data.min_score
            with self._lock:
                sessions = list(self._sessions.values())
            for session in sessions:
                session.wake()

    def _connected(self, client: viser.ClientHandle) -> None:
        if not is_own_page(self._server, client, self._host):
            _log.warning("viewer: a page of another site tried to connect and was shown nothing")
            return
        with self._lock:
            if self._closed.is_set():
                return
            full = len(self._sessions) >= self._max_viewers
            if not full:
                session = Session(client, lambda: self._shown, self._min_score, self._max_points, self._on_error)
                self._sessions[client.client_id] = session
        if full:
            client.gui.add_markdown(f"{self._max_viewers} browsers look at this map already. Close one and load this page again.")
            return
        session.start()

    async def _disconnected(self, client: viser.ClientHandle) -> None:
        """On the server's own thread: at the end of Python its pool of threads takes no more work."""
        with self._lock:
            session = self._sessions.pop(client.client_id, None)
        if session is not None:
            session.close(0.0)


def _start_server(host: str, port: int) -> Any:
    try:
        import viser
    except ImportError as error:
        raise MissingDependencyError("the 3D view needs viser: pip install 'viser>=1.1.1,<1.2' (extra 'viewer')") from error

    class Server(viser.ViserServer):
        """A server that no browser can make public: a page may ask for a tunnel through a site on the internet."""

        def request_share_url(self, verbose: bool = True) -> None:
            """Refuse."""
            _log.warning("viewer: a browser asked to share the map on the internet; that is switched off")

    if not 0 <= port <= 65535:
        raise ViewerError(f"the port must lie between 0 and 65535, got {port}")
    _check_free(host, port)
    # A browser that leaves while it is being sent something is nothing to worry about.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection", category=UserWarning)
    with _quiet():
        server = Server(host=host, port=port, verbose=False)
    if port and server.get_port() != port:  # taken in this very moment; it went on to the next ones
        server.stop()
        raise ViewerError(f"port {port} of {host} is in use; choose another one, or end the program that has it")
    server.scene.world_axes.visible = False
    return server


def _check_free(host: str, port: int) -> None:
    """The server would try one port after the other, and wait forever for an address that is not ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ViewerError(f"{host!r} is no address of this machine; give 127.0.0.1, 0.0.0.0 or one it has") from error
    except PermissionError as error:
        raise ViewerError(f"port {port} may not be used by this user; choose one above 1023") from error
    except OSError as error:
        if error.errno == 98:
            raise ViewerError(f"port {port} of {host} is in use; choose another one, or end the program that has it") from error
        raise ViewerError(
            f"cannot listen at {host}, port {port} ({error.strerror}); is it an address of this machine?"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep viser's greeting off the terminal; our programs say themselves where the page is."""
    import rich

    terminal = rich.get_console()
    before, terminal.quiet = terminal.quiet, True
    try:
        yield
    finally:
        terminal.quiet = before
