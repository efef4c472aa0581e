"""Checks what a batch added to the lists of transactions: what its operations and entries ask for, and no more."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from shared.domain.ids import PARTITIONED_PREFIXES
from shared.journal.rows import ENTRIES_UNLISTED, NULL, copy_text
from shared.journal.transit import RETURN_KIND, TransitCredit
from tellerline.verification.findings import Violated

# List, reference, asset and kind.
ListKey: TypeAlias = tuple[str, str, str, str]
OF_ITS_ACCOUNT: Final = ("",)


class ListedAs(NamedTuple):
    """What decides the lists of an operation, as fields of COPY text; `reference` may be null.

    `listed_for`: the owner whose list has the operation by the batch that sent its credit here; or "".
    """

    kind: str
    reference: str
    assets: Sequence[str]
    listed_for: str = ""


class ListedEntry(NamedTuple):
    """An entry that an operation made, by its line in the batch."""

    line: int
    account: str
    seq: str
    operation: str
    asset: str
    moves: bool


@dataclass(slots=True)
class BatchLists:
    """Collects what one batch must list, and compares it with its rows. `operations`: in the order of their lines."""

    operations: dict[str, ListedAs] = field(default_factory=dict[str, ListedAs])
    entries: list[ListedEntry] = field(default_factory=list[ListedEntry])
    # Operations of credits that came from other partitions.
    _landed: dict[str, ListedAs] = field(default_factory=dict[str, ListedAs])
    # Those of transit rows of version 1, which did not say how to list them: what stands there is not checked.
    _unknown: set[str] = field(default_factory=set[str])
    _members: dict[ListKey, list[tuple[int, str]]] = field(default_factory=dict[ListKey, list[tuple[int, str]]])

    def land(self, credits: Iterable[TransitCredit]) -> None:
        """Notes credits that were taken in."""
        for credit in credits:
            reference = copy_text(credit.reference)
            self._landed[credit.operation] = ListedAs(
                credit.operation_kind, reference, (credit.asset,), credit.source_owner
            )
            if not credit.source_owner and credit.operation_kind != RETURN_KIND:
                self._unknown.add(credit.operation)

    def check(self, lines: Sequence[str], key: str, recorded_at_us: int, owners: Mapping[str, str]) -> None:
        """Raises Violated for the first list that is not what it should be.

        `lines`: the batch's rows of ledger.listed, each with list, reference, asset, kind, instant in µs, lines and
        operations; `owners`: of the accounts in its entries.
        """
        self._expect(owners)
        expected = {
            f"{name}\t{reference}\t{asset}\t{kind}\t{recorded_at_us}\t{_array(members, 0)}\t{_array(members, 1)}"
            for (name, reference, asset, kind), members in self._members.items()
        }
        if len(lines) == len(expected) and expected == set(lines):
            return
        says, does = Counter(self._elements(expected)), Counter(self._elements(lines))
        if says != does:
            first = min((says - does) + (does - says))
            place, line, operation = first
            rule = f"batch {key} lists its line {line} of operation {operation} there, at its instant"
            raise Violated(
                "listed", "/".join(place.split("\t")[:4]), rule, f"{says[first]} times", f"{does[first]} times"
            )

    def _expect(self, owners: Mapping[str, str]) -> None:
        for line, (operation, listing) in enumerate(self.operations.items()):
            if listing.assets:
                self._add("ledger", listing, listing.assets, line, operation)
        known = {**self._landed, **self.operations} if self._landed else self.operations
        shown: set[tuple[str, str]] = set()
        for line, account, seq, operation, asset, moves in self.entries:
            listing = known.get(operation)
            if listing is None:
                continue
            if moves and not account.startswith(PARTITIONED_PREFIXES):
                owner = owners[account]
                place = operation, owner
                if place not in shown and owner != listing.listed_for:
                    shown.add(place)
                    self._add(f"owner:{owner}", listing, listing.assets, line, operation)
            if len(seq) > 3 and int(seq) > ENTRIES_UNLISTED:  # noqa: PLR2004 - the digits of 999
                others = [each for each in listing.assets if each != asset]
                self._add(f"account:{account}", listing, (*OF_ITS_ACCOUNT, *others), line, operation)

    def _add(self, name: str, listing: ListedAs, assets: Sequence[str], line: int, operation: str) -> None:
        member = line, operation
        for asset in assets:
            self._members.setdefault((name, "", asset, listing.kind), []).append(member)
            if listing.reference != NULL:
                self._members.setdefault((name, listing.reference, asset, listing.kind), []).append(member)

    def _elements(self, rows: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """What the rows hold, one operation at a time, but for those that are unknown."""
        for row in rows:
            place, lines, operations = row.rsplit("\t", 2)
            for line, operation in zip(lines[1:-1].split(","), operations[1:-1].split(","), strict=False):
                if operation not in self._unknown:
                    yield place, line, operation


def _array(members: Sequence[tuple[int, str]], part: int) -> str:
    """Newest first, as PostgreSQL writes an array."""
    return "{" + ",".join([str(member[part]) for member in reversed(members)]) + "}"
