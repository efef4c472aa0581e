"""The engine: takes deliveries, has the core decide them, commits in groups, then replies and acknowledges."""
