"""Accounts and holds as a line keeps them in memory: the state after the last entry, committed or about to be."""

from dataclasses import dataclass
from enum import StrEnum

from shared.ids import PARTITIONED_PREFIXES, AccountId, AssetCode, CommandId, HoldId, Principal
from shared.values import value

# Who owns the ledger's own accounts; no API key can have this principal.
LEDGER = Principal("tellerline:ledger")


class Status(StrEnum):
    """Frozen refuses debits only; closed refuses everything and is for good."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


@value
class AccountFacts:
    """What may be known of an account in any partition: what never changes about it, and whether it is closed.

    Closed is for good. Not closed is what was true when it was read: its own partition has the last word.
    """

    asset: AssetCode
    owner: Principal
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Account:
    """Amounts in minor units.

    `batch` is the last batch that touched it: until that is committed it must stay in memory.
    """

    id: AccountId
    asset: AssetCode
    owner: Principal
    status: Status = Status.OPEN
    seq: int = 0
    balance: int = 0
    held: int = 0
    limit: int = 0
    batch: int = 0
    is_system: bool = False

    @property
    def available(self) -> int:
        """What may be debited: balance minus held plus overdraft limit."""
        return self.balance - self.held + self.limit

    def readable_by(self, principal: str, *, admin: bool) -> bool:
        """Whether this principal may see balances of the account and debit it."""
        return admin or self.owner == principal

    def facts(self) -> AccountFacts:
        """What any partition may know of it."""
        return AccountFacts(self.asset, self.owner, self.status is Status.CLOSED)


@dataclass(slots=True, eq=False)
class Hold:
    """Funds set aside. `ended` is None while it is open."""

    id: HoldId
    account: AccountId
    asset: AssetCode
    amount: int
    destination: AccountId | None
    operation: CommandId
    ended: str | None = None
    batch: int = 0


def is_system_name(account: AccountId) -> bool:
    """Whether the account belongs to the ledger itself and is made when first used."""
    return account.startswith(PARTITIONED_PREFIXES)


def system_facts(account: AccountId) -> AccountFacts:
    """Facts of a system account, which its name holds: `role:ASSET:…`."""
    return AccountFacts(AssetCode(account.split(":", 2)[1]), LEDGER)
