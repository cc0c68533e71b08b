"""Its release, at once or line by line."""

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

release = Path("VERSION").read_text().strip()


async def info(request):
    return PlainTextResponse(release)


async def slow(request):
    async def lines():
        for _ in range(15):
            yield f"{release}\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(lines(), media_type="text/plain")


app = Starlette(routes=[Route("/info", info), Route("/slow", slow)])
