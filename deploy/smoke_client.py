"""What deploy/smoke.sh asks of a composed stack over HTTP: accounts, deposits, transfers with repeated keys, one mix.

Standard library only. TELLERLINE_URL, TELLERLINE_NETWORK_URL and TELLERLINE_ADMIN_KEY say where and as whom.
Exit code 0 when all of it held.
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

URL = os.environ["TELLERLINE_URL"]
NETWORK_URL = os.environ.get("TELLERLINE_NETWORK_URL", "")
KEY = os.environ["TELLERLINE_ADMIN_KEY"]
RUN = f"smoke-{os.getpid()}"
ACCOUNTS, TRANSFERS, THREADS = 24, 300, 16
DEPOSIT = "1000"
# Not outcomes: the same request with the same key may be sent again.
UNDECIDED = frozenset({202, 429, 503, 504})
PATIENCE_S = 60.0
MIX_MAX_S = 180.0
MIX_AMOUNT = "7.5"


class Broken(Exception):
    """The stack did not keep the contract."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Mapping[str, object]
    replayed: bool


def ask(
    method: str, path: str, body: Mapping[str, object] | None = None, key: str | None = None, *, url: str = URL
) -> Answer:
    """One request, once."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = f"{RUN}-{key}"
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=45) as answer:
            return _read(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as answer:
        return _read(answer.code, answer.headers, answer.read())


def _read(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    body = json.loads(content) if content else {}
    return Answer(status, body, headers.get("Idempotency-Replayed") == "true")


def decided(method: str, path: str, body: Mapping[str, object], key: str) -> Answer:
    """Asks until there is an outcome."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = ask(method, path, body, key)
        if answer.status not in UNDECIDED:
            return answer
        if time.monotonic() > deadline:
            raise Broken(f"{method} {path}: no outcome in {PATIENCE_S} s, last {answer}")
        time.sleep(0.2)


def expect(held: object, what: str, answer: object) -> None:
    """Raises Broken unless it held."""
    if not held:
        raise Broken(f"{what}: {answer}")


