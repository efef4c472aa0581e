-- The journal (ADR 0002): balances are not a table, an account's balance stands in its last entry.
-- Rows of the journal are only ever inserted; grants below make sure of it (DESIGN §3.7).

CREATE SCHEMA ledger;

-- Bounded on both sides, because CHECK (x > 0) lets NaN in.
CREATE DOMAIN ledger.amount AS numeric(38, 0)
    CONSTRAINT amount_bounds CHECK (VALUE > 0 AND VALUE <= 1e30);
CREATE DOMAIN ledger.balance AS numeric(38, 0)
    CONSTRAINT balance_bounds CHECK (VALUE >= -1e36 AND VALUE <= 1e36);

-- One row: what never changes for the life of the ledger.
CREATE TABLE ledger.constants (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT constants_one_row CHECK (only_row),
    partitions smallint NOT NULL CONSTRAINT constants_partitions CHECK (partitions BETWEEN 1 AND 256),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE ledger.assets (
    code text PRIMARY KEY CONSTRAINT assets_code CHECK (code ~ '^[A-Z][A-Z0-9._-]{0,15}$'),
    scale smallint NOT NULL CONSTRAINT assets_scale CHECK (scale BETWEEN 0 AND 30),
    name text NOT NULL,
    -- Null for the assets that a ledger is born with.
    operation_id uuid
);

-- Id, asset, owner and partition never change. Status and metadata repeat, for lists, what the journal says last.
CREATE TABLE ledger.accounts (
    id text PRIMARY KEY CONSTRAINT accounts_id CHECK (length(id) BETWEEN 1 AND 64),
    asset text NOT NULL,
    owner text NOT NULL,
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    status text NOT NULL CONSTRAINT accounts_status CHECK (status IN ('open', 'frozen', 'closed')),
    metadata text
);
CREATE INDEX accounts_owner ON ledger.accounts (owner, id);

-- One row per command: the idempotency record. Those that moved money are the transactions.
CREATE TABLE ledger.operations (
    id uuid PRIMARY KEY,
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    line integer NOT NULL,
    kind text NOT NULL,
    principal text NOT NULL,
    -- 16 bytes; all zero where any content is a repeat (a cancelled operation).
    fingerprint bytea NOT NULL CONSTRAINT operations_fingerprint CHECK (length(fingerprint) = 16),
    outcome text NOT NULL CONSTRAINT operations_outcome CHECK (outcome IN ('posted', 'rejected', 'started')),
    code text CONSTRAINT operations_code CHECK ((outcome = 'rejected') = (code IS NOT NULL)),
    -- JSON of what a refusal says beside its code: {"available": "…", "required": "…"} in minor units.
    detail text,
    -- JSON array of [source, destination, amount in minor units as text, asset]; null for what moves no money.
    postings text,
    -- The account, hold or asset that an operation without postings is about.
    subject text,
    reference text,
    metadata text
);
CREATE UNIQUE INDEX operations_place ON ledger.operations (partition, batch, line);
CREATE INDEX operations_reference ON ledger.operations (reference) WHERE reference IS NOT NULL;

-- What an operation did to one account. The net of a transit pair belongs to a batch, not to one operation.
CREATE TABLE ledger.entries (
    account_id text NOT NULL,
    seq bigint NOT NULL CONSTRAINT entries_seq CHECK (seq >= 1),
    operation_id uuid,
    asset text NOT NULL,
    delta ledger.balance NOT NULL,
    held_delta ledger.balance NOT NULL,
    balance_after ledger.balance NOT NULL,
    held_after ledger.balance NOT NULL CONSTRAINT entries_held CHECK (held_after >= 0),
    limit_after ledger.balance NOT NULL CONSTRAINT entries_limit CHECK (limit_after >= 0),
    status_after text NOT NULL CONSTRAINT entries_status CHECK (status_after IN ('open', 'frozen', 'closed')),
    partition smallint NOT NULL,
    batch bigint NOT NULL,
    line integer NOT NULL,
    PRIMARY KEY (account_id, seq),
    -- DESIGN §3.3. Accounts of the ledger itself are exempt.
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
    -- JSON object: source partition → its last batch whose transit rows to here have been folded in.
    cursors text NOT NULL,
    prev_hash bytea NOT NULL,
    content_hash bytea NOT NULL,
    -- sha256(prev_hash ‖ content_hash ‖ place ‖ epoch ‖ recorded_at ‖ cursors), see ledger.batch_hash.
    hash bytea NOT NULL CONSTRAINT batches_hash CHECK (length(hash) = 32),
    PRIMARY KEY (partition, batch)
);
CREATE INDEX batches_recorded_at ON ledger.batches (recorded_at, partition);

-- Credits on their way to another partition (ADR 0003): one row per source batch and destination.
CREATE TABLE ledger.transit (
    source smallint NOT NULL,
    batch bigint NOT NULL,
    destination smallint NOT NULL,
    -- JSON, shared/messages is not its schema: see services/ledger_worker/core/transit.py.
    credits text NOT NULL,
    PRIMARY KEY (source, batch, destination)
);
CREATE INDEX transit_destination ON ledger.transit (destination, source, batch);

-- The batch of the destination that folded a transit row in: proof of settlement, found by key.
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
    hold_id uuid PRIMARY KEY,
    ended text NOT NULL CONSTRAINT hold_ends_ended CHECK (ended IN ('captured', 'voided', 'expired')),
    operation_id uuid NOT NULL,
    partition smallint NOT NULL,
    batch bigint NOT NULL
);

