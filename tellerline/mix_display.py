"""How a mix looks in a terminal: a line, a bar, its increments and their times."""

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from tellerline.gateway_api import ApiObject

BAR_WIDTH: Final = 30
INCREMENTS_SHOWN_MAX: Final = 10
# Of these, so many that are paid already.
PAID_SHOWN_MAX: Final = 3
PAID: Final = "paid"


class ShownPayout(ApiObject):
    """One increment."""

    destination: str
    amount: str
    due_at: str
    status: str
    reason: str | None = None


class Mix(ApiObject):
    """A mix, amounts in JOB."""

    id: str
    status: str
    deposit_address: str
    received: str
    fee: str
    paid: str
    remaining: str
    next_due_at: str | None
    reason: str | None = None


def progress_line(mix: Mix, now: datetime) -> str:
    """How far the mix is, with a bar of what is paid of what is to be paid."""
    paid = Fraction(mix.paid)
    whole = paid + Fraction(mix.remaining)
    share = paid / whole if whole else Fraction(0)
    filled = int(share * BAR_WIDTH)
    bar = "#" * filled + "-" * (BAR_WIDTH - filled)
    parts = [f"{mix.status:<9} [{bar}] {int(share * 100):>3} %", f"received {mix.received}, paid {mix.paid} JOB"]
    if mix.next_due_at is not None:
        parts.append(f"next {time_text(mix.next_due_at)}{_from_now(mix.next_due_at, now)}")
    if mix.reason is not None:
        parts.append(mix.reason)
    return "  ".join(parts)


def increments(payouts: Sequence[ShownPayout]) -> list[str]:
    """The latest increments that are paid and the next ones, in the order in which they are due."""
    paid = sum(1 for payout in payouts if payout.status == PAID)
    start = min(max(0, paid - PAID_SHOWN_MAX), max(0, len(payouts) - INCREMENTS_SHOWN_MAX))
    shown = payouts[start : start + INCREMENTS_SHOWN_MAX]
    left_out = len(payouts) - len(shown)
    return [*map(increment_line, shown), *([f"  … and {left_out} more"] if left_out else [])]


def increment_line(payout: ShownPayout) -> str:
    """One increment."""
    why = f"  ({payout.reason})" if payout.reason else ""
    return (
        f"  {payout.status:<10} {payout.amount} JOB  {time_text(payout.due_at)}  {printable(payout.destination)}{why}"
    )


def as_table(mix: Mix, payouts: Sequence[ShownPayout]) -> str:
    """A whole mix."""
    rows = {
        "mix": mix.id,
        "status": mix.status,
        "reason": mix.reason,
        "deposit to": mix.deposit_address,
        "received": mix.received,
        "fee": mix.fee,
        "paid": mix.paid,
        "remaining": mix.remaining,
        "next due": mix.next_due_at,
    }
    lines = [f"  {name:<10} {value}" for name, value in rows.items() if value is not None]
    return "\n".join([*lines, *map(increment_line, payouts)])


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor: an address may be any text."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def time_text(instant: str) -> str:
    """An instant of the API to the second, such as 2026-11-21 12:00:01, in UTC."""
    return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M:%S}"


def _from_now(instant: str, now: datetime) -> str:
    seconds = round((datetime.fromisoformat(instant) - now.astimezone(UTC)).total_seconds())
    return f" (in {seconds} s)" if seconds > 0 else ""
