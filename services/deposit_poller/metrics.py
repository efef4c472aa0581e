"""What the poller counts. Names end in their unit."""

from prometheus_client import Counter, Gauge

POLLS = Counter("poller_polls", "Readings of the network's list, by how they ended", ["ended"])
POLL_LAG_SECONDS = Gauge("poller_poll_lag_seconds", "Time since the network's list was last read to its end")
CURSOR_ROWS = Gauge("poller_cursor_rows", "Rows of the network's list that need not be read again")
LIST_ROWS = Gauge("poller_list_rows", "Rows of the network's list")
LIST_CHANGED = Counter("poller_list_changed", "Readings in which rows that had been read were gone or different")
UNCONFIRMED = Gauge("poller_unconfirmed", "Rows to our addresses that wait for a second reading")
DISAGREEMENTS = Counter("poller_disagreements", "Second readings in which an address did not agree with the list")
MIXES = Counter("poller_mixes", "Orders for mixes, by outcome", ["outcome"])
DEAD_LETTERS = Counter("poller_dead_letters", "Messages set aside for an operator")
