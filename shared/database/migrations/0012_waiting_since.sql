-- Since when the oldest message that the owner of a partition has not decided yet has been with it, written with each
-- renewal of the lease; null when none waits there. An operator sees by it how old a backlog is.
ALTER TABLE ledger.partitions ADD COLUMN waiting_since timestamptz;
