"""In-memory twins of the ledger worker's ports: the same promises as PostgreSQL, RabbitMQ and the machine's clock, and seams.

`tests/contract` runs one suite against each twin and its real counterpart.
"""
