"""The admin key of a running gateway, which may be kept in a file."""

import asyncio
from pathlib import Path

import structlog

from services.gateway.http.auth import Keychain
from shared.domain.api_keys import KEY_RULE, KEY_TEXT

log = structlog.get_logger()


async def follow_admin_key(keys: Keychain, path: Path, current: str | None, *, every_s: float) -> None:
    """Reads the file every `every_s` seconds; another key in it replaces the admin key. Runs until cancelled.

    A file that is missing or holds no valid key changes nothing: it may be about to be written.
    """
    seen = current
    while True:
        text = await asyncio.to_thread(_text, path)
        if text is not None and text != seen:
            seen = text
            if KEY_TEXT.fullmatch(text):
                keys.replace_admin_key(text)
                log.info("admin_key.replaced", path=str(path))
            else:
                log.warning("admin_key.refused", path=str(path), why=KEY_RULE)
        await asyncio.sleep(every_s)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
