"""The distributor's SQL, one file for each noun."""
