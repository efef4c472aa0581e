"""Accounts and holds in memory: the state after the last entry, committed or about to be."""

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.ids import PARTITIONED_PREFIXES, AccountId, AssetCode, CommandId, HoldId, Principal
from shared.domain.values import value

# The owner of all system accounts. No API key can have this principal.
LEDGER = Principal("tellerline:ledger")


class Status(StrEnum):
    """A frozen account refuses debits; a closed one refuses everything, for good."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


@value
class AccountFacts:
    """What other partitions may remember of an account: its asset, which never changes, and whether it is closed.

    `is_closed` True stays true. False may be out of date: the account's own partition checks again on arrival.
    """

    asset: AssetCode
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Account:
    """Amounts in minor units. `seq`: the number of its last entry; `limit`: its overdraft limit.

    `batch`: the last batch that changed it. The account is not evicted from memory before that batch is committed.
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


@dataclass(slots=True, eq=False)
class Hold:
    """Funds set aside, in minor units. `ended` is None while it is open, then "captured" or "voided"."""

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
