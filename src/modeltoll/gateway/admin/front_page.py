"""The front page of the admin address: a list of what is there, as HTML for browsers and as JSON for everything else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from modeltoll.gateway.admin.security_headers import with_security_headers

__all__ = ["AdminPlace", "front_page"]

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <title>Modeltoll: admin address</title>
    <link rel="stylesheet" href="{style}" />
  </head>
  <body>
    <header><h1>Admin address of a Modeltoll gateway</h1></header>
    <main>
      <ul>
{items}
      </ul>
    </main>
  </body>
</html>
"""


@dataclass(frozen=True, slots=True)
class AdminPlace:
    """One thing at the admin address: its path, and what it is, in one sentence."""

    path: str
    what: str


def front_page(places: Sequence[AdminPlace], style: str) -> Route:
    """The route ``/``. ``style`` is the path of a style sheet at the same address."""
    item = '        <li><a href="{path}">{path}</a>: {what}</li>'
    items = "\n".join(item.format(path=html.escape(each.path), what=html.escape(each.what)) for each in places)
    page = _PAGE.format(style=html.escape(style), items=items)
    listed = {"places": [asdict(each) for each in places]}

    async def serve(request: Request) -> Response:
        wanted = "text/html" in request.headers.get("accept", "")
        response = HTMLResponse(page) if wanted else JSONResponse(listed)
        response.headers["vary"] = "Accept"
        return with_security_headers(response, _POLICY)

    return Route("/", serve)
