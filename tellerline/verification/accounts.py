"""Checks each account from its first entry to its last, in one pass over all accounts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.domain.ids import ACCOUNT_ID, PARTITIONED_PREFIXES, SYSTEM_ACCOUNT_ID, AccountId, partition_of
from tellerline.verification.findings import Violated, expect
from tellerline.verification.rows import is_transit, whole

# The roles of a PassLine, in the order in which the lines of an account come.
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

    def breaks(self, rule: str, expected: object, found: object) -> Violated:
        """The exception for an entry that breaks this rule."""
        return Violated("entries", self.key, rule, expected, found)


@dataclass(slots=True)
class _AccountState:
    """The account that is being read, after its last entry so far. Amounts in minor units."""

    row: PassLine  # its line with the role ACCOUNT
    place: tuple[int, int]  # batch and line of the last entry
    is_system: bool
    # The last entry that changed more than the balance; at first the row, whose amounts are zero, as an open account.
    last: PassLine
    seq: int = 0
    balance: int = 0
    held: int = 0
    limit: int = 0
    held_by_open_holds: int = 0

    def moved(self, fields: Sequence[str]) -> bool:
        """Applies an entry that changes nothing but the balance and breaks no rule, as most do, at a third of the cost.

        False: nothing was applied, and `enter` must judge the line. `fields`: those of a PassLine.
        """
        account, role, seq, asset, partition, batch, line, delta, held_delta, balance, held, limit, status = fields
        row, last = self.row, self.last
        if (
            role != ENTRY
            or held_delta != "0"
            or held != last.held_after
            or limit != last.limit_after
            or status != last.status
            or status == "closed"
            or account != row.account
            or asset != row.asset
            or partition != row.partition
        ):
            return False
        try:
            change, after, place = int(delta), int(balance), (int(batch), int(line))
            follows = int(seq) == self.seq + 1 and after == self.balance + change and place > self.place
        except ValueError:
            return False
        if not follows or (change < 0 and after - self.held + self.limit < 0 and not self.is_system):
            return False
        self.seq, self.balance, self.place = self.seq + 1, after, place
        return True

    def enter(self, line: PassLine) -> None:
        """Applies the next entry. Raises Violated for the first rule that it breaks, the most important ones first."""
        try:
            seq, delta, balance = int(line.seq), int(line.delta), int(line.balance_after)
            place = (int(line.batch), int(line.line))
            held_delta, held, limit = int(line.held_delta), int(line.held_after), int(line.limit_after)
        except ValueError:
            _check_numbers(line)
            raise
        if seq != self.seq + 1:
            raise line.breaks("seq has no gap", self.seq + 1, seq)
        if balance != self.balance + delta:
            raise line.breaks("balance_after is the previous one plus delta", self.balance + delta, balance)
        if held != self.held + held_delta:
            raise line.breaks("held_after is the previous one plus held_delta", self.held + held_delta, held)
        if line.asset != self.row.asset:
            raise line.breaks("asset is the account's", self.row.asset, line.asset)
        if line.partition != self.row.partition:
            raise line.breaks("partition is the account's", self.row.partition, line.partition)
        if place <= self.place:
            raise line.breaks("batch and line grow with seq", f"after {self.place}", place)
        if held < 0:
            raise line.breaks("held_after is not negative", ">= 0", held)
        moves = delta != 0 or held_delta != 0
        if moves and limit != self.limit:
            raise line.breaks("limit_after changes only in an entry of its own", self.limit, limit)
        if limit < 0:
            raise line.breaks("limit_after is not negative", ">= 0", limit)
        self._check_status(line, moves=moves, is_empty=balance == held == 0)
        available = balance - held + limit
        if available < 0 and available < self.balance - self.held + self.limit and not self.is_system:
            rule = "an entry that lowers the available funds leaves them at zero or more"
            raise line.breaks(rule, ">= 0", available)
        self.seq, self.balance, self.held, self.limit = seq, balance, held, limit
        self.place, self.last = place, line

    def _check_status(self, line: PassLine, *, moves: bool, is_empty: bool) -> None:
        if line.status not in NEXT_STATUS[self.last.status]:
            expected = " or ".join(sorted(NEXT_STATUS[self.last.status])) or f"no entry after {self.last.status}"
            raise line.breaks("status_after is one that may follow", expected, line.status)
        if moves and line.status != self.last.status:
            raise line.breaks("status_after changes only in an entry of its own", self.last.status, line.status)
        if line.status == "closed" and not is_empty:
            found = f"balance {line.balance_after}, held {line.held_after}"
            raise line.breaks("a closed account is empty", "balance 0, held 0", found)


@dataclass(slots=True)
class AccountProof:
    """Checks all accounts: `feed` takes the lines in order, `finish` ends the last one. Later checks use its sums."""

    partitions: int
    assets: frozenset[str]
    accounts: int = 0
    entries: int = 0
    totals: Counter[str] = field(default_factory=Counter[str])  # asset → sum of all balances
    transit_balances: dict[str, int] = field(default_factory=dict[str, int])
    _state: _AccountState | None = None

    def feed(self, lines: Iterable[str]) -> None:
        """Checks the next lines. Raises Violated."""
        for text in lines:
            state = self._state
            fields = text.split("\t")
            if state is not None and state.moved(fields):
                self.entries += 1
                continue
            line = PassLine._make(fields)
            if line.role == ACCOUNT:
                self.finish()
                self._begin(line)
            elif state is None or state.row.account != line.account:
                table = "entries" if line.role == ENTRY else "holds"
                raise Violated(table, line.key, "account_id is an account", "a row of accounts", line.account)
            elif line.role == ENTRY:
                self.entries += 1
                state.enter(line)
            else:
                state.held_by_open_holds = whole(line.held_after, "holds", line.account, "the sum of amounts")

    def _begin(self, line: PassLine) -> None:
        self.accounts += 1
        account = line.account
        is_system = account.startswith(PARTITIONED_PREFIXES)
        if not (SYSTEM_ACCOUNT_ID if is_system else ACCOUNT_ID).fullmatch(account):
            raise Violated("accounts", account, "id is one that the API allows", ACCOUNT_ID.pattern, account)
        partition = str(partition_of(AccountId(account), self.partitions))
        expect("accounts", account, "partition is the one that owns the id", partition, line.partition)
        if line.asset not in self.assets:
            raise Violated("accounts", account, "asset is known", "a code in assets", line.asset)
        if is_system and line.asset != account.split(":")[1]:
            raise Violated("accounts", account, "asset is the one in its name", account.split(":")[1], line.asset)
        place = (whole(line.batch, "accounts", account, "batch"), -1)
        self._state = _AccountState(line, place, is_system, line._replace(status="open"))

    def finish(self) -> None:
        """Checks the account that is being read as a whole, after its last line. Raises Violated."""
        state = self._state
        if state is None:
            return
        account = state.row.account
        rule = "held_after is the sum of the open holds"
        expect("entries", f"{account}/{state.seq}", rule, state.held_by_open_holds, state.held)
        expect("accounts", account, "status is that of the last entry", state.last.status, state.row.status)
        self.totals[state.row.asset] += state.balance
        if is_transit(account):
            self.transit_balances[account] = state.balance
        self._state = None


def check_totals(totals: Mapping[str, int]) -> None:
    """The balances of all accounts sum to zero. `totals`: asset → sum in minor units. Raises Violated."""
    for asset, total in sorted(totals.items()):
        expect("entries", asset, "the balances of all accounts in an asset sum to zero", 0, total)


def _check_numbers(line: PassLine) -> None:
    """Raises Violated for the first field that is no whole number."""
    for column in ("seq", "delta", "held_delta", "balance_after", "held_after", "limit_after", "batch", "line"):
        whole(getattr(line, column), "entries", line.key, column)
