"""Each account from its first entry to its last, in one pass over all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.domain.ids import ACCOUNT_ID, PARTITIONED_PREFIXES, SYSTEM_ACCOUNT_ID, AccountId, partition_of
from tellerline.verification.findings import Violated
from tellerline.verification.rows import is_transit, whole

# What a line of the pass is, in the order in which an account's lines come.
ACCOUNT, ENTRY, OPEN_HOLDS = "0", "1", "2"
NEXT_STATUS: Final[Mapping[str, frozenset[str]]] = {
    "open": frozenset({"open", "frozen", "closed"}),
    "frozen": frozenset({"open", "frozen", "closed"}),
    "closed": frozenset(),  # for good: nothing is ever entered again
}


class PassLine(NamedTuple):
    """One line of the pass: an account, one of its entries, or the sum of its open holds (in `held_after`)."""

    account: str
    role: str
    seq: str
    asset: str
    partition: str
    batch: str
    line: str
    delta: str
    held_delta: str
    balance_after: str
    held_after: str
    limit_after: str
    status: str

    @property
    def key(self) -> str:
        """The key of an entry."""
        return f"{self.account}/{self.seq}"


@dataclass(slots=True)
class _AccountState:
    """The account that is being read, after its last entry so far. Amounts in minor units."""

    account: str
    asset: str
    partition: str
    ends_as: str
    place: tuple[int, int]
    is_system: bool
    status: str = "open"
    seq: int = 0
    balance: int = 0
    held: int = 0
    limit: int = 0
    held_by_open_holds: int = 0


@dataclass(slots=True)
class AccountProof:
    """Fed with the lines of the pass in order; `finish` ends the last account. What it counts serves later checks."""

    partitions: int
    assets: frozenset[str]
    accounts: int = 0
    entries: int = 0
    totals: dict[str, int] = field(default_factory=dict[str, int])  # asset → sum of all balances
    transit_balances: dict[str, int] = field(default_factory=dict[str, int])
    _state: _AccountState | None = None

    def feed(self, lines: Iterable[str]) -> None:
        """Checks the next lines. Raises Violated."""
        for text in lines:
            line = PassLine(*text.split("\t"))
            state = self._state
            if line.role == ACCOUNT:
                self._end()
                self._begin(line)
            elif state is None or state.account != line.account:
                table = "entries" if line.role == ENTRY else "holds"
                raise Violated(table, line.key, "account_id is an account", "a row of accounts", line.account)
            elif line.role == ENTRY:
                self._enter(state, line)
            else:
                state.held_by_open_holds = whole(line.held_after, "holds", line.account, "the sum of amounts")

    def finish(self) -> None:
        """Ends the last account. Raises Violated."""
        self._end()

    def _begin(self, line: PassLine) -> None:
        self.accounts += 1
        account = line.account
        is_system = account.startswith(PARTITIONED_PREFIXES)
        if not (SYSTEM_ACCOUNT_ID if is_system else ACCOUNT_ID).fullmatch(account):
            raise Violated("accounts", account, "id is one that the API allows", ACCOUNT_ID.pattern, account)
        partition = partition_of(AccountId(account), self.partitions)
        if line.partition != str(partition):
            raise Violated("accounts", account, "partition is the one that owns the id", partition, line.partition)
        if line.asset not in self.assets:
            raise Violated("accounts", account, "asset is known", "a code in assets", line.asset)
        if is_system and line.asset != account.split(":")[1]:
            raise Violated("accounts", account, "asset is the one in its name", account.split(":")[1], line.asset)
        place = (whole(line.batch, "accounts", account, "batch"), -1)
        self._state = _AccountState(account, line.asset, line.partition, line.status, place, is_system)

    def _enter(self, state: _AccountState, line: PassLine) -> None:
        self.entries += 1
        try:
            balance, held, limit = int(line.balance_after), int(line.held_after), int(line.limit_after)
            place = (int(line.batch), int(line.line))
            lowered = balance - held + limit < state.balance - state.held + state.limit
            follows = (
                int(line.seq) == state.seq + 1
                and balance == state.balance + int(line.delta)
                and held == state.held + int(line.held_delta)
                and line.asset == state.asset
                and line.partition == state.partition
                and place > state.place
                and held >= 0
                and (not lowered or state.is_system or balance - held + limit >= 0)
                and (limit == state.limit or (line.delta == line.held_delta == "0" and limit >= 0))
                and line.status in NEXT_STATUS[state.status]
                and (line.status == state.status or line.delta == line.held_delta == "0")
                and (line.status != "closed" or balance == held == 0)
            )
        except ValueError:
            _check_numbers(line)
            raise
        if not follows:
            raise _why(state, line)
        state.seq += 1
        state.balance, state.held, state.limit, state.status, state.place = balance, held, limit, line.status, place

    def _end(self) -> None:
        state = self._state
        if state is None:
            return
        if state.held != state.held_by_open_holds:
            last = f"{state.account}/{state.seq}"
            raise Violated(
                "entries", last, "held_after is the sum of the open holds", state.held_by_open_holds, state.held
            )
        if state.ends_as != state.status:
            rule = "status is that of the last entry"
            raise Violated("accounts", state.account, rule, state.status, state.ends_as)
        self.totals[state.asset] = self.totals.get(state.asset, 0) + state.balance
        if is_transit(state.account):
            self.transit_balances[state.account] = state.balance
        self._state = None


def check_totals(totals: Mapping[str, int]) -> None:
    """The balances of all accounts sum to zero. `totals`: asset → sum in minor units. Raises Violated."""
    for asset, total in sorted(totals.items()):
        if total != 0:
            raise Violated("entries", asset, "the balances of all accounts in an asset sum to zero", 0, total)


def _check_numbers(line: PassLine) -> None:
    """Raises Violated for the first field that is no whole number."""
    for column in ("seq", "delta", "held_delta", "balance_after", "held_after", "limit_after", "batch", "line"):
        whole(getattr(line, column), "entries", line.key, column)


def _why(state: _AccountState, line: PassLine) -> Violated:
    """Which rule a line breaks that does not follow from the state before: the first, in the order of importance."""
    balance, held, limit = int(line.balance_after), int(line.held_after), int(line.limit_after)
    moved = line.delta != "0" or line.held_delta != "0"
    rules: tuple[tuple[bool, str, object, object], ...] = (
        (int(line.seq) == state.seq + 1, "seq has no gap", state.seq + 1, line.seq),
        (
            balance == state.balance + int(line.delta),
            "balance_after is the previous one plus delta",
            state.balance + int(line.delta),
            balance,
        ),
        (
            held == state.held + int(line.held_delta),
            "held_after is the previous one plus held_delta",
            state.held + int(line.held_delta),
            held,
        ),
        (line.asset == state.asset, "asset is the account's", state.asset, line.asset),
        (line.partition == state.partition, "partition is the account's", state.partition, line.partition),
        (
            (int(line.batch), int(line.line)) > state.place,
            "batch and line grow with seq",
            f"after {state.place}",
            (int(line.batch), int(line.line)),
        ),
        (held >= 0, "held_after is not negative", ">= 0", held),
        (limit == state.limit or not moved, "limit_after changes only in an entry of its own", state.limit, limit),
        (limit >= 0, "limit_after is not negative", ">= 0", limit),
        (
            line.status in NEXT_STATUS[state.status],
            "status_after is one that may follow",
            " or ".join(sorted(NEXT_STATUS[state.status])) or f"no entry after {state.status}",
            line.status,
        ),
        (
            line.status == state.status or not moved,
            "status_after changes only in an entry of its own",
            state.status,
            line.status,
        ),
        (
            line.status != "closed" or balance == held == 0,
            "a closed account is empty",
            "balance 0, held 0",
            f"balance {balance}, held {held}",
        ),
    )
    for holds, rule, expected, found in rules:
        if not holds:
            return Violated("entries", line.key, rule, expected, found)
    rule = "an entry that lowers the available funds leaves them at zero or more"
    return Violated("entries", line.key, rule, ">= 0", balance - held + limit)
