"""The gateway: HTTP in front of the ledger. It validates, sends commands, waits for outcomes, and reads the journal."""
