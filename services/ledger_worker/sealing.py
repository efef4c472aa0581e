"""Closes the open drafts of all lines: what a group commit will write."""

from services.ledger_worker.core.line import batches_text
from services.ledger_worker.core.transit import write_transit_entries
from services.ledger_worker.group import Group
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Sealed


def seal_drafts(owned: Owned, group: Group) -> None:
    """Moves every draft that has something to write into the group. Nothing may be decided on them after this."""
    for line in owned.lines.values():
        write_transit_entries(line)
    for line in owned.lines.values():
        draft = line.close_draft()
        if draft is not None:
            group.rows[line.partition] = draft.decided
            group.onward += [(line.partition, destination) for destination in sorted(draft.outgoing)]
            group.cleared_credits += draft.cleared_credits
            group.sealed.append(
                Sealed(
                    line.partition,
                    draft.batch,
                    owned.leases[line.partition].epoch,
                    draft.lines(),
                    draft.assets,
                    draft.account_changes,
                    line.cursors_text(),
                    batches_text(draft.cleared),
                    draft.content_hash(),
                )
            )
