"""The routes, one module for each noun: what they take and give, and which use case they call."""
