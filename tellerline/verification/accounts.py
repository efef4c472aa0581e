"""Each account's story from its first entry to its last (DESIGN §3.2 and §3.3): one pass, one account at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.ids import ACCOUNT_ID, PARTITIONED_PREFIXES, SYSTEM_ACCOUNT_ID, AccountId, partition_of
from tellerline.verification.findings import Violated
from tellerline.verification.rows import whole

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
class _Story:
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
    _story: _Story | None = None

    def feed(self, lines: Iterable[str]) -> None:
        """Checks the next lines. Raises Violated."""
        for text in lines:
            line = PassLine(*text.split("\t"))
            story = self._story
            if line.role == ACCOUNT:
                self._end()
                self._begin(line)
            elif story is None or story.account != line.account:
                table = "entries" if line.role == ENTRY else "holds"
                raise Violated(table, line.key, "account_id is an account", "a row of accounts", line.account)
            elif line.role == ENTRY:
                self._enter(story, line)
            else:
                story.held_by_open_holds = whole(line.held_after, "holds", line.account, "the sum of amounts")

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
        self._story = _Story(account, line.asset, line.partition, line.status, place, is_system)

    def _enter(self, story: _Story, line: PassLine) -> None:
        self.entries += 1
        try:
            balance, held, limit = int(line.balance_after), int(line.held_after), int(line.limit_after)
            place = (int(line.batch), int(line.line))
            lowered = balance - held + limit < story.balance - story.held + story.limit
            follows = (
                int(line.seq) == story.seq + 1
                and balance == story.balance + int(line.delta)
                and held == story.held + int(line.held_delta)
                and line.asset == story.asset
                and line.partition == story.partition
                and place > story.place
                and held >= 0
                and (not lowered or story.is_system or balance - held + limit >= 0)
                and (limit == story.limit or (line.delta == line.held_delta == "0" and limit >= 0))
                and line.status in NEXT_STATUS[story.status]
                and (line.status == story.status or line.delta == line.held_delta == "0")
                and (line.status != "closed" or balance == held == 0)
            )
        except ValueError:
            raise _not_whole(line) from None
        if not follows:
            raise _why(story, line)
        story.seq += 1
        story.balance, story.held, story.limit, story.status, story.place = balance, held, limit, line.status, place

    def _end(self) -> None:
        story = self._story
        if story is None:
            return
        if story.held != story.held_by_open_holds:
            last = f"{story.account}/{story.seq}"
            raise Violated(
                "entries", last, "held_after is the sum of the open holds", story.held_by_open_holds, story.held
            )
        if story.ends_as != story.status:
            rule = "status is that of the last entry"
            raise Violated("accounts", story.account, rule, story.status, story.ends_as)
        self.totals[story.asset] = self.totals.get(story.asset, 0) + story.balance
        if story.account.startswith("transit:"):
            self.transit_balances[story.account] = story.balance
        self._story = None


def _not_whole(line: PassLine) -> Violated:
    for column in ("seq", "delta", "held_delta", "balance_after", "held_after", "limit_after", "batch", "line"):
        try:
            whole(getattr(line, column), "entries", line.key, column)
        except Violated as violated:
            return violated
    return Violated("entries", line.key, "amounts are whole numbers", "digits", line)


def _why(story: _Story, line: PassLine) -> Violated:
    """Which rule a line breaks that does not follow from its story: the first of them, in the order of importance."""
    balance, held, limit = int(line.balance_after), int(line.held_after), int(line.limit_after)
    moved = line.delta != "0" or line.held_delta != "0"
    rules: tuple[tuple[bool, str, object, object], ...] = (
        (int(line.seq) == story.seq + 1, "seq has no gap", story.seq + 1, line.seq),
        (
            balance == story.balance + int(line.delta),
            "balance_after is the previous one plus delta",
            story.balance + int(line.delta),
            balance,
        ),
        (
            held == story.held + int(line.held_delta),
            "held_after is the previous one plus held_delta",
            story.held + int(line.held_delta),
            held,
        ),
        (line.asset == story.asset, "asset is the account's", story.asset, line.asset),
        (line.partition == story.partition, "partition is the account's", story.partition, line.partition),
        (
            (int(line.batch), int(line.line)) > story.place,
            "batch and line grow with seq",
            f"after {story.place}",
            (int(line.batch), int(line.line)),
        ),
        (held >= 0, "held_after is not negative", ">= 0", held),
        (limit == story.limit or not moved, "limit_after changes only in an entry of its own", story.limit, limit),
        (limit >= 0, "limit_after is not negative", ">= 0", limit),
        (
            line.status in NEXT_STATUS[story.status],
            "status_after is one that may follow",
            " or ".join(sorted(NEXT_STATUS[story.status])) or f"no entry after {story.status}",
            line.status,
        ),
        (
            line.status == story.status or not moved,
            "status_after changes only in an entry of its own",
            story.status,
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
