"""The distributor's SQL."""
