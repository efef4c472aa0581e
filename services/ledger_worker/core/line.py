"""A line: one partition's accounts in memory, its place in the journal.

And how far it has read the others' transit rows.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from services.ledger_worker.core.accounts import Account, AccountFacts, Hold, is_system_name, system_facts
from services.ledger_worker.core.draft import Draft
from shared.ids import SYSTEM_ACCOUNT_ID, AccountId, AssetCode, HoldId, Partition, partition_of
from shared.rejections import Rejection
from shared.values import value

DROPPED_AT_ONCE_PART: Final = 16

Key = TypeVar("Key")
Value = TypeVar("Value")


class InvariantBroken(Exception):
    """Something that cannot be is: nothing may be written on top of it."""


@value
class Known:
    """A command that has an outcome. `code` None is posted."""

    fingerprint: str
    code: Rejection | None


@dataclass(slots=True, eq=False)
class World:
    """What all lines of one worker share: each other, and what is true for good, once it is true."""

    partitions: int
    assets: dict[AssetCode, int] = field(default_factory=dict[AssetCode, int])  # code → scale
    facts: dict[AccountId, AccountFacts] = field(default_factory=dict[AccountId, AccountFacts])
    recent: dict[str, Known] = field(default_factory=dict[str, Known])
    lines: dict[Partition, "Line"] = field(default_factory=dict[Partition, "Line"])

    def partition_of(self, account: AccountId) -> Partition:
        """The partition that owns the account."""
        return partition_of(account, self.partitions)

    def facts_of(self, account: AccountId) -> AccountFacts | None:
        """What is known of an account that lives elsewhere; None when it does not exist (or was not loaded)."""
        if is_system_name(account):
            facts = system_facts(account)
            return facts if facts.asset in self.assets else None
        known = self.facts.get(account)
        if known is None and (line := self.lines.get(self.partition_of(account))) is not None:
            here = line.accounts.get(account)
            return None if here is None else here.facts()
        return known

    def learn(self, account: Account) -> None:
        """Keeps what every line may know of the account."""
        self.facts[account.id] = account.facts()

    def forget_decided(self) -> None:
        """Forgets all that may rest on a decision: some were dropped, and an outcome or a closing with them."""
        self.recent.clear()
        self.facts.clear()

    def trim(self, recent_max: int, facts_max: int) -> None:
        """Forgets the oldest once they are a sixteenth beyond the bounds. What is forgotten stands in the journal."""
        _drop_oldest(self.recent, recent_max)
        _drop_oldest(self.facts, facts_max)


@dataclass(slots=True, eq=False)
class Line:
    """`batch` is the last batch decided, `committed` the last that the database holds.

    A line that is being given back is draining: what was taken for it is finished, and it takes nothing more.
    """

    world: World
    partition: Partition
    batch: int
    cursors: dict[Partition, int]
    committed: int = 0
    accounts: dict[AccountId, Account] = field(default_factory=dict[AccountId, Account])
    holds: dict[HoldId, Hold] = field(default_factory=dict[HoldId, Hold])
    draft: Draft | None = None
    is_draining: bool = False

    def beside(self, partition: Partition) -> "Line | None":
        """The line of this worker in which a credit of this one lands in the same commit; None: through transit."""
        line = self.world.lines.get(partition)
        return None if line is None or line.is_draining else line

    def book_clearing(self, there: "Line", asset: AssetCode, amount: int) -> None:
        """Writes that a credit of an operation of this line has been entered in that one, in the same commit."""
        draft, other = self.open_draft(), there.open_draft()
        draft.cleared[there.partition] = other.batch
        draft.cleared_credits += 1
        draft.clearing[asset] = draft.clearing.get(asset, 0) + amount
        other.clearing[asset] = other.clearing.get(asset, 0) - amount

    def open_draft(self) -> Draft:
        """The open batch, begun if there is none."""
        if self.draft is None:
            self.draft = Draft(self.partition, self.batch + 1)
        return self.draft

    def close_draft(self) -> Draft | None:
        """Takes the open batch out, to be committed; None when it would write nothing."""
        draft, self.draft = self.draft, None
        if draft is None or draft.is_empty:
            return None
        self.batch = draft.batch
        return draft

    def account(self, account: AccountId) -> Account | None:
        """The account in memory. A system account that nobody used yet is opened now, in this batch."""
        known = self.accounts.get(account)
        if (
            known is None
            and SYSTEM_ACCOUNT_ID.fullmatch(account)
            and self.world.partition_of(account) == self.partition
        ):
            facts = system_facts(account)
            if facts.asset not in self.world.assets:
                return None
            known = Account(account, facts.asset, facts.owner, is_system=True)
            self.accounts[account] = known
            self.open_draft().open_account(known, None)
        return known

    def cursors_text(self) -> str:
        """The cursors as the batch row keeps them."""
        return batches_text(self.cursors)

    def trim(self, accounts_max: int) -> None:
        """Forgets accounts beyond the bound, oldest first; never one of an uncommitted batch.

        Never one of the ledger's.
        """
        excess = len(self.accounts) - accounts_max
        if excess > 0:
            free = (known for known in self.accounts.values() if known.batch <= self.committed and not known.is_system)
            for known in list(islice(free, excess)):
                del self.accounts[known.id]
        self.holds = {key: hold for key, hold in self.holds.items() if hold.batch > self.committed}


def batches_text(batches: Mapping[Partition, int]) -> str:
    """Partition → batch as a batch row keeps it: a JSON object."""
    return "{" + ",".join(f'"{partition}":{batch}' for partition, batch in sorted(batches.items())) + "}"


def read_batches(text: str) -> dict[Partition, int]:
    """The inverse of `batches_text`."""
    read: Mapping[str, int] = json.loads(text)
    return {Partition(int(partition)): int(batch) for partition, batch in read.items()}


def missing(wanted: Iterable[AccountId], known: Mapping[AccountId, object]) -> set[AccountId]:
    """Those of `wanted` that must be loaded."""
    return {account for account in wanted if account not in known}


def _drop_oldest(bounded: dict[Key, Value], size_max: int) -> None:
    # Many at a time: whoever looks for the oldest of a dict passes all that were dropped before. A few of 200,000 at
    # each commit took 0.15 ms.
    excess = len(bounded) - size_max
    if excess > size_max // DROPPED_AT_ONCE_PART:
        for key in list(islice(bounded, excess)):
            del bounded[key]
