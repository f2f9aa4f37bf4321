"""Voilà for a class: a kernel a visitor, not more than so many, none that is idle for long.

What a visitor's browser may do is little: it sends messages to its own widgets, runs
no code of its own, reads no file, and loads nothing from any other machine.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
from jupyter_core.utils import run_sync
from jupyter_server._tz import utcnow
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from traitlets import Float, Integer
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

#: Our page.html and error pages, looked for before Voilà's own, which load fonts from a CDN.
TEMPLATES = Path(__file__).parents[1] / "lab" / "live" / "voila"
#: What draws widgets; other JupyterLab extensions of the machine have no place on the page.
EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8",
              "anywidget"]  # fmt: skip
#: Seconds until a full page tries again by itself.
RETRY_AFTER = 10
#: Twelve kernels that start at the same time on two cores take a while, s.
START_TIMEOUT = 300
#: A kernel that uses more than this share of a core is not idle. One that waits uses 0.0002.
BUSY = 0.02
#: Each kernel would otherwise warn of sockets that only this user can use.
QUIET = ["--log-level=ERROR"]
#: The browser itself refuses what a widget would load from elsewhere. Widgets' modules come as
#: blobs and evaluate templates.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)


#: The page that a kernel is started for.
PAGE: ContextVar[PageHandler | None] = ContextVar("page", default=None)


class Full(Exception):
    """There is no place for one more visitor."""


class Left(Exception):
    """The visitor has left while their kernel was being started."""


class VisitorKernels(AsyncMappingKernelManager):
    """A kernel a visitor, each in a directory of its own, up to a limit."""

    visitors = Integer(12, config=True, help="At most so many kernels at a time.")
    patience = Float(60.0, config=True, help="Seconds that a kernel waits for a lost browser.")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Kernels that start or run. One that is being ended has given its place away.
        self._places: set[str] = set()
        #: For kernels without a browser: the timer that will end them.
        self._alone: dict[str, object] = {}
        #: When a kernel was looked at last, and the CPU time that it had used, both in seconds.
        self._used: dict[str, tuple[float, float]] = {}

    async def start_kernel(self, **options: Any) -> str:
        """Start a kernel for a page, or whoever else asks.

        Raises:
            Full: if there is no place, which is known before anything is awaited.
            Left: if `shutdown_kernel` was called in the meantime.
        """
        if len(self._places) >= self.visitors:
            raise Full
        kernel_id = self.new_kernel_id(**options)
        self._places.add(kernel_id)
        page = PAGE.get()
        if page is not None:
            page.kernel_id = kernel_id
        try:
            self._directory(kernel_id).mkdir()
            options |= {"kernel_id": kernel_id, "path": kernel_id, "extra_arguments": QUIET}
            started = await super().start_kernel(**options)
        except BaseException:
            self._places.discard(kernel_id)
            raise
        if kernel_id not in self._places:
            await super().shutdown_kernel(kernel_id, now=True)
            raise Left
        self._wait_for_browser(kernel_id, START_TIMEOUT)
        return started

    async def shutdown_kernel(
        self, kernel_id: str, now: bool = True, restart: bool = False
    ) -> None:
        """End a kernel at once: nothing of a visitor's is kept. Nothing if it is being ended."""
        # A tab that closes says so twice, before it is hidden and when it is.
        if kernel_id in self._places:
            self._places.remove(kernel_id)
            self._stop_waiting(kernel_id)
            if kernel_id in self:  # else it is being started, and ended as soon as it has
                await super().shutdown_kernel(kernel_id, now=True)

    def notify_connect(self, kernel_id: str) -> None:
        """A browser has come, or come back."""
        super().notify_connect(kernel_id)
        self._stop_waiting(kernel_id)
        if kernel_id in self._places:
            self._kernels[kernel_id].last_activity = utcnow()

    def notify_disconnect(self, kernel_id: str) -> None:
        """A browser has gone: if it was not closed, it may come back soon."""
        super().notify_disconnect(kernel_id)
        if kernel_id in self._places and not self._kernel_connections[kernel_id]:
            self._wait_for_browser(kernel_id, self.patience)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel whose widgets have long said nothing, and that does not work either."""
        if kernel_id not in self._places or kernel_id in self._alone:
            return  # one that waits for a browser has a time of its own
        # Widgets say nothing while a run loads its teacher, which can take a while where
        # twelve do so at once.
        now, used = monotonic(), self._cpu_seconds(kernel_id)
        since, before = self._used.get(kernel_id, (now, used))
        self._used[kernel_id] = now, used
        if used - before > BUSY * (now - since):
            self._kernels[kernel_id].last_activity = utcnow()
        await super().cull_kernel_if_idle(kernel_id)

    def _cpu_seconds(self, kernel_id: str) -> float:
        try:
            times = psutil.Process(self._kernels[kernel_id].provisioner.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0  # it died this moment; a process that is gone does not work
        return times.user + times.system

    def _wait_for_browser(self, kernel_id: str, seconds: float) -> None:
        self._stop_waiting(kernel_id)
        self._alone[kernel_id] = IOLoop.current().call_later(
            seconds, self.shutdown_kernel, kernel_id
        )

    def _stop_waiting(self, kernel_id: str) -> None:
        timer = self._alone.pop(kernel_id, None)
        if timer is not None:
            IOLoop.current().remove_timeout(timer)

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel that has ended, and what it wrote."""
        self._places.discard(kernel_id)
        self._stop_waiting(kernel_id)
        self._used.pop(kernel_id, None)
        try:
            shutil.rmtree(self._directory(kernel_id))
        except OSError as error:
            self.log.error("what a visitor wrote stays until the end: %s", error)
        return super().remove_kernel(kernel_id)

    def _directory(self, kernel_id: str) -> Path:
        return Path(self.root_dir) / kernel_id


