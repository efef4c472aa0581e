-- The baseline's database: balances stand in a table, a transfer locks both rows and commits alone.
-- As lean as its promises allow: one index per table, room for HOT updates, no foreign keys on the hot path.

CREATE SCHEMA baseline;

CREATE TABLE baseline.keys (
    hash bytea PRIMARY KEY,
    principal text NOT NULL,
    admin boolean NOT NULL
);

CREATE TABLE baseline.assets (
    code text PRIMARY KEY,
    scale smallint NOT NULL
);

CREATE TABLE baseline.accounts (
    id text PRIMARY KEY,
    asset text NOT NULL,
    owner text NOT NULL,
    status text NOT NULL DEFAULT 'open',
    balance numeric(38, 0) NOT NULL DEFAULT 0,
    overdraft_limit numeric(38, 0) NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT accounts_funds CHECK (balance + overdraft_limit >= 0 AND balance <= 1e36)
) WITH (fillfactor = 50);

-- Like Tellerline's operations, its key follows from (principal, Idempotency-Key): one index serves both.
CREATE TABLE baseline.transactions (
    id uuid PRIMARY KEY,
    principal text NOT NULL,
    fingerprint bytea NOT NULL,
    code text,
    available numeric(38, 0),
    source text NOT NULL,
    destination text NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT transactions_amount CHECK (amount > 0 AND amount <= 1e30),
    asset text NOT NULL,
    source_balance numeric(38, 0),
    destination_balance numeric(38, 0),
    is_destination_read boolean NOT NULL,
    reference text,
    metadata text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE baseline.entries (
    account_id text NOT NULL,
    seq bigint NOT NULL,
    transaction_id uuid NOT NULL,
    delta numeric(38, 0) NOT NULL,
    balance_after numeric(38, 0) NOT NULL,
    PRIMARY KEY (account_id, seq)
);

-- A whole transfer in one round trip. No row comes back when the id is taken: the transaction is then to be read.
CREATE FUNCTION baseline.transfer(
    id_ uuid, principal_ text, admin_ boolean, fingerprint_ bytea, source_ text, destination_ text, amount_ numeric,
    asset_ text, reference_ text, metadata_ text
) RETURNS TABLE (
    code text, available text, source_balance text, destination_balance text, is_destination_read boolean,
    recorded_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    account baseline.accounts;
    s baseline.accounts;
    d baseline.accounts;
    refusal text;
    funds numeric;
    recorded timestamptz;
    is_read boolean;
BEGIN
    FOR account IN
        SELECT a.* FROM baseline.accounts a WHERE a.id IN (source_, destination_)
         ORDER BY a.id FOR NO KEY UPDATE
    LOOP
        IF account.id = source_ THEN s := account; END IF;
        IF account.id = destination_ THEN d := account; END IF;
    END LOOP;
    is_read := admin_ OR coalesce(d.owner = principal_, false);
    IF source_ = destination_ THEN refusal := 'same_account';
    ELSIF s.id IS NULL OR d.id IS NULL OR NOT (admin_ OR s.owner = principal_) THEN refusal := 'account_not_found';
    ELSIF s.asset <> asset_ OR d.asset <> asset_ THEN refusal := 'asset_mismatch';
    ELSIF s.status <> 'open' THEN refusal := 'account_' || s.status;
    ELSIF d.status = 'closed' THEN refusal := 'account_closed';
    ELSIF s.balance + s.overdraft_limit < amount_ THEN
        refusal := 'insufficient_funds';
        funds := s.balance + s.overdraft_limit;
    ELSIF d.balance + amount_ > 1e36 THEN refusal := 'limit_exceeded';
    END IF;
    IF refusal IS NULL THEN
        s.balance := s.balance - amount_;
        d.balance := d.balance + amount_;
    END IF;
    INSERT INTO baseline.transactions (id, principal, fingerprint, code, available, source, destination, amount, asset,
        source_balance, destination_balance, is_destination_read, reference, metadata)
    VALUES (id_, principal_, fingerprint_, refusal, funds, source_, destination_, amount_, asset_, s.balance, d.balance, is_read,
        reference_, metadata_)
    ON CONFLICT DO NOTHING RETURNING transactions.recorded_at INTO recorded;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF refusal IS NULL THEN
        UPDATE baseline.accounts SET balance = CASE id WHEN source_ THEN s.balance ELSE d.balance END, seq = seq + 1
         WHERE id IN (source_, destination_);
        INSERT INTO baseline.entries VALUES
            (source_, s.seq + 1, id_, -amount_, s.balance), (destination_, d.seq + 1, id_, amount_, d.balance);
    END IF;
    RETURN QUERY SELECT refusal, funds::text, s.balance::text, d.balance::text, is_read, recorded;
END $$;
