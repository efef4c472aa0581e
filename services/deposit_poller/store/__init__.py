"""The poller's SQL, one file for each noun."""
