"""The lists that a batch's transactions and entries go into: rows of ledger.listed, which the gateway's pages read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from services.ledger_worker.core.accounts import Account
from shared.journal.rows import ENTRIES_UNLISTED

OF_ITS_ACCOUNT: Final = ("",)

# Name of the list, reference, asset, kind; see ledger.listed.
ListKey: TypeAlias = tuple[str, str, str, str]


class ListedOperation(NamedTuple):
    """What the lists say of an operation. `assets`: those of its postings, none when it moved no money.

    `listed_for`: of a credit from another partition, the owner of the debited account. The batch that debited it has
    put the operation in this owner's list, where it must not stand twice. "" for all other operations.
    """

    kind: str
    reference: str | None
    assets: tuple[str, ...] = ()
    listed_for: str = ""


class Entered(NamedTuple):
    """One entry of the batch: the account's number `seq`, made by an operation; `moves` when the balance changed."""

    account: Account
    seq: int
    operation: str | None
    moves: bool


@dataclass(slots=True, eq=False)
class ListBuilder:
    """Collects, for each list, lines of the batch and the operations that they belong to."""

    members: dict[ListKey, list[tuple[int, str]]] = field(default_factory=dict[ListKey, list[tuple[int, str]]])

    def add(self, name: str, listing: ListedOperation, assets: Iterable[str], line: int, operation: str) -> None:
        """Adds one line to the list of this name, for each asset, and once more under its reference."""
        for asset in assets:
            self.members.setdefault((name, "", asset, listing.kind), []).append((line, operation))
            if listing.reference is not None:
                key = name, listing.reference, asset, listing.kind
                self.members.setdefault(key, []).append((line, operation))

    def rows(self, partition: int, batch: int) -> list[list[str]]:
        """One row of texts for each list, as ledger.append takes them: lines and operations newest first."""
        place = [f"{partition}", f"{batch}"]
        return [
            [
                *key,
                *place,
                "{" + ",".join([str(line) for line, _ in reversed(members)]) + "}",
                "{" + ",".join([operation for _, operation in reversed(members)]) + "}",
            ]
            for key, members in self.members.items()
        ]


def list_batch(
    operations: Sequence[tuple[str, ListedOperation]], entries: Sequence[Entered], landed: Mapping[str, ListedOperation]
) -> ListBuilder:
    """The lists of one batch. `operations` by line; `landed`: those of credits that came from other partitions.

    Everything is in the list `ledger`. In an owner's list a transaction stands once, by the first entry on one of the
    owner's accounts; the ledger's own accounts have no such list.
    """
    lists = ListBuilder()
    for line, (operation, listing) in enumerate(operations):
        lists.add("ledger", listing, listing.assets, line, operation)
    known = {**landed, **dict(operations)}
    shown: set[tuple[str, str]] = set()
    for line, entry in enumerate(entries):
        operation, account = entry.operation, entry.account
        listing = None if operation is None else known.get(operation)
        if operation is None or listing is None:
            continue  # the net of a transit account, which belongs to the batch
        place = operation, account.owner
        if entry.moves and not account.is_system and place not in shown and listing.listed_for != account.owner:
            shown.add(place)
            lists.add(f"owner:{account.owner}", listing, listing.assets, line, operation)
        if entry.seq > ENTRIES_UNLISTED:
            # Under its own asset an account has all its entries: only others of the same transaction are worth a row.
            assets = OF_ITS_ACCOUNT + tuple(asset for asset in listing.assets if asset != account.asset)
            lists.add(f"account:{account.id}", listing, assets, line, operation)
    return lists
