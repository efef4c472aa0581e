"""Finds the credits of mixes in the journal, takes the fees, plans payouts and pays each when it is due."""
