"""Makes mixes, follows the network's list, sweeps what arrives to the house and credits the ledger (DESIGN §7)."""
