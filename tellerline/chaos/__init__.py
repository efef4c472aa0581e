"""Faults at random under mixed load, and the proof that nothing that a client was told was lost or done twice."""
