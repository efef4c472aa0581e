"""What the ledger means, as naively as it can be said: one dictionary of accounts, one command after the other."""

from dataclasses import dataclass, field

from shared.domain.ids import SYSTEM_ACCOUNT_ID, AccountId, partition_of
from shared.domain.rejections import Rejection
from shared.messages import (
    AccountClose,
    AccountCreate,
    AccountUpdate,
    Command,
    HoldCapture,
    HoldPlace,
    HoldVoid,
    OperationCancel,
    OperationRefuse,
    OperatorDecision,
    Posting,
    PostTransaction,
)

BOUND = 10**36
ORDER = [rejection.value for rejection in Rejection]


def _first(refused: set[str]) -> str:
    """Of several refusals the one that stands first in the documented order; `posted` when there is none."""
    return min(refused, key=ORDER.index, default="posted")


@dataclass(slots=True)
class NaiveAccount:
    asset: str
    owner: str
    status: str = "open"
    balance: int = 0
    held: int = 0
    limit: int = 0
    is_system: bool = False
    may_owe: bool = False


@dataclass(slots=True)
class NaiveHold:
    account: str
    amount: int
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class OnItsWay:
    operation: str
    account: str
    asset: str
    amount: int
    source: str
    is_return: bool


@dataclass(slots=True)
class NaiveLedger:
    partitions: int
    assets: frozenset[str]
    accounts: dict[str, NaiveAccount] = field(default_factory=dict[str, NaiveAccount])
    holds: dict[str, NaiveHold] = field(default_factory=dict[str, NaiveHold])
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    on_their_way: dict[tuple[int, int], list[OnItsWay]] = field(default_factory=dict[tuple[int, int], list[OnItsWay]])
    # Closed, but other partitions have not heard of it.
    believed_open: set[str] = field(default_factory=set[str])

    def account(self, name: str) -> NaiveAccount | None:
        if name not in self.accounts and SYSTEM_ACCOUNT_ID.fullmatch(name) and name.split(":")[1] in self.assets:
            role, asset, _ = name.split(":")
            self.accounts[name] = NaiveAccount(asset, "tellerline:ledger", is_system=True, may_owe=role != "suspense")
        return self.accounts.get(name)

    def decide(self, command: Command) -> str:
        """`posted`, or the code of the refusal."""
        known = self.outcomes.get(command.id)
        if known is not None:
            is_repeat = known[0] in {command.fingerprint, "anything"} or isinstance(command, OperationCancel)
            return known[1] if is_repeat else "idempotency_key_reused"
        code = self._refusal(command)
        if code == "posted":
            self._apply(command)
        self.outcomes[command.id] = ("anything" if code == "cancelled" else command.fingerprint, code)
        return code

    def _refusal(self, command: Command) -> str:
        match command:
            case PostTransaction():
                [posting] = command.postings
                return self._refuse_posting(command, posting)
            case AccountCreate():
                if command.asset not in self.assets:
                    return "unknown_asset"
                return "posted" if self.account(command.account) is None else "already_exists"
            case AccountUpdate() | AccountClose():
                return self._refuse_change(command)
            case HoldPlace():
                return self._refuse_hold(command)
            case HoldCapture() | HoldVoid():
                return self._refuse_end(command)
            case OperationRefuse():
                return command.code.value
            case OperatorDecision():
                return "posted"
            case _:
                return "cancelled"

    def _mine(self, name: str, command: Command) -> NaiveAccount | None:
        account = self.account(name)
        return account if account is not None and (command.admin or account.owner == command.principal) else None

    def _is_here(self, source: str, name: str) -> bool:
        return self._place(name) == self._place(source)

    def _refuse_debit(self, account: NaiveAccount, amount: int) -> set[str]:
        refused = set[str]() if account.status == "open" else {f"account_{account.status}"}
        if not account.may_owe and account.balance - account.held + account.limit < amount:
            refused.add("insufficient_funds")
        return refused | ({"limit_exceeded"} if account.balance - amount < -BOUND else set())

    def _refuse_credit(self, source: str, name: str, amount: int) -> set[str]:
        account, is_here = self.accounts[name], self._is_here(source, name)
        is_closed = account.status == "closed" and (is_here or name not in self.believed_open)
        refused = {"account_closed"} if is_closed else set[str]()
        return refused | ({"limit_exceeded"} if is_here and account.balance + amount > BOUND else set())

    def _refuse_posting(self, command: PostTransaction, posting: Posting) -> str:
        refused = set[str]()
        if posting.asset not in self.assets:
            refused.add("unknown_asset")
        if posting.source == posting.destination:
            refused.add("same_account")
        source, destination = self._mine(posting.source, command), self.account(posting.destination)
        if source is None or destination is None:
            return _first(refused | {"account_not_found"})
        if not source.asset == destination.asset == posting.asset:
            refused.add("asset_mismatch")
        refused |= self._refuse_debit(source, posting.amount)
        return _first(refused | self._refuse_credit(posting.source, posting.destination, posting.amount))

    def _refuse_change(self, command: AccountUpdate | AccountClose) -> str:
        account = self._mine(command.account, command)
        if account is None:
            return "account_not_found"
        if account.status == "closed":
            return "account_closed"
        if isinstance(command, AccountClose):
            return "account_not_empty" if account.balance or account.held or account.is_system else "posted"
        lower = command.overdraft_limit is not None and command.overdraft_limit < account.limit
        left = account.balance - account.held + (command.overdraft_limit or 0)
        return "insufficient_funds" if lower and left < 0 else "posted"

    def _refuse_hold(self, command: HoldPlace) -> str:
        refused = set[str]()
        if command.asset not in self.assets:
            refused.add("unknown_asset")
        if command.hold in self.holds:
            refused.add("already_exists")
        account = self._mine(command.account, command)
        if account is None:
            return _first(refused | {"account_not_found"})
        if account.asset != command.asset:
            refused.add("asset_mismatch")
        return _first(refused | self._refuse_debit(account, command.amount))

    def _refuse_end(self, command: HoldCapture | HoldVoid) -> str:
        refused = set[str]()
        account, hold = self._mine(command.account, command), self.holds.get(command.hold)
        if account is None:
            refused.add("account_not_found")
        if hold is None or not hold.is_open or hold.account != command.account:
            refused.add("hold_not_open")
        if isinstance(command, HoldVoid):
            return _first(refused)
        destination = self.account(command.destination)
        if command.account == command.destination:
            refused.add("same_account")
        if destination is None:
            refused.add("account_not_found")
        if account is None or hold is None or destination is None:
            return _first(refused)
        if destination.asset != account.asset:
            refused.add("asset_mismatch")
        if account.status == "frozen":
            refused.add("account_frozen")
        return _first(refused | self._refuse_credit(command.account, command.destination, hold.amount))

    def _apply(self, command: Command) -> None:
        match command:
            case PostTransaction():
                [posting] = command.postings
                self._move(command.id, posting.source, posting.destination, posting.amount)
            case AccountCreate():
                self.accounts[command.account] = NaiveAccount(
                    command.asset, command.owner, limit=command.overdraft_limit
                )
            case AccountUpdate():
                account = self.accounts[command.account]
                account.limit = account.limit if command.overdraft_limit is None else command.overdraft_limit
                account.status = command.status or account.status
            case AccountClose():
                self.accounts[command.account].status = "closed"
            case HoldPlace():
                self.holds[command.hold] = NaiveHold(command.account, command.amount)
                self.accounts[command.account].held += command.amount
            case HoldCapture() | HoldVoid():
                hold = self.holds[command.hold]
                hold.is_open = False
                self.accounts[hold.account].held -= hold.amount
                if isinstance(command, HoldCapture):
                    self._move(command.id, hold.account, command.destination, hold.amount)
            case _:
                raise NotImplementedError

    def _move(self, operation: str, source: str, destination: str, amount: int) -> None:
        self.accounts[source].balance -= amount
        if self._is_here(source, destination):
            self.accounts[destination].balance += amount
        else:
            asset = self.accounts[source].asset
            self._send(OnItsWay(operation, destination, asset, amount, source, is_return=False))

    def _send(self, credit: OnItsWay) -> None:
        pair = self._place(credit.source), self._place(credit.account)
        self.on_their_way.setdefault(pair, []).append(credit)

    def _place(self, name: str) -> int:
        return int(partition_of(AccountId(name), self.partitions))

    def land(self, source: int, destination: int, count: int) -> None:
        """The next `count` credits of a pair: on their accounts, back, or, on their way back, to suspense."""
        waiting = self.on_their_way[source, destination]
        landing, waiting[:] = waiting[:count], waiting[count:]
        for credit in landing:
            account = self.accounts[credit.account]
            if credit.is_return:
                self.believed_open.discard(credit.source)
            if account.status != "closed" and account.balance + credit.amount <= BOUND:
                account.balance += credit.amount
            elif credit.is_return:
                suspense = self.account(f"suspense:{credit.asset}:{destination}")
                if suspense is not None:
                    suspense.balance += credit.amount
            else:
                back = OnItsWay(
                    credit.operation, credit.source, credit.asset, credit.amount, credit.account, is_return=True
                )
                self._send(back)

    def in_flight(self, source: int, destination: int, asset: str) -> int:
        """Minor units between two partitions."""
        return sum(
            credit.amount for credit in self.on_their_way.get((source, destination), ()) if credit.asset == asset
        )
