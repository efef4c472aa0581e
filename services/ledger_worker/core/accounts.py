"""Accounts and holds in memory: the state after the last entry, committed or about to be."""

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.ids import PARTITIONED_PREFIXES, AccountId, AssetCode, CommandId, HoldId, Principal
from shared.domain.values import value

# Who owns the ledger's own accounts. No API key can have this principal.
LEDGER = Principal("tellerline:ledger")


class Status(StrEnum):
    """A frozen account refuses debits; a closed one refuses everything, for good."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


@value
class AccountFacts:
    """What another partition may know of an account: what never changes, and whether it is closed.

    A closed account stays closed. That it is not closed was true when it was read: its own partition has the last word.
    """

    asset: AssetCode
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Account:
    """Amounts in minor units. `batch`: the last batch that changed it; until that is committed it stays in memory."""

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


@dataclass(slots=True, eq=False)
class Hold:
    """Funds set aside, in minor units. `ended` is None while the hold is open, else how it ended."""

    id: HoldId
    account: AccountId
    asset: AssetCode
    amount: int
    destination: AccountId | None
    operation: CommandId
    ended: str | None = None
    batch: int = 0


def is_system_name(account: AccountId) -> bool:
    """Whether the account belongs to the ledger itself and is opened when it is first used."""
    return account.startswith(PARTITIONED_PREFIXES)


def asset_of_system_account(account: AccountId) -> AssetCode:
    """The asset in a system account's name, `role:ASSET:…`."""
    return AssetCode(account.split(":", 2)[1])
