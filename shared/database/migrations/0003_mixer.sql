-- The mixer: mixes and deposits are the poller's rows, payouts the distributor's. Money stands in the journal. These
-- rows say what has been done on the network, which knows no ids: every transfer there has its intent row first (ADR 8).
--
-- Deposits, credits and payouts have the same columns for work that several copies of a service share:
--   state       the last step that is done; services and tests hold the table of steps that may follow it;
--   stuck_in    the state in which a stuck row was when an operator became necessary, and `reason` why;
--   attempts    how often the present step failed;
--   next_at     when the next step is due;
--   claim, claimed_until   a process claims a row for a time. Each claim has a new number, and every later change names
--               it, so that a process whose claim has run out changes nothing.

CREATE SCHEMA mixer;

-- What an order asks for. Whether it was posted, the journal says: the order's operation opens the account mix:<id>.
CREATE TABLE mixer.mixes (
    -- A function of the operation's id, and so is the deposit address: an order has them again when it is repeated.
    id uuid PRIMARY KEY,
    operation_id uuid NOT NULL UNIQUE,
    -- As in ledger.operations: other content under the same id is another order.
    fingerprint bytea NOT NULL CONSTRAINT mixes_fingerprint CHECK (length(fingerprint) = 16),
    owner text NOT NULL,
    -- A deposit must belong to one mix.
    deposit_address text NOT NULL UNIQUE,
    -- Bounds as in shared.messages.mixer.
    destinations text[] NOT NULL CONSTRAINT mixes_destinations CHECK (cardinality(destinations) BETWEEN 1 AND 20),
    fee_ppm integer NOT NULL CONSTRAINT mixes_fee_ppm CHECK (fee_ppm BETWEEN 0 AND 1000000),
    delay_ms_min bigint NOT NULL CONSTRAINT mixes_delay_ms_min CHECK (delay_ms_min >= 0),
    delay_ms_max bigint NOT NULL CONSTRAINT mixes_delay_ms_max CHECK (delay_ms_max >= delay_ms_min),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Lists of mixes: a client's own, and everybody's.
CREATE INDEX mixes_owner ON mixer.mixes (owner, created_at, id);
CREATE INDEX mixes_created_at ON mixer.mixes (created_at, id);

-- Where the next reading of the network's list begins, and the hash that proves that the rows before have not changed.
CREATE TABLE mixer.list_cursors (
    instance text PRIMARY KEY,
    position bigint NOT NULL CONSTRAINT list_cursors_position CHECK (position >= 0),
    prefix_hash bytea NOT NULL,
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Transactions of the network's list that went to a deposit address.
CREATE TABLE mixer.deposits (
    -- A hash of what identifies the listed transaction, since the network gives it no id.
    id uuid PRIMARY KEY,
    mix_id uuid NOT NULL REFERENCES mixer.mixes,
    instance text NOT NULL,
    listed_at text NOT NULL,
    occurred_at timestamptz NOT NULL,
    sender text NOT NULL,
    address text NOT NULL,
    -- The transaction's number among equal ones.
    occurrence integer NOT NULL CONSTRAINT deposits_occurrence CHECK (occurrence >= 1),
    -- Units are 10^-40 of a coin, minor units 10^-18: what is finer than the ledger's scale is kept as rest_units.
    -- Bounded on both sides, because CHECK (x > 0) lets NaN in.
    amount_units numeric NOT NULL CONSTRAINT deposits_amount_units CHECK (amount_units > 0 AND amount_units < 1e80),
    amount_minor numeric NOT NULL CONSTRAINT deposits_amount_minor CHECK (amount_minor >= 0 AND amount_minor < 1e58),
    rest_units numeric NOT NULL CONSTRAINT deposits_rest_units CHECK (rest_units >= 0 AND rest_units < 1e22),
    CONSTRAINT deposits_exact CHECK (amount_units = amount_minor * 1e22 + rest_units),
    state text NOT NULL DEFAULT 'seen'
        CONSTRAINT deposits_state CHECK (state IN ('seen', 'sweeping', 'swept', 'credited', 'stuck')),
    stuck_in text,
    reason text,
    CONSTRAINT deposits_stuck CHECK ((state = 'stuck') = (stuck_in IS NOT NULL)),
    attempts integer NOT NULL DEFAULT 0,
    -- Part of the id of the command that credits the deposit: it grows once an attempt was read as rejected.
    credit_attempt integer NOT NULL DEFAULT 1,
    credit_operation_id uuid,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claim bigint NOT NULL DEFAULT 0,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity',
    -- One transaction is one deposit, should the hash ever be made differently.
    UNIQUE (instance, listed_at, sender, address, amount_units, occurrence)
);
CREATE INDEX deposits_mix ON mixer.deposits (mix_id);
-- Claims look for these.
CREATE INDEX deposits_due ON mixer.deposits (next_at) WHERE state IN ('seen', 'sweeping', 'swept');

-- Intents of sweeps: committed before anything is sent, and never deleted.
CREATE TABLE mixer.sweeps (
    id uuid PRIMARY KEY,
    deposit_id uuid NOT NULL REFERENCES mixer.deposits,
    -- A deposit needs one transfer. The column makes the table like payouts.intents.
    leg text NOT NULL CONSTRAINT sweeps_leg CHECK (leg = 'sweep'),
    attempt integer NOT NULL CONSTRAINT sweeps_attempt CHECK (attempt >= 1),
    source text NOT NULL,
    destination text NOT NULL,
    amount_units numeric NOT NULL CONSTRAINT sweeps_amount_units CHECK (amount_units > 0 AND amount_units < 1e80),
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A reading of the list that begins later and does not show the transfer proves that it was not applied.
    settles_at timestamptz NOT NULL,
    -- What the list showed; null while that is not known. 'refused': the network said that it did not apply it.
    ended text CONSTRAINT sweeps_ended CHECK (ended IN ('seen', 'absent', 'refused')),
    -- The listed transaction that the sweep was. Unique, because one transaction is not two sweeps.
    seen_row uuid UNIQUE,
    CONSTRAINT sweeps_seen CHECK (coalesce(ended = 'seen', false) = (seen_row IS NOT NULL)),
    UNIQUE (deposit_id, attempt)
);
-- In the list equal transfers cannot be told apart, so at most one of them is under way.
CREATE UNIQUE INDEX sweeps_open ON mixer.sweeps (source, destination, amount_units) WHERE ended IS NULL;

CREATE SCHEMA payouts;

-- How far the distributor has read the journal.
CREATE TABLE payouts.cursors (
    partition smallint PRIMARY KEY,
    batch bigint NOT NULL CONSTRAINT cursors_batch CHECK (batch >= 0)
);

-- Credits of mixes that were found in the journal: what must be paid on, less the fee.
CREATE TABLE payouts.credits (
    -- The operation that credited the mix. As the key it makes a credit be recorded once, however often it is read.
    id uuid PRIMARY KEY,
    mix_id uuid NOT NULL REFERENCES mixer.mixes,
    amount ledger.amount NOT NULL,
    fee ledger.balance CONSTRAINT credits_fee CHECK (fee >= 0 AND fee <= amount),
    state text NOT NULL DEFAULT 'new' CONSTRAINT credits_state CHECK (state IN ('new', 'planned', 'stuck')),
    stuck_in text,
    reason text,
    CONSTRAINT credits_stuck CHECK ((state = 'stuck') = (stuck_in IS NOT NULL)),
    -- The fee is part of the plan.
    CONSTRAINT credits_planned CHECK (state <> 'planned' OR fee IS NOT NULL),
    attempts integer NOT NULL DEFAULT 0,
    -- Part of the id of the command that posts the fee.
    fee_attempt integer NOT NULL DEFAULT 1,
    credited_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claim bigint NOT NULL DEFAULT 0,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX credits_mix ON payouts.credits (mix_id);
CREATE INDEX credits_due ON payouts.credits (next_at) WHERE state = 'new';

-- A payout goes house → one-shot address → destination: the address in the middle receives the amount once, so the
-- network pays it on only once.
CREATE TABLE payouts.payouts (
    id uuid PRIMARY KEY,
    credit_id uuid NOT NULL REFERENCES payouts.credits,
    mix_id uuid NOT NULL REFERENCES mixer.mixes,
    number integer NOT NULL CONSTRAINT payouts_number CHECK (number >= 1),
    destination text NOT NULL,
    amount ledger.amount NOT NULL,
    due_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'planned' CONSTRAINT payouts_state
        CHECK (state IN ('planned', 'held', 'funding', 'funded', 'sending', 'sent', 'paid', 'stuck')),
    stuck_in text,
    reason text,
    CONSTRAINT payouts_stuck CHECK ((state = 'stuck') = (stuck_in IS NOT NULL)),
    -- The ledger's hold, once it is placed.
    hold_id uuid,
    -- The one-shot address of the last funding.
    address text,
    attempts integer NOT NULL DEFAULT 0,
    -- Parts of the ids of the commands that place and capture the hold.
    hold_attempt integer NOT NULL DEFAULT 1,
    capture_attempt integer NOT NULL DEFAULT 1,
    paid_at timestamptz,
    next_at timestamptz NOT NULL,
    claim bigint NOT NULL DEFAULT 0,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity',
    -- A plan that is written twice fails.
    UNIQUE (credit_id, number)
);
CREATE INDEX payouts_mix ON payouts.payouts (mix_id);
CREATE INDEX payouts_due ON payouts.payouts (next_at) WHERE state NOT IN ('paid', 'stuck');

-- Intents of payouts, as mixer.sweeps are those of deposits.
CREATE TABLE payouts.intents (
    id uuid PRIMARY KEY,
    payout_id uuid NOT NULL REFERENCES payouts.payouts,
    -- fund: house → one-shot address. pay: one-shot address → destination.
    leg text NOT NULL CONSTRAINT intents_leg CHECK (leg IN ('fund', 'pay')),
    attempt integer NOT NULL CONSTRAINT intents_attempt CHECK (attempt >= 1),
    source text NOT NULL,
    destination text NOT NULL,
    amount_units numeric NOT NULL CONSTRAINT intents_amount_units CHECK (amount_units > 0 AND amount_units < 1e80),
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settles_at timestamptz NOT NULL,
    -- 'returned': taken for absent, it was applied after all, and its coins were sent back to the house.
    ended text CONSTRAINT intents_ended CHECK (ended IN ('seen', 'absent', 'refused', 'returned')),
    seen_row uuid UNIQUE,
    CONSTRAINT intents_seen CHECK (coalesce(ended IN ('seen', 'returned'), false) = (seen_row IS NOT NULL)),
    UNIQUE (payout_id, leg, attempt)
);
-- The distributor looks for those that were applied after all.
CREATE INDEX intents_absent_fundings ON payouts.intents (opened_at)
    WHERE leg = 'fund' AND ended IN ('absent', 'refused');
CREATE UNIQUE INDEX intents_open ON payouts.intents (source, destination, amount_units) WHERE ended IS NULL;

-- The payouts of a plan add up to the credit less the fee, or the commit fails. Checked at its end, when all are there.
CREATE FUNCTION payouts.check_plan() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    planned numeric;
BEGIN
    SELECT coalesce(sum(amount), 0) INTO planned FROM payouts.payouts WHERE credit_id = NEW.id;
    IF planned <> NEW.amount - NEW.fee THEN
        RAISE EXCEPTION 'payouts of credit % add up to %, not %', NEW.id, planned, NEW.amount - NEW.fee
            USING ERRCODE = 'TL002';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER credits_plan AFTER UPDATE OF state ON payouts.credits DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'planned') EXECUTE FUNCTION payouts.check_plan();

-- What the API shows of a mix; amounts are minor units of JOB. Coins count as received as soon as they are recorded. The
-- mix exists if the journal has its order as posted, with this content: another command may have used the id.
CREATE VIEW mixer.mix_heads AS
    SELECT m.id, m.operation_id, m.owner, m.deposit_address, m.destinations, m.fee_ppm, m.delay_ms_min, m.delay_ms_max,
           m.created_at, d.received, c.fee, p.paid, d.received - c.fee - p.paid AS remaining, p.next_due_at,
           CASE WHEN d.stuck OR c.stuck OR p.stuck THEN 'stuck'
                WHEN d.open THEN 'sweeping'
                WHEN p.open OR c.open OR d.credited > c.count THEN 'paying'
                WHEN d.received > 0 THEN 'completed'
                ELSE 'waiting' END AS status
      FROM mixer.mixes m
      JOIN ledger.operations o ON o.id = m.operation_id AND o.kind = 'mix.create.v1' AND o.outcome = 'posted'
       AND o.fingerprint = m.fingerprint
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(amount_minor), 0) AS received, coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state IN ('seen', 'sweeping', 'swept')), false) AS open,
                 count(*) FILTER (WHERE credit_operation_id IS NOT NULL) AS credited
            FROM mixer.deposits WHERE mix_id = m.id) d
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(fee), 0) AS fee, coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state = 'new'), false) AS open, count(*) AS count
            FROM payouts.credits WHERE mix_id = m.id) c
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(amount) FILTER (WHERE state IN ('sent', 'paid')), 0) AS paid,
                 coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state NOT IN ('paid', 'stuck')), false) AS open,
                 min(due_at) FILTER (WHERE state IN ('planned', 'held')) AS next_due_at
            FROM payouts.payouts WHERE mix_id = m.id) p;

