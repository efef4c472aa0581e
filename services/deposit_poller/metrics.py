"""What the poller counts. Names end in their unit."""

from prometheus_client import Counter, Gauge

POLLS = Counter("poller_polls", "Readings of the network's list, by how they ended", ["ended"])
POLL_LAG_SECONDS = Gauge("poller_poll_lag_seconds", "Time since the network's list was last read to its end")
CURSOR_ROWS = Gauge("poller_cursor_rows", "Rows of the network's list that have been read for good")
LIST_ROWS = Gauge("poller_list_rows", "Rows of the network's list")
LIST_CHANGED = Counter(
    "poller_list_changed", "Times that rows which had been read were no longer in the list as they were"
)
UNCONFIRMED = Gauge("poller_unconfirmed", "Rows to our addresses that wait for a second look")
DISAGREEMENTS = Counter("poller_disagreements", "Second looks at which an address did not agree with the list")
DEPOSITS = Gauge("poller_deposits", "Deposits, by state", ["state"])
UNKNOWN_OPEN = Gauge("poller_unknown_open", "Sweeps that were sent, or may have been, and have not been seen")
UNKNOWN_RESOLVED = Counter(
    "poller_unknown_resolved", "Sweeps whose end was read from the list, by what it showed", ["ended"]
)
STUCK = Counter("poller_stuck", "Deposits that wait for an operator", ["step"])
MIXES = Counter("poller_mixes", "Orders for mixes, by outcome", ["outcome"])
PARKED = Counter("poller_parked", "Messages set aside for an operator")
