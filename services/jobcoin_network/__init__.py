"""A simulated Jobcoin network: foreign to the ledger, it shares no code path, database or credentials with it."""
