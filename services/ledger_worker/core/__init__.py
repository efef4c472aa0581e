"""The pure core: no I/O, no clock, no randomness.

Everything it needs is passed in as arguments; what it decides is returned, and added to a batch as COPY lines.
"""
