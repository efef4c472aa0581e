"""What the gateway does, without HTTP: submit commands, wait for outcomes, find repeats, read."""
