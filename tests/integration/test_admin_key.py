"""Another admin key in its file reaches the gateways that run, and ends the one before."""

import asyncio
from pathlib import Path

from tests.integration.conftest import Served
from tests.integration.gateway import ADMIN_KEY, Client, start

OTHER_KEY = "another-key-of-these-tests"


async def accepts(url: str, key: str) -> bool:
    told = await Client(url, key).call("GET", "/v1/accounts")
    assert told.status in {200, 401}
    return told.status == 200


async def test_another_admin_key_is_taken_at_once_and_the_one_before_ends(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "admin_key"
    path.write_text(ADMIN_KEY, encoding="utf-8")
    url = (await asyncio.to_thread(served.stack.gateway, admin_key_file=str(path))).url
    assert await accepts(url, ADMIN_KEY)
    path.write_text("hunter2", encoding="utf-8")
    served.stack.processes[-1].wait_for("admin_key.refused")
    assert await accepts(url, ADMIN_KEY)
    path.write_text(OTHER_KEY, encoding="utf-8")
    served.stack.processes[-1].wait_for("admin_key.replaced")
    assert await accepts(url, OTHER_KEY)
    assert not await accepts(url, ADMIN_KEY)


def test_a_gateway_does_not_start_with_an_admin_key_that_it_would_not_accept(tmp_path: Path) -> None:
    process = start("gateway", tmp_path, {"TELLERLINE_ADMIN_KEY": "hunter2"})
    assert process.started.wait(30) == 2
    told = process.log.read_text(encoding="utf-8")
    assert "TELLERLINE_ADMIN_KEY: value error, a key has 16 to 200 printable ascii characters and no space" in told
    assert "hunter2" not in told
