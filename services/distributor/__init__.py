"""Reads credits of mixes in the journal, takes the fee, plans increments and pays them when due (DESIGN §7)."""
