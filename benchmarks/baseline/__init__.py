"""The baseline: the same transfers over the same HTTP, each in a database transaction of its own."""
