"""The page over HTTP: for this machine alone, and for who has its address.

The server listens on 127.0.0.1. Every path begins with a token that is drawn anew each time, and
the host asked for has to be this machine, so that no other page in the browser can reach it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from bgan_video.errors import UserError
from bgan_video.labelling.answers import ConflictError
from bgan_video.labelling.desk import Desk
from bgan_video.video.reader import BrokenVideo

HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page.html")
# Nothing from elsewhere; the page's own style and script stand in it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def application(desk: Desk, token: str) -> Starlette:
    """The page and what it asks for.

    Args:
        desk: The work.
        token: That every path begins with.
    """

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_HEADERS)

    async def state(request: Request) -> Response:
        return await _told(lambda: None, desk, request.query_params.get("path"))

    async def answer(request: Request) -> Response:
        body = await request.json()
        path, given, before = (str(body[key]) for key in ("path", "given", "before"))
        shown = path if not given else None  # a video whose answer is taken back is shown again
        return await _told(lambda: desk.answer(path, given, before), desk, shown)

    async def add_class(request: Request) -> Response:
        body = await request.json()
        return await _told(lambda: desk.add_class(str(body["name"])), desk, body.get("path"))

    def acting(act: Callable[[], None]) -> Callable[[Request], Any]:
        async def endpoint(_: Request) -> Response:
            return await _told(act, desk)

        return endpoint

    async def picture(request: Request) -> Response:
        try:
            made = await run_in_threadpool(desk.strip, request.query_params["path"])
        except (KeyError, BrokenVideo) as error:
            return Response(str(error), status_code=404, media_type="text/plain")
        size = {"X-Frame-Width": str(made.width), "X-Frame-Height": str(made.height)}
        return Response(made.jpeg, media_type="image/jpeg", headers=_HEADERS | size)

    routes = [
        Route("/", page),
        Route("/state", state),
        Route("/strip", picture),
        Route("/answer", answer, methods=["POST"]),
        Route("/class", add_class, methods=["POST"]),
        Route("/more", acting(desk.more), methods=["POST"]),
        Route("/train", acting(desk.train), methods=["POST"]),
        Route("/next", acting(desk.next_round), methods=["POST"]),
    ]
    return Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


async def _told(act: Callable[[], None], desk: Desk, path: str | None = None) -> Response:
    """Do something, and tell how things stand then."""
    status, problem = 200, None
    try:
        await run_in_threadpool(act)
    except ConflictError as error:
        status, problem = 409, str(error)
    except UserError as error:
        status, problem = 400, str(error)
    except KeyError:
        status, problem = 409, "this video is not asked for any more"
    shown = await run_in_threadpool(desk.state, path)
    return JSONResponse(shown | {"problem": problem}, status, headers=_HEADERS)


def check_port(port: int) -> None:
    """Raises UserError where the port is taken, or none."""
    with _bound(port):
        pass


@contextmanager
def _bound(port: int) -> Generator[socket.socket, None, None]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((HOST, port))
        except OverflowError:
            raise UserError(f"--port={port}; allowed: 0..65535, 0 for a free one") from None
        except OSError as error:
            raise UserError(
                f"--port={port}: {error.strerror}; leave it out for a free one"
            ) from None
        yield listening


def serve(desk: Desk, port: int, say: Callable[[str], None]) -> None:
    """Show the page until Ctrl-C.

    Args:
        desk: The work.
        port: To listen on; 0 for a free one.
        say: Gets the address.

    Raises:
        UserError: As `check_port`.
    """
    with _bound(port) as listening:
        token = secrets.token_urlsafe(16)
        say(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        say(f"answers go to {desk.file}; Ctrl-C ends the page, and nothing is lost")
        config = uvicorn.Config(application(desk, token), log_level="warning", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