-- Who may write a partition. Rows are made once, by `migrate`.
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

-- Every COPY into entries balances, per partition, batch and asset (DESIGN §3.1). A statement trigger over the rows that
-- came together costs next to nothing; a row trigger costs 40 %.
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

-- The one definition of a batch's hash; the worker's insert and `verify` both call it.
CREATE FUNCTION ledger.batch_hash(
    prev_hash bytea, content_hash bytea, partition integer, batch bigint, epoch bigint, recorded_at timestamptz, cursors text
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(prev_hash || content_hash || convert_to(concat_ws('|', 'tellerline.batch.v1', partition, batch, epoch,
        (extract(epoch FROM recorded_at) * 1000000)::bigint, cursors), 'UTF8'))
$$;

-- Microseconds since 1970 UTC, as messages carry instants.
CREATE FUNCTION ledger.us(instant timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM instant) * 1000000)::bigint
$$;

CREATE VIEW ledger.account_heads AS
    SELECT a.id, a.asset, a.owner, a.partition, a.status, a.metadata, b.recorded_at AS created_at,
           coalesce(e.seq, 0) AS seq, coalesce(e.balance_after, 0) AS balance,
           coalesce(e.held_after, 0) AS held, coalesce(e.limit_after, 0) AS overdraft_limit
      FROM ledger.accounts a
      JOIN ledger.batches b ON b.partition = a.partition AND b.batch = a.batch
      LEFT JOIN LATERAL (
          SELECT seq, balance_after, held_after, limit_after FROM ledger.entries
           WHERE account_id = a.id ORDER BY seq DESC LIMIT 1) e ON true;

INSERT INTO ledger.assets (code, scale, name) VALUES
    ('USD', 2, 'US dollar'), ('EUR', 2, 'Euro'), ('CNY', 2, 'Renminbi'), ('CAD', 2, 'Canadian dollar'),
    ('RUB', 2, 'Rouble'), ('BTC', 8, 'Bitcoin'), ('ETC', 18, 'Ethereum Classic'), ('ETH', 18, 'Ether'),
    ('MATIC', 18, 'Polygon'), ('JOB', 18, 'Jobcoin');

-- Grants. Login roles are made by `migrate`; nobody may update or delete rows of the journal.
GRANT USAGE ON SCHEMA ledger TO tellerline_gateway, tellerline_worker, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger
    TO tellerline_gateway, tellerline_worker, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT INSERT ON ledger.assets, ledger.accounts, ledger.operations, ledger.entries, ledger.batches, ledger.transit,
    ledger.settlements, ledger.holds, ledger.hold_ends TO tellerline_worker;
GRANT UPDATE (status, metadata) ON ledger.accounts TO tellerline_worker;
GRANT UPDATE ON ledger.partitions TO tellerline_worker;
GRANT INSERT, UPDATE, DELETE ON ledger.workers TO tellerline_worker;
