"""Makes mixes, reads the network's list, sweeps deposits to the house and credits them in the ledger."""
