"""The ledger worker: the only writer of each partition that it owns."""
