"""What clients are told, compared with the journal at the very moment at which they are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.domain.ids import CommandId, derived_id
from shared.journal.rows import ANY_CONTENT_FINGERPRINT
from shared.messages import Reply
from tests.twins.journal import Journal


@dataclass(slots=True)
class ReceivedReplies:
    """Everything that the clients were told. `outcomes`: command id and fingerprint → code, or `posted`."""

    journal: Journal
    outcomes: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    settled: int = 0
    replayed: int = 0

    def receive(self, _: str, reply: Reply) -> None:
        """Whatever a reply says is in the journal by now."""
        journal = self.journal
        for outcome in reply.outcomes:
            row = journal.operations.get(outcome.id)
            assert row is not None, f"{outcome.id} was replied to before it was in the journal"
            fingerprint = str(row["fingerprint"])[2:]
            if outcome.code == "idempotency_key_reused":
                assert fingerprint not in {outcome.fingerprint, ANY_CONTENT_FINGERPRINT}
            else:
                assert outcome.code == row["code"]
                assert outcome.status == row["outcome"]
                self._check_balances(outcome.id, outcome.balances)
            before = self.outcomes.setdefault((outcome.id, outcome.fingerprint), outcome.code or "posted")
            assert before == (outcome.code or "posted"), "a repeat got another outcome"
            self.replayed += outcome.replayed
        for settled in reply.settled:
            self.settled += 1
            if settled.returned:
                back = derived_id(CommandId(settled.id), f"return:{settled.partition}")
                entries = [
                    entry for rows in journal.entries.values() for entry in rows if entry["operation_id"] == settled.id
                ]
                assert back in journal.operations or any(
                    str(entry["account_id"]).startswith("suspense:") for entry in entries
                )
            else:
                self._check_balances(settled.id, {settled.account: settled.balance})

    def _check_balances(self, operation: str, balances: Mapping[str, int | None]) -> None:
        for account, balance in balances.items():
            found = [
                int(entry["balance_after"] or 0)
                for entry in self.journal.entries.get(account, [])
                if entry["operation_id"] == operation
            ]
            assert found, f"{operation} has no entry on {account}, but a client was told of it"
            assert balance is None or balance in found
