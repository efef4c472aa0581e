-- For reading a batch as a whole, as `tellerline verify` does; see entries_place in 0007_lists.sql.
CREATE INDEX accounts_place ON ledger.accounts USING brin (partition, batch)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX settlements_place ON ledger.settlements USING brin (destination, batch)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX holds_place ON ledger.holds USING brin (partition, batch)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX hold_ends_place ON ledger.hold_ends USING brin (partition, batch)
    WITH (pages_per_range = 16, autosummarize = on);
