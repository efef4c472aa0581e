-- A list over all assets is one walk for each kind, however many assets it has. Rows without an asset are those of an
-- account's list, which the primary key leads to.
CREATE INDEX listed_of_all_assets ON ledger.listed (list, reference, kind, recorded_at, partition) WHERE asset <> '';
-- What a batch lists, for `tellerline verify`.
CREATE INDEX listed_place ON ledger.listed (partition, batch);

-- Writes the batches of one group commit. `doc`: table → rows, each an array of texts in the order of the columns here;
-- hashes are hex. A small group comes whole, in this one round trip; a large one has sent operations and entries by
-- COPY before, in the same transaction.
-- Raises TL002 when fenced, TL003 when a batch does not follow the last one of its partition, 55000 without `listed`.
CREATE OR REPLACE FUNCTION ledger.append(worker text, doc jsonb) RETURNS TABLE (written smallint, recorded_at_us bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    followed integer;
    newest timestamptz;
BEGIN
    -- A worker from before the lists would leave holes in them. With this SQLSTATE it blames no command, and tries again
    -- until it is replaced.
    IF NOT doc ? 'listed' THEN
        RAISE EXCEPTION 'a batch comes with its rows of ledger.listed' USING ERRCODE = '55000';
    END IF;
    PERFORM ledger.fence(array_agg((r->>0)::smallint), worker, array_agg((r->>2)::bigint))
       FROM jsonb_array_elements(doc->'batches') AS r;
    IF doc ? 'assets' THEN
        INSERT INTO ledger.assets (code, scale, name, operation_id)
        SELECT r->>0, (r->>1)::smallint, r->>2, (r->>3)::uuid
          FROM jsonb_array_elements(doc->'assets') AS r;
    END IF;
    IF doc ? 'accounts' THEN
        INSERT INTO ledger.accounts (id, asset, owner, partition, batch, status, metadata)
        SELECT r->>0, r->>1, r->>2, (r->>3)::smallint, (r->>4)::bigint, r->>5, r->>6
          FROM jsonb_array_elements(doc->'accounts') AS r;
    END IF;
    IF doc ? 'operations' THEN
        INSERT INTO ledger.operations (id, partition, batch, line, kind, principal, fingerprint, outcome, code, detail,
            postings, subject, reference, metadata)
        SELECT (r->>0)::uuid, (r->>1)::smallint, (r->>2)::bigint, (r->>3)::integer, r->>4, r->>5, (r->>6)::bytea,
               r->>7, r->>8, r->>9, r->>10, r->>11, r->>12, r->>13
          FROM jsonb_array_elements(doc->'operations') AS r;
    END IF;
    IF doc ? 'entries' THEN
        INSERT INTO ledger.entries (account_id, seq, operation_id, asset, delta, held_delta, balance_after, held_after,
            limit_after, status_after, partition, batch, line)
        SELECT r->>0, (r->>1)::bigint, (r->>2)::uuid, r->>3, (r->>4)::numeric, (r->>5)::numeric, (r->>6)::numeric,
               (r->>7)::numeric, (r->>8)::numeric, r->>9, (r->>10)::smallint, (r->>11)::bigint, (r->>12)::integer
          FROM jsonb_array_elements(doc->'entries') AS r;
    END IF;
    IF doc ? 'transit' THEN
        INSERT INTO ledger.transit (source, batch, destination, credits)
        SELECT (r->>0)::smallint, (r->>1)::bigint, (r->>2)::smallint, r->>3
          FROM jsonb_array_elements(doc->'transit') AS r;
    END IF;
    IF doc ? 'settlements' THEN
        INSERT INTO ledger.settlements (source, source_batch, destination, batch)
        SELECT (r->>0)::smallint, (r->>1)::bigint, (r->>2)::smallint, (r->>3)::bigint
          FROM jsonb_array_elements(doc->'settlements') AS r;
    END IF;
    IF doc ? 'holds' THEN
        INSERT INTO ledger.holds (id, account_id, asset, amount, destination, operation_id, expires_at_us, partition,
            batch)
        SELECT (r->>0)::uuid, r->>1, r->>2, (r->>3)::numeric, r->>4, (r->>5)::uuid, (r->>6)::bigint,
               (r->>7)::smallint, (r->>8)::bigint
          FROM jsonb_array_elements(doc->'holds') AS r;
    END IF;
    IF doc ? 'hold_ends' THEN
        INSERT INTO ledger.hold_ends (hold_id, ended, operation_id, partition, batch)
        SELECT (r->>0)::uuid, r->>1, (r->>2)::uuid, (r->>3)::smallint, (r->>4)::bigint
          FROM jsonb_array_elements(doc->'hold_ends') AS r;
    END IF;
    IF doc ? 'account_changes' THEN
        UPDATE ledger.accounts a SET status = r->>1, metadata = coalesce(r->>2, a.metadata)
          FROM jsonb_array_elements(doc->'account_changes') AS r WHERE a.id = r->>0;
    END IF;
    -- An instant later than that of every batch that anybody can have seen, and never before this transaction began,
    -- even if the clock was set back: ledger.instants relies on both.
    SELECT max(b.recorded_at) INTO newest FROM ledger.batches b;
    -- By key, whatever the planner thinks of a table that was small when it first looked: a join would read all of it.
    RETURN QUERY
    INSERT INTO ledger.batches (
        partition, batch, epoch, operations, entries, recorded_at, cursors, prev_hash, content_hash, hash)
    SELECT n.partition, n.batch, n.epoch, n.operations, n.entries, t.at, n.cursors, t.prev, n.content_hash,
           ledger.batch_hash(t.prev, n.content_hash, n.partition, n.batch, n.epoch, t.at, n.cursors)
      FROM (SELECT (r->>0)::smallint AS partition, (r->>1)::bigint AS batch, (r->>2)::bigint AS epoch,
                   (r->>3)::integer AS operations, (r->>4)::integer AS entries, r->>5 AS cursors,
                   decode(r->>6, 'hex') AS content_hash
              FROM jsonb_array_elements(doc->'batches') AS r) AS n
      LEFT JOIN LATERAL (
          SELECT last.batch, last.hash, last.recorded_at FROM ledger.batches last
           WHERE last.partition = n.partition ORDER BY last.batch DESC LIMIT 1) AS b ON true
     CROSS JOIN LATERAL (
          SELECT coalesce(b.hash, decode(repeat('00', 32), 'hex')) AS prev,
                 greatest(newest + interval '1 microsecond', clock_timestamp(), now()) AS at) AS t
     WHERE n.batch = coalesce(b.batch, 0) + 1
    RETURNING batches.partition, ledger.us(batches.recorded_at);
    GET DIAGNOSTICS followed = ROW_COUNT;
    IF followed <> jsonb_array_length(doc->'batches') THEN
        RAISE EXCEPTION '% of % batches follow the last of their partition',
            followed, jsonb_array_length(doc->'batches')
            USING ERRCODE = 'TL003';
    END IF;
    INSERT INTO ledger.listed (list, reference, asset, kind, recorded_at, partition, batch, lines, operations)
    SELECT r->>0, r->>1, r->>2, r->>3, b.recorded_at, b.partition, b.batch, (r->>6)::integer[], (r->>7)::uuid[]
      FROM jsonb_array_elements(doc->'listed') AS r
      JOIN ledger.batches b ON b.partition = (r->>4)::smallint AND b.batch = (r->>5)::bigint;
END $$;
