"""The pure core: no I/O, no clock, no randomness.

What it needs comes in as arguments; what it decides goes out as lines.
"""
