"""In-memory twins of the ledger worker's ports: the promises of PostgreSQL, RabbitMQ and the clock, and seams.

`tests/contract` runs one suite against each twin and its real counterpart.
"""
