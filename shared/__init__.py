"""What the services share: money, ids, messages, and the ways to the database and the broker."""
