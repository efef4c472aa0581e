"""Whether the other services make progress, by what their processes report in the database."""

from collections.abc import Mapping, Sequence
from typing import Final

from services.gateway.store.health import PartitionFacts, ProcessFacts

# Every process reports every two seconds. One from the future counts as one that is as old: the clock of the database
# was set back after it.
SILENT_S_MAX: Final = 8.0


def partitions_missing(partitions: Sequence[PartitionFacts]) -> str | None:
    """Which partitions nobody decides, and why; None if there is none."""
    found: dict[str, list[str]] = {}
    for each in partitions:
        if (why := _why_unserved(each)) is not None:
            found.setdefault(why, []).append(str(each.partition))
    return "; ".join(f"{', '.join(numbers)}: {why}" for why, numbers in found.items()) or None


def services_missing(processes: Sequence[ProcessFacts]) -> dict[str, str | None]:
    """Service → why none of its processes makes progress, or None if one does. One without processes is left out."""
    found: dict[str, str | None] = {}
    for each in sorted(processes, key=lambda process: (process.service, abs(process.silent_s))):
        why = _why_silent(each.silent_s) or _why_not_ready(each.missing)
        if each.service not in found or why is None:
            found[each.service] = why
    return found


def deposits_unseen(processes: Sequence[ProcessFacts]) -> str | None:
    """Why no deposit poller sees deposits, though one is running; None if one sees them, or none is running."""
    running = [each for each in processes if each.service == "deposit_poller" and _why_silent(each.silent_s) is None]
    reasons = [each.missing.get("network") for each in running]
    return reasons[0] if reasons and None not in reasons else None


def _why_unserved(partition: PartitionFacts) -> str | None:
    if partition.owner is None:
        return "no worker owns it"
    if partition.silent_s is None:
        return "its worker is gone"
    return _why_silent(partition.silent_s) or partition.waiting_for


def _why_silent(silent_s: float) -> str | None:
    return f"nothing was heard for {abs(silent_s):.0f} s" if abs(silent_s) > SILENT_S_MAX else None


def _why_not_ready(missing: Mapping[str, str]) -> str | None:
    return ", ".join(f"{part}: {why}" for part, why in missing.items()) or None
