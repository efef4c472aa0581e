"""The poller's SQL, by noun."""
