"""Why a process does not start."""


class StartRefused(Exception):
    """The environment does not suit the ledger. The message says what is wrong, and what to do, in one line."""
