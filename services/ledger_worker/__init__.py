"""The ledger worker: the one teller of each partition that it owns."""
