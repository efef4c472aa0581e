"""The worker's Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter("ledger_commands", "Commands decided, by outcome", ["outcome"])
ENVELOPES = Counter("ledger_envelopes", "Envelopes delivered")
DUPLICATES = Counter("ledger_duplicates", "Commands that had an outcome already", ["found"])
BATCH_COMMANDS = Histogram(
    "ledger_batch_commands",
    "Commands in one commit",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000),
)
COMMIT_SECONDS = Histogram(
    "ledger_commit_seconds",
    "Time of one commit",
    buckets=(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
COMMIT_FAULTS = Counter("ledger_commit_faults", "Commits that failed, by fault", ["fault"])
FENCED = Counter("ledger_fenced", "Commits refused because another worker owns a partition")
UNKNOWN_RESOLVED = Counter("ledger_unknown_resolved", "Commits of unknown end that were read back from the journal")
OLDEST_UNDECIDED_SECONDS = Gauge("ledger_oldest_undecided_seconds", "Age of the oldest delivery not yet committed")
PARTITIONS = Gauge("ledger_partitions", "Partitions of the ledger, with and without an owner")
PARTITIONS_OWNED = Gauge("ledger_partitions_owned", "Partitions that this worker owns")
LEASE_CHANGES = Counter("ledger_lease_changes", "Leases taken, given back and lost", ["change"])
DEAD_LETTERS = Counter("ledger_dead_letters", "Messages and transit rows set aside for an operator", ["reason"])
TRANSIT_LEGS = Counter("ledger_transit_legs", "Credits of other partitions taken in")
RETURNED = Counter("ledger_transit_returned", "Credits that could not land and went back")
REDELIVERED = Counter("ledger_redelivered", "Envelopes that were delivered before")
ACCOUNTS_CACHED = Gauge("ledger_accounts_cached", "Accounts in memory")
EVENTS_LOST = Counter("ledger_events_lost", "Event messages without a confirm; readers find them in the journal")
