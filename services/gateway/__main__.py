"""`python -m services.gateway` serves until it is asked to stop; with `openapi` it prints the API document instead."""

import asyncio
import sys

from services.gateway.api.openapi import document_bytes
from services.gateway.app import ROUTES, run
from services.gateway.settings import GatewaySettings
from shared.runtime.logs import configure_logs
from shared.runtime.service import run_service


def main() -> None:
    """Entry point."""
    if sys.argv[1:] == ["openapi"]:
        sys.stdout.buffer.write(document_bytes(ROUTES))
        return
    settings = GatewaySettings.load_or_exit()
    configure_logs("gateway", settings.log_format, settings.log_level)

    async def serve(stop: asyncio.Event) -> None:
        await run(settings, stop)

    run_service(serve)


if __name__ == "__main__":
    main()
