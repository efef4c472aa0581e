"""`tellerline mix` on a whole stack: as the tests of the official command-line template meet it, and watched."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tellerline.cli import main
from tests.system.client import Client, fresh_key
from tests.system.stack import Stack
from tests.system.test_mixer import pay, received

PAID_MAX_S = 90
SENTENCE = (
    r"You may now send Jobcoins to address ([0-9a-zA-Z]{32}). "
    r"They will be mixed and sent to your destination addresses."
)
LOOK_AGAIN = re.compile(r"tellerline mix --watch ([0-9a-f-]{36}) --data-dir (\S+)")


async def mix(stack: Stack, *arguments: str, typed: str | None = None) -> Result:
    words = ["mix", *arguments, "--data-dir", str(stack.data_dir)]
    return await asyncio.to_thread(CliRunner().invoke, main, words, input=typed)


@contextmanager
def watching(stack: Stack, *arguments: str) -> Generator[subprocess.Popen[str]]:
    program = [Path(sys.executable).with_name("tellerline"), "mix", *arguments, "--data-dir", stack.data_dir]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_it_greets_and_ends_as_the_template_s_test_expects(stack: Stack) -> None:
    result = await mix(stack)
    assert result.exit_code == 0
    assert "Welcome to the Jobcoin mixer" in result.output


async def test_it_makes_an_address_as_the_template_s_test_expects(stack: Stack) -> None:
    first, second = fresh_key("one"), fresh_key("two")
    result = await mix(stack, typed=f"{first},{second}")
    assert result.exit_code == 0
    assert re.search(SENTENCE, result.output)
    addresses = re.findall(
        SENTENCE, (await mix(stack, typed=f"{fresh_key()}\n{fresh_key()}, {fresh_key()}\n\n")).stdout
    )
    assert len(set(addresses)) == 2


@pytest.mark.parametrize(
    ("typed", "reasons"),
    [
        ("{new},", ["destinations[1]: the address is empty"]),
        ("{new},,{new}", ["destinations[1]: the address is empty", "destinations[2]: the address stands here twice"]),
        ("Alice,{new}", ["destinations[0]: the address was used before"]),
        ("tellerline-house", ["destinations[0]: the address is one of ours"]),
    ],
)
async def test_each_refused_address_has_its_reason_and_nothing_is_created(
    stack: Stack, client: Client, typed: str, reasons: Sequence[str]
) -> None:
    addresses = typed.format(new=fresh_key("new"))
    before = (await client.get("/v1/mixes?limit=1")).body["data"]
    for result in (await mix(stack, typed=f"{addresses}\n"), await mix(stack, addresses)):
        lines = [line.strip() for line in result.stderr.splitlines() if line.startswith("  ")]
        assert lines == reasons
        assert "You may now send" not in result.stdout
    assert (result.exit_code, (await client.get("/v1/mixes?limit=1")).body["data"]) == (1, before)


async def test_a_mix_is_watched_until_it_is_paid_and_ctrl_c_says_how_to_look_again(
    stack: Stack, client: Client
) -> None:
    receivers = [fresh_key("one"), fresh_key("two")]
    ordered = await mix(stack, ",".join(receivers), "--fee-percent", "2", "--delay", "2", "6")
    assert ordered.exit_code == 0
    [address], [(mix_id, _)] = re.findall(SENTENCE, ordered.stdout), LOOK_AGAIN.findall(ordered.stderr)
    with watching(stack, "--watch", mix_id) as process:
        assert process.stderr is not None
        assert "waiting" in await asyncio.to_thread(process.stderr.readline)
        process.send_signal(signal.SIGINT)
        _, told = await asyncio.to_thread(process.communicate)
        assert process.returncode == 130
        assert LOOK_AGAIN.findall(told) == [(mix_id, str(stack.data_dir))]
        assert "Traceback" not in told
    await pay(client, stack, address, "10")
    with watching(stack, "--watch", mix_id, "--json") as process:
        said, told = await asyncio.wait_for(asyncio.to_thread(process.communicate), PAID_MAX_S)
    shown = json.loads(said)
    assert (process.returncode, shown["status"], shown["paid"], shown["remaining"]) == (0, "completed", "9.8", "0")
    assert {payout["destination"] for payout in shown["payouts"]} == set(receivers)
    assert sum([await received(client, stack, receiver) for receiver in receivers]) == 9_800_000_000_000_000_000
    assert re.search(r"^  planned ", told, re.MULTILINE)
    assert re.search(r"^  paid ", told, re.MULTILINE)
    table = (await mix(stack, "--show", mix_id)).stdout
    assert "  status     completed\n" in table
