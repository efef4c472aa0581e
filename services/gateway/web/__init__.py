"""HTTP itself: connections, routes, bodies, queries, answers. Nothing here knows what a ledger is."""
