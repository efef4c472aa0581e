-- Why the owner of a partition decides nothing in it, written with each renewal of the lease; null while it goes on.
-- Whoever asks whether the ledger is ready reads it.
ALTER TABLE ledger.partitions ADD COLUMN waiting_for text;