-- A payout as the API shows it.
CREATE VIEW payouts.payout_heads AS
    SELECT id, mix_id, destination, amount, due_at, paid_at,
           CASE state WHEN 'planned' THEN 'planned' WHEN 'held' THEN 'planned' WHEN 'stuck' THEN 'stuck'
                      WHEN 'sent' THEN 'paid' WHEN 'paid' THEN 'paid' ELSE 'sending' END AS status
      FROM payouts.payouts;

-- Nothing is ever deleted. The gateway shows mixes; `verify` and the other service read them. A service writes its own
-- tables, and of their rows only the columns that its steps change: never what identifies a row, nor its amounts.
GRANT USAGE ON SCHEMA mixer, payouts
    TO tellerline_gateway, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT SELECT ON ALL TABLES IN SCHEMA mixer, payouts
    TO tellerline_gateway, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT INSERT ON mixer.mixes, mixer.list_cursors, mixer.deposits, mixer.sweeps TO tellerline_poller;
GRANT UPDATE (position, prefix_hash, read_at) ON mixer.list_cursors TO tellerline_poller;
GRANT UPDATE (state, stuck_in, reason, attempts, credit_attempt, credit_operation_id, next_at, claim, claimed_until)
    ON mixer.deposits TO tellerline_poller;
GRANT UPDATE (ended, seen_row) ON mixer.sweeps TO tellerline_poller;
GRANT INSERT ON payouts.cursors, payouts.credits, payouts.payouts, payouts.intents TO tellerline_distributor;
GRANT UPDATE (batch) ON payouts.cursors TO tellerline_distributor;
GRANT UPDATE (fee, state, stuck_in, reason, attempts, fee_attempt, next_at, claim, claimed_until)
    ON payouts.credits TO tellerline_distributor;
GRANT UPDATE (state, stuck_in, reason, hold_id, address, attempts, hold_attempt, capture_attempt, paid_at, next_at,
              claim, claimed_until) ON payouts.payouts TO tellerline_distributor;
GRANT UPDATE (ended, seen_row) ON payouts.intents TO tellerline_distributor;