class TokenOnly(IdentityProvider):
    """The token opens the page; there is no form to type it into, and no password to set."""

    def get_handlers(self) -> list[tuple[str, type]]:
        """No addresses for logging in and out."""
        return []


class PageHandler(TornadoVoilaHandler):
    """The page itself: starts a kernel, or says why not."""

    #: Of the kernel that this very page was given, once it has been.
    kernel_id: str | None = None
    _gone = False

    def on_connection_close(self) -> None:
        """The visitor does not wait for the rest."""
        self._gone = True
        if self.kernel_id is not None:
            IOLoop.current().add_callback(self.kernel_manager.shutdown_kernel, self.kernel_id)

    def get_login_url(self) -> str:
        """There is no form: 403."""
        raise web.HTTPError(403)

    async def get(self, path: str = "") -> None:
        """Show the page to a visitor who has the token."""
        if path:
            raise web.HTTPError(404)
        # Sets a cookie that the browser sends back to end its kernel.
        _ = self.xsrf_token
        PAGE.set(self)
        try:
            async with aclosing(self.get_generator(path)) as parts:
                async for part in parts:
                    # Voilà itself goes on for ever where the kernel ended while it started.
                    if self._gone:
                        break
                    self.write(part)
                    self.flush()
        except Left:
            return
        except Full:
            self.set_status(503)
            self.set_header("Retry-After", RETRY_AFTER)
            visitors = self.kernel_manager.visitors
            self.finish(self.render_template("full.html", visitors=visitors, seconds=RETRY_AFTER))


class Page(Voila):
    """Voilà on sockets that are open already, without any configuration file.

    Args:
        sockets: to listen on.
        when_ready: is called once, when the page can be opened.
        config: of Voilà.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], when_ready: Callable[[], None], config: Config
    ) -> None:
        super().__init__(config=config, config_file_paths=[])
        self._sockets, self._when_ready = list(sockets), when_ready

    def setup_template_dirs(self) -> None:
        """Ours first."""
        super().setup_template_dirs()
        self.template_paths.insert(0, str(TEMPLATES))

    def init_handlers(self) -> list[tuple]:
        """Voilà's, with our page in place of its own."""
        return [
            (pattern, PageHandler if handler is TornadoVoilaHandler else handler, *rest)
            for pattern, handler, *rest in super().init_handlers()
        ]

    def listen(self) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        HTTPServer(self.app).add_sockets(self._sockets)
        self.ioloop = IOLoop.current()
        self.ioloop.add_callback(self._when_ready)
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            self.log.info("stopped")
        finally:
            self.stop()

    def stop(self) -> None:
        """End all kernels at once."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)


def serve(
    notebook: Path,
    sockets: Sequence[socket.socket],
    token: str,
    *,
    most: int,
    idle: float,
    only_here: bool,
    when_ready: Callable[[], None],
) -> None:
    """Serve a notebook as a page until Ctrl-C or SIGTERM.

    Args:
        notebook: in a directory of its own; visitors' kernels write next to it.
        sockets: bound and listening.
        token: what lets a visitor in.
        most: visitors at a time.
        idle: seconds without a message from a kernel's widgets until it is closed.
        only_here: whether only this machine may name the page's address.
        when_ready: is called once, when the page can be opened.
    """
    settings = {
        "Voila": {
            "notebook_path": str(notebook),
            "root_dir": str(notebook.parent),
            "connection_dir_root": str(notebook.parent),
            "token": token,
            "identity_provider_class": TokenOnly,
            "log_level": "ERROR",
            "tornado_settings": {
                # A name that somebody else's server gives to 127.0.0.1 is refused.
                "allow_remote_access": not only_here,
                "headers": {"Content-Security-Policy": CONTENT_POLICY},
                "log_function": _log,
            },
        },
        "VoilaConfiguration": {
            "multi_kernel_manager_class": VisitorKernels,
            "file_allowlist": [],
            "extension_allowlist": EXTENSIONS,
            "allow_template_override": "NO",
            "allow_theme_override": "NO",  # the page sees to it itself
        },
        "VoilaExecutor": {
            "startup_timeout": START_TIMEOUT,
            "cell_error_instruction": "Reload the page; what went wrong stands in the terminal "
            "that serves it.",
        },
        "VisitorKernels": {
            "visitors": most,
            "cull_idle_timeout": max(1, round(idle)),
            "cull_interval": max(1, min(30, round(idle / 4))),
            # An open tab that nobody uses holds a place like any other.
            "cull_connected": True,
        },
    }
    page = Page(sockets, when_ready, Config(settings))
    page.initialize([])
    page.start()


def _log(handler: web.RequestHandler) -> None:
    """Only what went wrong here; and never the query, which has the token."""
    status = handler.get_status()
    if status >= 500 and status != 503:
        request = handler.request
        handler.log.error("%d %s %s", status, request.method, request.path)
