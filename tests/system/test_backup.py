"""A data dir may be moved, and a backup that was made under load is a ledger of its own beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.client import client_of, fresh_key
from tests.system.load import ACCOUNTS, FUNDS, load, running, sound, total
from tests.system.stack import UP_MAX_S, Stack, tellerline


@pytest.fixture
def started() -> Iterator[list[Stack]]:
    """What to take down afterwards."""
    started: list[Stack] = []
    yield started
    for stack in started:
        stack.down()


async def test_a_backup_under_load_and_a_moved_data_dir_both_know_the_first_outcome_of_every_key(
    tmp_path: Path, started: list[Stack]
) -> None:
    home, moved, restored = tmp_path / "stack", tmp_path / "moved [1] away", tmp_path / "restored"
    first_key, waiting_key = fresh_key("first"), fresh_key("waiting")
    started.append(stack := Stack.up(home, partitions=2))
    async with client_of(stack) as client:
        accounts = await client.accounts(ACCOUNTS, funds=str(FUNDS))
        pair = accounts[0], accounts[1]
        first = await client.transfer_until_decided(*pair, "0.5", key=first_key)
        async with load(client, accounts) as seen:
            await running(stack, seen)
            tellerline("backup", str(restored), "--data-dir", str(home), within_s=UP_MAX_S)
            await running(stack, seen)
        await sound(client, accounts, seen)
        stack.stop("ledger_worker-1")
        body = {"source": accounts[0], "destination": accounts[1], "amount": "0.25", "asset": "USD"}
        waiting = await client.post("/v1/transfers", body, key=waiting_key, prefer="wait=0")
        assert waiting.status == 202
        stack.kill("ledger_worker-1")
    started.remove(stack)
    stack.down()

    refused_with_another_naming_key(restored)
    home.rename(moved)
    started += (there := Stack.up(moved, partitions=2), here := Stack.up(restored, partitions=2))
    for each in (there, here):
        async with client_of(each) as client:
            again = await client.transfer_until_decided(*pair, "0.5", key=first_key)
            assert (again.status, again.replayed, again.operation_id) == (201, True, first.operation_id)
            assert await total(client, accounts) == FUNDS * ACCOUNTS
            decided = await client.transfer_until_decided(*pair, "0.25", key=waiting_key)
            assert (decided.status, decided.operation_id) == (201, waiting.operation_id)
        await each.verify()
    assert not home.exists()


def refused_with_another_naming_key(data_dir: Path) -> None:
    naming_key = data_dir / "secrets" / "naming"
    kept = naming_key.read_text(encoding="utf-8")
    naming_key.write_text("as if made anew, with thirty-two characters\n", encoding="utf-8")
    with pytest.raises(
        RuntimeError, match=r"ended with 2\n(?s:.*)tellerline up: TELLERLINE_NAMING_KEY has fingerprint"
    ):
        Stack.up(data_dir, partitions=2)
    naming_key.write_text(kept, encoding="utf-8")
