"""What the distributor counts. Names end in their unit."""

from prometheus_client import Counter, Gauge

CREDITS = Counter("distributor_credits", "Credits of mixes read in the journal")
CURSOR_BATCH = Gauge("distributor_cursor_batch", "Last batch of the journal that was read", ["partition"])
NUDGES = Counter("distributor_nudges", "Events that told of a mix")
PAYOUTS = Gauge("distributor_payouts", "Payouts, by state", ["state"])
OLDEST_DUE_SECONDS = Gauge("distributor_oldest_due_seconds", "For how long the oldest unpaid payout has been due")
UNKNOWN_OPEN = Gauge("distributor_unknown_open", "Transfers that were sent, or may have been, and have not been seen")
UNKNOWN_RESOLVED = Counter(
    "distributor_unknown_resolved", "Transfers whose end was read from the list, by what it showed", ["leg", "ended"]
)
RETURNED = Counter("distributor_returned", "Fundings that came later than the settle time, and were sent back")
STUCK = Counter("distributor_stuck", "Credits and payouts that wait for an operator", ["step"])
