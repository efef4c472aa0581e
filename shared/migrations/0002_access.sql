-- Access: who may call the gateway, and how the gateway finds its way in a journal that it may only read.

CREATE SCHEMA access;

-- A key is shown once, when it is made. What stands here is its SHA-256: a key holds 256 random bits, so no slow hash is needed.
CREATE TABLE access.keys (
    id text PRIMARY KEY CONSTRAINT keys_id CHECK (id ~ '^[0-9a-f]{16}$'),
    hash bytea NOT NULL CONSTRAINT keys_hash_length CHECK (length(hash) = 32),
    principal text NOT NULL
        CONSTRAINT keys_principal CHECK (principal ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$' AND principal !~ '^tellerline:'),
    scopes text[] NOT NULL CONSTRAINT keys_scopes
        CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY['read', 'write', 'payout', 'admin']),
    label text CONSTRAINT keys_label CHECK (length(label) <= 128),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE UNIQUE INDEX keys_hash ON access.keys (hash);
CREATE INDEX keys_principal_index ON access.keys (principal);

-- The gateway makes and revokes keys; it can neither change what a key may do nor erase that it was there.
GRANT USAGE ON SCHEMA access TO tellerline_gateway;
GRANT SELECT, INSERT, UPDATE (revoked_at, last_used_at) ON access.keys TO tellerline_gateway;

-- Operations on an account, in their order: what its metadata was at any of them. Transfers have no subject and cost nothing.
CREATE INDEX operations_subject ON ledger.operations (subject, partition, batch, line) WHERE subject IS NOT NULL;

-- An account's last entry of batches up to `batch_max`; 0 when there is none. The gapless sequence is searched: first back from
-- the end in growing steps (most questions are about yesterday), then by halves. No index beside the primary key is needed.
CREATE FUNCTION ledger.seq_until(account text, batch_max bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    high bigint;  -- every entry after it lies past batch_max
    low bigint := 0;  -- it, or an entry after it, is the answer
    step bigint := 1;
    probe bigint;
    found_batch bigint;
BEGIN
    SELECT seq, batch INTO high, found_batch FROM ledger.entries WHERE account_id = account ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND OR found_batch <= batch_max THEN
        RETURN coalesce(high, 0);
    END IF;
    high := high - 1;
    WHILE low < high LOOP
        probe := CASE WHEN step > 0 THEN greatest(high - step + 1, 1) ELSE (low + high + 1) / 2 END;
        SELECT batch INTO found_batch FROM ledger.entries WHERE account_id = account AND seq = probe;
        IF found_batch <= batch_max THEN
            low := probe;
            step := 0;
        ELSE
            high := probe - 1;
            step := step * 2;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- The last batch of a partition that was recorded at `instant` or before; 0 when there is none.
CREATE FUNCTION ledger.batch_until(of_partition integer, instant timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT batch FROM ledger.batches WHERE partition = of_partition AND recorded_at <= instant
         ORDER BY recorded_at DESC LIMIT 1), 0)
$$;
