"""A simulated Jobcoin network, foreign to the ledger: it shares no rules, database or credentials with it.

It imports `shared.runtime` alone: how a process of this project reads settings, writes logs and stops.
"""