def in_parallel(work: Callable[[int], Answer], count: int) -> list[Answer]:
    """As many clients would, at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(count)))


def account(number: int) -> str:
    """The id of one of our accounts."""
    return f"{RUN}-{number}"


def open_and_fill(number: int) -> Answer:
    """An account with a deposit on it."""
    answer = decided("POST", "/v1/accounts", {"id": account(number), "asset": "USD"}, f"open-{number}")
    expect(answer.status == 201, "an account is opened", answer)
    deposit = {"account": account(number), "asset": "USD", "amount": DEPOSIT}
    answer = decided("POST", "/v1/deposits", deposit, f"deposit-{number}")
    expect(answer.status == 201, "a deposit is posted", answer)
    return answer


def transfer_twice(number: int) -> Answer:
    """The same transfer two times under one key: one effect, one outcome."""
    source, destination = random.Random(number).sample(range(ACCOUNTS), 2)
    amount = f"{number % 50 + 1}.{number % 100:02d}"
    transfer = {"source": account(source), "destination": account(destination), "asset": "USD", "amount": amount}
    first = decided("POST", "/v1/transfers", transfer, f"transfer-{number}")
    again = decided("POST", "/v1/transfers", transfer, f"transfer-{number}")
    expect(first.status in {201, 422}, "a transfer has an outcome", first)
    same = (first.status, first.body.get("id"), first.body.get("code")) == (
        again.status, again.body.get("id"), again.body.get("code"),
    )  # fmt: skip
    expect(same and again.replayed, "a repeat gets the first outcome", (first, again))
    return first


def check_balances(transfers: int) -> None:
    """What went out came in, to the cent."""
    deadline = time.monotonic() + PATIENCE_S
    wanted = Decimal(DEPOSIT) * ACCOUNTS
    while True:
        bodies = [ask("GET", f"/v1/accounts/{account(number)}").body for number in range(ACCOUNTS)]
        found = sum((Decimal(str(body["balance"])) for body in bodies), Decimal(0))
        if found == wanted:
            break
        expect(time.monotonic() < deadline, f"all balances sum to {wanted}", found)
        time.sleep(0.2)
    print(f"      {ACCOUNTS} accounts, {transfers} transfers posted, each asked twice; balances sum to {found} USD")


def check_refusals() -> None:
    """Refusals are outcomes too, and bad input is none."""
    huge = {"source": account(0), "destination": account(1), "asset": "USD", "amount": "999999999"}
    for replayed in (False, True):
        answer = decided("POST", "/v1/transfers", huge, "too-much")
        expect((answer.body.get("code"), answer.replayed) == ("insufficient_funds", replayed), "no overdraft", answer)
    answer = decided("POST", "/v1/transfers", huge | {"amount": "1"}, "too-much")
    expect(answer.body.get("code") == "idempotency_key_reused", "a key has one content", answer)
    answer = ask("POST", "/v1/transfers", huge | {"amount": 1.5})
    expect(answer.status == 400, "an amount is a string", answer)
    answer = ask("GET", "/v1/accounts/nobody-at-all")
    expect(answer.status == 404, "what is not there is not found", answer)


def network(method: str, path: str, body: Mapping[str, object] | None = None) -> Answer:
    """One request to the simulated network."""
    return ask(method, f"/tellerline/api{path}", body, url=NETWORK_URL)


def check_mix() -> None:
    """Coins sent to a deposit address come out at two others, less the fee."""
    destinations = [f"{RUN}-out-{number}" for number in (1, 2)]
    mix = {"destinations": destinations, "fee_percent": "2", "delay_s": {"min": 0, "max": 2}}
    answer = decided("POST", "/v1/mixes", mix, "mix")
    expect(answer.status == 201, "a mix is opened", answer)
    sent = {"fromAddress": "Alice", "toAddress": answer.body["deposit_address"], "amount": MIX_AMOUNT}
    expect(network("POST", "/transactions", sent).status == 200, "coins are sent", sent)
    deadline = time.monotonic() + MIX_MAX_S
    while (now := ask("GET", f"/v1/mixes/{answer.body['id']}")).body.get("status") != "completed":
        expect(time.monotonic() < deadline, f"the mix is completed within {MIX_MAX_S} s", now)
        time.sleep(0.5)
    paid = sum(
        (Decimal(str(network("GET", f"/addresses/{each}").body["balance"])) for each in destinations), Decimal(0)
    )
    expect(paid == Decimal(str(now.body["paid"])) > 0, "the network shows what was paid", (paid, now))
    expect(Decimal(str(now.body["fee"])) == Decimal(MIX_AMOUNT) / 50, "the fee is 2 %", now)
    whole = Decimal(str(now.body["paid"])) + Decimal(str(now.body["fee"]))
    expect(whole == Decimal(MIX_AMOUNT), "paid and fee are what was received", now)
    print(f"      a mix of {MIX_AMOUNT} JOB paid {paid} to {len(destinations)} addresses, fee {now.body['fee']}")


def check_strangers() -> None:
    """What faces the world shows nothing of what is inside."""
    ready = ask("GET", "/readyz")
    expect(ready.body == {"status": "ok"}, "strangers learn that it is ready and nothing else", ready)
    for path in ("/metrics", "/tellerline/api/transactions", "/balancer/readiness"):
        expect((answer := ask("GET", path)).status == 404, f"nothing at {path}", answer)


def main() -> None:
    """Everything, in order."""
    check_strangers()
    in_parallel(open_and_fill, ACCOUNTS)
    outcomes = in_parallel(transfer_twice, TRANSFERS)
    check_balances(sum(outcome.status == 201 for outcome in outcomes))
    check_refusals()
    check_mix()


if __name__ == "__main__":
    try:
        main()
    except Broken as broken:
        sys.exit(f"smoke: {broken}")
