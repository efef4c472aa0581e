"""What the distributor counts. Names end in their unit."""

from prometheus_client import Counter, Gauge

CREDITS = Counter("distributor_credits", "Credits of mixes found in the journal")
CURSOR_BATCH = Gauge("distributor_cursor_batch", "Last batch of the journal that was read", ["partition"])
NUDGES = Counter("distributor_nudges", "Events about mixes")
OLDEST_DUE_SECONDS = Gauge("distributor_oldest_due_seconds", "For how long the oldest unpaid payout has been due")
RETURNED = Counter("distributor_returned", "Fundings that came later than the settle time, and were sent back")
