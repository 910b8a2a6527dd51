"""The way into the dashboard: a form for the key, and the cookie that keeps it. What the form looks like needs no key.

The cookie holds the key itself, out of the reach of scripts and of other sites' pages: it ends with the browser, and
opens nothing once the key is revoked. There is no second secret that would have to be kept, ended and guarded.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from api.body import chunks
from api.callers import COOKIE, refuse_other_sites
from api.dashboard import rendering
from api.deps import WholeDep
from api.router import Router
from services.errors import NotFound

router = Router(include_in_schema=False)

# A key has 61 characters.
MAX_FORM_BYTES = 1024


@router.get("/ui/login")
async def login_page(request: Request) -> Response:
    return await run_in_threadpool(rendering.page, request, "login.html", refused=False)


@router.post("/ui/login")
async def log_in(request: Request, parts: WholeDep) -> Response:
    refuse_other_sites(request, by_cookie=False)
    body = b"".join([chunk async for chunk in chunks(request, MAX_FORM_BYTES)])
    key = parse_qs(body.decode("latin-1"), max_num_fields=5).get("key", [""])[0].strip()
    known = await parts.callers.whose(key)
    if known is None or "read" not in known.scopes:
        return await run_in_threadpool(rendering.page, request, "login.html", 401, refused=True)
    entered = RedirectResponse("/", 303)
    # A proxy in front may speak https while we don't: the browser says what it speaks.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    entered.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=secure, path="/")
    return entered


@router.post("/ui/logout")
async def log_out(request: Request) -> Response:
    refuse_other_sites(request, by_cookie=True)
    left = RedirectResponse("/ui/login", 303)
    left.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return left


@router.get("/ui/static/{name}")
def static_file(name: str, request: Request) -> Response:
    found = rendering.static(request, name)
    if found is None:
        raise NotFound("file")
    return found


@router.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """Browsers ask for it wherever they are."""
    return static_file("icon.svg", request)
