-- The journal (ADR 2). Balances are not a table: an account's balance stands in its last entry. Rows of the journal are
-- only inserted, never updated or deleted; the grants at the end see to it. A row's partition and batch name the batch
-- that wrote it.

CREATE SCHEMA ledger;

-- Minor units. Bounded on both sides, because CHECK (x > 0) lets NaN in.
CREATE DOMAIN ledger.amount AS numeric(38, 0)
    CONSTRAINT amount_bounds CHECK (VALUE > 0 AND VALUE <= 1e30);
CREATE DOMAIN ledger.balance AS numeric(38, 0)
    CONSTRAINT balance_bounds CHECK (VALUE >= -1e36 AND VALUE <= 1e36);

-- What every process of the ledger must agree on.
CREATE TABLE ledger.constants (
    -- One row at most: a second one could say something else.
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT constants_one_row CHECK (only_row),
    -- As many as there are names of queues (shared.messages.topology).
    partitions smallint NOT NULL CONSTRAINT constants_partitions CHECK (partitions BETWEEN 1 AND 256),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE ledger.assets (
    -- As shared.domain.ids.ASSET_CODE: the code stands in the names of system accounts, so it holds no colon.
    code text PRIMARY KEY CONSTRAINT assets_code CHECK (code ~ '^[A-Z][A-Z0-9._-]{0,15}$'),
    -- One unit is 10^scale minor units, and one unit must fit into an amount.
    scale smallint NOT NULL CONSTRAINT assets_scale CHECK (scale BETWEEN 0 AND 30),
    name text NOT NULL,
    -- Null for the assets that a ledger is created with.
    operation_id uuid
);

-- Id, asset and owner never change. Status and metadata repeat, for lists, what the journal said last.
CREATE TABLE ledger.accounts (
    -- The key refuses a second account of one name, whichever partition opens it.
    id text PRIMARY KEY CONSTRAINT accounts_id CHECK (length(id) BETWEEN 1 AND 64),
    asset text NOT NULL,
    owner text NOT NULL,
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    status text NOT NULL CONSTRAINT accounts_status CHECK (status IN ('open', 'frozen', 'closed')),
    metadata text
);
-- A client lists its own accounts by id.
CREATE INDEX accounts_owner ON ledger.accounts (owner, id);

-- One row per command. Those that moved money are the transactions.
CREATE TABLE ledger.operations (
    -- The command's id. The key is what makes a command take effect once.
    id uuid PRIMARY KEY,
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    line integer NOT NULL,
    kind text NOT NULL,
    principal text NOT NULL,
    -- 16 bytes; all zero where any content is a repeat (a cancelled operation).
    fingerprint bytea NOT NULL CONSTRAINT operations_fingerprint CHECK (length(fingerprint) = 16),
    -- 'started': decided once partitions that come later in its way have agreed.
    outcome text NOT NULL CONSTRAINT operations_outcome CHECK (outcome IN ('posted', 'rejected', 'started')),
    -- A rejection says why, and nothing else has a reason for one.
    code text CONSTRAINT operations_code CHECK ((outcome = 'rejected') = (code IS NOT NULL)),
    -- JSON of what a rejection says beside its code: {"available": "…", "required": "…"} in minor units.
    detail text,
    -- JSON array of [source, destination, amount in minor units as text, asset]; null for what moves no money.
    postings text,
    -- The account, hold or asset that an operation without postings is about.
    subject text,
    reference text,
    metadata text
);
-- A batch as a whole, in its order; and no two commands have the same place in it.
CREATE UNIQUE INDEX operations_place ON ledger.operations (partition, batch, line);
CREATE INDEX operations_reference ON ledger.operations (reference) WHERE reference IS NOT NULL;
-- Operations on an account, in their order: what its metadata was after any of them. Transfers have no subject, so they
-- cost nothing here.
CREATE INDEX operations_subject ON ledger.operations (subject, partition, batch, line) WHERE subject IS NOT NULL;
-- The distributor finds the credits of mixes without reading everybody else's operations.
CREATE INDEX operations_mixer ON ledger.operations (partition, batch, line)
    WHERE principal = 'tellerline:mixer' AND kind = 'deposit.v1';

-- What an operation did to one account, net. The net of a transit account belongs to a batch, not to one operation.
CREATE TABLE ledger.entries (
    account_id text NOT NULL,
    seq bigint NOT NULL CONSTRAINT entries_seq CHECK (seq >= 1),
    operation_id uuid,
    asset text NOT NULL,
    delta ledger.balance NOT NULL,
    held_delta ledger.balance NOT NULL,
    balance_after ledger.balance NOT NULL,
    -- available = balance − held + limit: a negative sum of holds would add funds that nobody paid in.
    held_after ledger.balance NOT NULL CONSTRAINT entries_held CHECK (held_after >= 0),
    limit_after ledger.balance NOT NULL CONSTRAINT entries_limit CHECK (limit_after >= 0),
    status_after text NOT NULL CONSTRAINT entries_status CHECK (status_after IN ('open', 'frozen', 'closed')),
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    line integer NOT NULL,
    -- The account's own gapless sequence. A second writer of the account meets it even if it passed the fence.
    PRIMARY KEY (account_id, seq),
    -- What lowers the available funds leaves them at zero or more. System accounts are exempt: they mirror the world.
    CONSTRAINT entries_funds CHECK (
        (delta >= 0 AND held_delta <= 0)
        OR balance_after - held_after + limit_after >= 0
        OR account_id ~ '^(world|house|fees|fx|suspense|transit):'
    )
);
-- For reading a batch as a whole; nearly free to keep, since batches are written in the order of their numbers.
CREATE INDEX entries_place ON ledger.entries USING brin (partition, batch)
    WITH (pages_per_range = 16, autosummarize = on);

CREATE TABLE ledger.batches (
    partition smallint NOT NULL,
    batch bigint NOT NULL CONSTRAINT batches_batch CHECK (batch >= 1),
    epoch bigint NOT NULL,
    operations integer NOT NULL,
    entries integer NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- JSON object: source partition → its last batch whose transit row to here has been taken in.
    cursors text NOT NULL,
    prev_hash bytea NOT NULL,
    content_hash bytea NOT NULL,
    -- See ledger.batch_hash.
    hash bytea NOT NULL CONSTRAINT batches_hash CHECK (length(hash) = 32),
    -- A stale owner that passed the fence cannot write the number that its successor has written.
    PRIMARY KEY (partition, batch)
);
-- A list of transactions goes by the time of their commits.
CREATE INDEX batches_recorded_at ON ledger.batches (recorded_at, partition);

-- Credits on their way to another partition (ADR 3): one row for each source batch and destination.
CREATE TABLE ledger.transit (
    source smallint NOT NULL,
    batch bigint NOT NULL,
    destination smallint NOT NULL,
    -- JSON, see shared/journal/transit.py.
    credits text NOT NULL,
    PRIMARY KEY (source, batch, destination)
);
-- The destination reads what waits for it, past its cursor, in order.
CREATE INDEX transit_destination ON ledger.transit (destination, source, batch);

-- The batch of the destination that took a transit row in. The key makes sure that no row is taken in twice.
CREATE TABLE ledger.settlements (
    source smallint NOT NULL,
    source_batch bigint NOT NULL,
    destination smallint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (source, source_batch, destination)
);

CREATE TABLE ledger.holds (
    id uuid PRIMARY KEY,
    account_id text NOT NULL,
    asset text NOT NULL,
    amount ledger.amount NOT NULL,
    destination text,
    operation_id uuid NOT NULL,
    expires_at_us bigint,
    partition smallint NOT NULL,
    batch bigint NOT NULL
);
CREATE INDEX holds_account ON ledger.holds (account_id);

CREATE TABLE ledger.hold_ends (
    -- A hold ends once.
    hold_id uuid PRIMARY KEY,
    ended text NOT NULL CONSTRAINT hold_ends_ended CHECK (ended IN ('captured', 'voided', 'expired')),
    operation_id uuid NOT NULL,
    partition smallint NOT NULL,
    batch bigint NOT NULL
);

-- Who may write a partition; `migrate` makes the rows. This table and the next are updated all the time, so their pages
-- keep room for new versions.
CREATE TABLE ledger.partitions (
    partition smallint PRIMARY KEY,
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz NOT NULL DEFAULT '-infinity',
    backend_pid integer
) WITH (fillfactor = 50);

CREATE TABLE ledger.workers (
    id text PRIMARY KEY,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What one statement adds to `entries` sums to zero per partition, batch and asset. A statement trigger, over the rows
-- that came together, costs next to nothing; a row trigger costs 40 %.
CREATE FUNCTION ledger.check_entries_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken record;
BEGIN
    SELECT partition, batch, asset, sum(delta) AS total INTO broken
      FROM inserted GROUP BY partition, batch, asset HAVING sum(delta) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entries of partition % batch % do not sum to zero in %: %',
            broken.partition, broken.batch, broken.asset, broken.total
            USING ERRCODE = 'TL001';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER entries_balance AFTER INSERT ON ledger.entries
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_entries_balance();

-- The hash of a batch covers the one before it: who changes a batch must change all that follow.
CREATE FUNCTION ledger.batch_hash(
    prev_hash bytea, content_hash bytea, partition integer, batch bigint, epoch bigint, recorded_at timestamptz,
    cursors text
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(prev_hash || content_hash || convert_to(concat_ws('|', 'tellerline.batch.v1', partition, batch, epoch,
        (extract(epoch FROM recorded_at) * 1000000)::bigint, cursors), 'UTF8'))
$$;

-- Microseconds since 1970 UTC, as messages carry instants.
CREATE FUNCTION ledger.us(instant timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM instant) * 1000000)::bigint
$$;

-- First statement of every batch transaction (ADR 1): who does not own all of these partitions under these epochs
-- writes nothing. It locks rows and updates none: an updated row slows down with every long snapshot that is open.
CREATE FUNCTION ledger.fence(wanted smallint[], worker text, epochs bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held integer;
BEGIN
    SELECT count(*) INTO held FROM (
        SELECT 1 FROM ledger.partitions p JOIN unnest(wanted, epochs) AS n (partition, epoch) USING (partition)
         WHERE p.owner = worker AND p.epoch = n.epoch ORDER BY p.partition FOR NO KEY UPDATE OF p) AS locked;
    IF held <> cardinality(wanted) THEN
        RAISE EXCEPTION 'partitions % are not all owned by % under epochs %', wanted, worker, epochs
            USING ERRCODE = 'TL002';
    END IF;
END $$;

-- Writes the batches of one group commit. `doc`: table → rows, each an array of texts in the order of the columns here;
-- hashes are hex. A small group comes whole, in this one round trip; a large one has sent operations and entries by
-- COPY before, in the same transaction.
-- Raises TL002 when fenced, TL003 when a batch does not follow the last one of its partition.
CREATE FUNCTION ledger.append(worker text, doc jsonb) RETURNS TABLE (written smallint, recorded_at_us bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    followed integer;
BEGIN
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
                 greatest(b.recorded_at + interval '1 microsecond', clock_timestamp()) AS at) AS t
     WHERE n.batch = coalesce(b.batch, 0) + 1
    RETURNING batches.partition, ledger.us(batches.recorded_at);
    GET DIAGNOSTICS followed = ROW_COUNT;
    IF followed <> jsonb_array_length(doc->'batches') THEN
        RAISE EXCEPTION '% of % batches follow the last of their partition',
            followed, jsonb_array_length(doc->'batches')
            USING ERRCODE = 'TL003';
    END IF;
END $$;

-- Accounts as their last entry left them.
CREATE VIEW ledger.account_heads AS
    SELECT a.id, a.asset, a.owner, a.partition, a.status, a.metadata, b.recorded_at AS created_at,
           coalesce(e.seq, 0) AS seq, coalesce(e.balance_after, 0) AS balance,
           coalesce(e.held_after, 0) AS held, coalesce(e.limit_after, 0) AS overdraft_limit
      FROM ledger.accounts a
      JOIN ledger.batches b ON b.partition = a.partition AND b.batch = a.batch
      LEFT JOIN LATERAL (
          SELECT seq, balance_after, held_after, limit_after FROM ledger.entries
           WHERE account_id = a.id ORDER BY seq DESC LIMIT 1) e ON true;

-- An account's last entry of batches up to `batch_max`; 0 when there is none. The gapless sequence is searched, first
-- back from the end in growing steps (most questions are about yesterday), then by halves. No index beside the primary
-- key is needed.
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

-- What a ledger is created with; others are made by commands.
INSERT INTO ledger.assets (code, scale, name) VALUES
    ('USD', 2, 'US dollar'), ('EUR', 2, 'Euro'), ('CNY', 2, 'Renminbi'), ('CAD', 2, 'Canadian dollar'),
    ('RUB', 2, 'Rouble'), ('BTC', 8, 'Bitcoin'), ('ETC', 18, 'Ethereum Classic'), ('ETH', 18, 'Ether'),
    ('MATIC', 18, 'Polygon'), ('JOB', 18, 'Jobcoin');

-- The login roles are made by `migrate`. Everybody may read the journal.
GRANT USAGE ON SCHEMA ledger
    TO tellerline_gateway, tellerline_worker, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger
    TO tellerline_gateway, tellerline_worker, tellerline_poller, tellerline_distributor, tellerline_verify;
-- The worker alone adds to it, and nobody may change or delete what is there.
GRANT INSERT ON ledger.assets, ledger.accounts, ledger.operations, ledger.entries, ledger.batches, ledger.transit,
    ledger.settlements, ledger.holds, ledger.hold_ends TO tellerline_worker;
-- These two columns only repeat what entries and operations say.
GRANT UPDATE (status, metadata) ON ledger.accounts TO tellerline_worker;
-- Leases are no part of the journal. Only `migrate` makes a partition.
GRANT UPDATE ON ledger.partitions TO tellerline_worker;
GRANT INSERT, UPDATE, DELETE ON ledger.workers TO tellerline_worker;
