-- A sweep is a row of its own and collects all deposits of one address that are not swept yet. A listed transaction is
-- identified by its content: sender, recipient, amount, and its number among equal ones (ADR 17).

DROP VIEW mixer.mix_heads;

-- How much of the list need not be read again: its beginning, counted in transactions and bytes, and the hash of these
-- bytes. The first reading after this migration reads the whole list.
DROP TABLE mixer.list_cursors;
CREATE TABLE mixer.list_cursors (
    network text PRIMARY KEY,
    rows bigint NOT NULL CONSTRAINT list_cursors_rows CHECK (rows >= 0),
    bytes bigint NOT NULL CONSTRAINT list_cursors_bytes CHECK (bytes >= 0),
    prefix_hash bytea NOT NULL,
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER TABLE mixer.mixes
    -- What the address must hold at least before it is swept and credited, in minor units: promised with the order.
    ADD COLUMN minimum ledger.amount NOT NULL DEFAULT 1,
    -- Confirmed deposits that no sweep collects yet.
    ADD COLUMN unswept_units numeric NOT NULL DEFAULT 0
        CONSTRAINT mixes_unswept_units CHECK (unswept_units >= 0 AND unswept_units < 1e100),
    -- What was swept and is not credited, because it is finer than the ledger's scale: the next sweep adds to it.
    ADD COLUMN rest_units numeric NOT NULL DEFAULT 0
        CONSTRAINT mixes_rest_units CHECK (rest_units >= 0 AND rest_units < 1e100),
    -- Since when the network's list lacks transactions of this address that were recorded. Until they are back,
    -- nothing of this address is swept or credited.
    ADD COLUMN disputed_at timestamptz;
CREATE INDEX mixes_worth_sweeping ON mixer.mixes (id) WHERE unswept_units >= minimum * 1e22;
CREATE INDEX mixes_disputed ON mixer.mixes (id) WHERE disputed_at IS NOT NULL;

-- Intents of sweeps, as payouts.intents are those of payouts.
ALTER TABLE mixer.sweeps RENAME TO sweep_intents;
ALTER TABLE mixer.sweep_intents RENAME COLUMN deposit_id TO sweep_id;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_pkey TO sweep_intents_pkey;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_deposit_id_attempt_key TO sweep_intents_sweep_id_attempt_key;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_leg TO sweep_intents_leg;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_attempt TO sweep_intents_attempt;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_amount_units TO sweep_intents_amount_units;
ALTER TABLE mixer.sweep_intents RENAME CONSTRAINT sweeps_ended TO sweep_intents_ended;
ALTER TABLE mixer.sweep_intents DROP CONSTRAINT sweeps_deposit_id_fkey;
ALTER INDEX mixer.sweeps_open RENAME TO sweep_intents_open;
DROP INDEX mixer.sweeps_taken;

CREATE TABLE mixer.sweeps (
    id uuid PRIMARY KEY,
    mix_id uuid NOT NULL REFERENCES mixer.mixes,
    -- The exact sum of its deposits. Bounded on both sides, because CHECK (x > 0) lets NaN in.
    amount_units numeric NOT NULL CONSTRAINT sweeps_amount_units CHECK (amount_units > 0 AND amount_units < 1e80),
    -- What is credited, in minor units: the whole ones of the sweep and of the rest before it.
    credit_minor numeric CONSTRAINT sweeps_credit_minor CHECK (credit_minor >= 0 AND credit_minor < 1e80),
    state text NOT NULL DEFAULT 'planned' CONSTRAINT sweeps_state
        CHECK (state IN ('planned', 'sending', 'seen', 'credited', 'stuck', 'cancelled')),
    stuck_in text,
    reason text,
    CONSTRAINT sweeps_stuck CHECK ((state = 'stuck') = (stuck_in IS NOT NULL)),
    CONSTRAINT sweeps_credit CHECK (state NOT IN ('seen', 'credited') OR credit_minor IS NOT NULL),
    attempts integer NOT NULL DEFAULT 0,
    -- Part of the id of the command that credits the sweep: it grows once an attempt was read as rejected.
    credit_attempt integer NOT NULL DEFAULT 1,
    credit_operation_id uuid,
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claim bigint NOT NULL DEFAULT 0,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
);

-- Until now each deposit was swept by itself: its sweep keeps its id, from which the id of its credit follows. Rows that
-- had used up their attempts go on. A transfer of an address to itself brought nothing, and was no deposit.
INSERT INTO mixer.sweeps (id, mix_id, amount_units, credit_minor, state, reason, credit_attempt, credit_operation_id,
                          planned_at)
SELECT id, mix_id, amount_units,
       CASE WHEN 'swept' IN (state, stuck_in) OR state = 'credited' THEN amount_minor END,
       CASE WHEN sender = address AND state <> 'credited' AND 'swept' NOT IN (state, coalesce(stuck_in, ''))
                 AND NOT EXISTS (SELECT FROM mixer.sweep_intents i WHERE i.sweep_id = d.id AND i.ended IS NULL)
            THEN 'cancelled'
            ELSE CASE coalesce(stuck_in, state)
                     WHEN 'seen' THEN 'planned' WHEN 'sweeping' THEN 'sending' WHEN 'swept' THEN 'seen'
                     ELSE state END END,
       CASE WHEN sender = address THEN 'a transfer of an address to itself is no deposit' ELSE reason END,
       credit_attempt, credit_operation_id, seen_at
  FROM mixer.deposits d;
ALTER TABLE mixer.sweep_intents ADD CONSTRAINT sweep_intents_sweep_id_fkey FOREIGN KEY (sweep_id) REFERENCES mixer.sweeps;
CREATE INDEX sweeps_mix ON mixer.sweeps (mix_id);
CREATE INDEX sweeps_due ON mixer.sweeps (next_at) WHERE state IN ('planned', 'sending', 'seen');
CREATE INDEX sweeps_open ON mixer.sweeps (state) WHERE state NOT IN ('credited', 'cancelled');

UPDATE mixer.mixes m SET rest_units = d.rest
  FROM (SELECT mix_id, sum(rest_units) AS rest FROM mixer.deposits
         WHERE state = 'credited' OR 'swept' IN (state, stuck_in) GROUP BY mix_id) d
 WHERE d.mix_id = m.id;

-- Which of the equal listed transactions a transfer was: its number among them instead of a hash with its timestamp.
ALTER TABLE mixer.sweep_intents
    ADD COLUMN seen_occurrence integer CONSTRAINT sweep_intents_occurrence CHECK (seen_occurrence >= 1);
UPDATE mixer.sweep_intents i SET seen_occurrence = n.number
  FROM (SELECT id, row_number() OVER (PARTITION BY source, destination, amount_units ORDER BY opened_at, id) AS number
          FROM mixer.sweep_intents WHERE seen_row IS NOT NULL) n
 WHERE n.id = i.id;
ALTER TABLE mixer.sweep_intents
    DROP CONSTRAINT sweeps_seen,
    DROP COLUMN seen_row,
    ADD CONSTRAINT sweep_intents_seen CHECK (coalesce(ended = 'seen', false) = (seen_occurrence IS NOT NULL));
-- One listed transaction is not two sweeps.
CREATE UNIQUE INDEX sweep_intents_seen_once ON mixer.sweep_intents (source, destination, amount_units, seen_occurrence)
    WHERE seen_occurrence IS NOT NULL;

ALTER TABLE payouts.intents
    ADD COLUMN seen_occurrence integer CONSTRAINT intents_occurrence CHECK (seen_occurrence >= 1);
UPDATE payouts.intents i SET seen_occurrence = n.number
  FROM (SELECT id, row_number() OVER (PARTITION BY source, destination, amount_units ORDER BY opened_at, id) AS number
          FROM payouts.intents WHERE seen_row IS NOT NULL) n
 WHERE n.id = i.id;
ALTER TABLE payouts.intents
    DROP CONSTRAINT intents_seen,
    DROP COLUMN seen_row,
    ADD CONSTRAINT intents_seen
        CHECK (coalesce(ended IN ('seen', 'returned', 'left'), false) = (seen_occurrence IS NOT NULL));
-- A destination may be longer than an index can hold. Two destinations with one hash only wait for one another.
CREATE UNIQUE INDEX intents_seen_once ON payouts.intents (source, md5(destination), amount_units, seen_occurrence)
    WHERE seen_occurrence IS NOT NULL;
DROP INDEX payouts.intents_open;
CREATE UNIQUE INDEX intents_open ON payouts.intents (source, md5(destination), amount_units) WHERE ended IS NULL;

ALTER TABLE mixer.deposits
    DROP CONSTRAINT deposits_instance_listed_at_sender_address_amount_units_occ_key,
    ADD COLUMN sender_hash bytea,
    -- The sweep that collects it; null while it waits for more.
    ADD COLUMN sweep_id uuid,
    -- Since when its address shows it too; null while only the list does. Only then it counts.
    ADD COLUMN confirmed_at timestamptz;
UPDATE mixer.deposits d
   SET sender_hash = sha256(convert_to(sender, 'UTF8')), sweep_id = d.id, instance = 'jobcoin',
       occurrence = n.number, attempts = 0,
       confirmed_at = CASE WHEN s.state <> 'cancelled' THEN d.seen_at END,
       next_at = CASE WHEN s.state <> 'cancelled' THEN d.next_at ELSE 'infinity' END
  FROM (SELECT id, row_number() OVER (PARTITION BY sender, address, amount_units ORDER BY occurred_at, occurrence, id)
                   AS number FROM mixer.deposits) n, mixer.sweeps s
 WHERE n.id = d.id AND s.id = d.id;
ALTER TABLE mixer.deposits RENAME COLUMN instance TO network;
ALTER TABLE mixer.deposits
    ALTER COLUMN sender_hash SET NOT NULL,
    DROP COLUMN listed_at, DROP COLUMN amount_minor, DROP COLUMN rest_units, DROP COLUMN state, DROP COLUMN stuck_in,
    DROP COLUMN reason, DROP COLUMN credit_attempt, DROP COLUMN credit_operation_id, DROP COLUMN claim,
    DROP COLUMN claimed_until,
    ADD CONSTRAINT deposits_sweep_id_fkey FOREIGN KEY (sweep_id) REFERENCES mixer.sweeps,
    -- The sender by its hash, because an address may be longer than an index can hold.
    ADD CONSTRAINT deposits_identity UNIQUE (network, address, sender_hash, amount_units, occurrence);
CREATE INDEX deposits_sweep ON mixer.deposits (sweep_id) WHERE sweep_id IS NOT NULL;
CREATE INDEX deposits_unswept ON mixer.deposits (mix_id) WHERE sweep_id IS NULL AND confirmed_at IS NOT NULL;
CREATE INDEX deposits_unconfirmed ON mixer.deposits (next_at) WHERE confirmed_at IS NULL;

-- What the API shows of a mix; amounts are minor units of JOB. Coins count as received as soon as they are confirmed,
-- though the address may hold too little to be swept. The mix exists if the journal has its order as posted, with this
-- content: another command may have used the id. `reason`: why it is stuck, else why it waits.
CREATE VIEW mixer.mix_heads AS
    SELECT m.id, m.operation_id, m.owner, m.deposit_address, m.destinations, m.fee_ppm, m.delay_ms_min, m.delay_ms_max,
           m.created_at, m.minimum, d.received, c.fee, p.paid, d.received - c.fee - p.paid AS remaining, p.next_due_at,
           CASE WHEN s.stuck OR m.disputed_at IS NOT NULL OR c.stuck OR p.stuck THEN 'stuck'
                WHEN s.open OR m.unswept_units >= m.minimum * 1e22 THEN 'sweeping'
                WHEN p.open OR c.open OR s.credited > c.count THEN 'paying'
                WHEN s.credited > 0 THEN 'completed'
                ELSE 'waiting' END AS status,
           coalesce(CASE WHEN m.disputed_at IS NOT NULL THEN 'the network lists transactions of this address no more' END,
                    s.stuck_reason, c.stuck_reason, p.stuck_reason, s.reason, c.reason, p.reason) AS reason
      FROM mixer.mixes m
      JOIN ledger.operations o ON o.id = m.operation_id AND o.kind = 'mix.create.v1' AND o.outcome = 'posted'
       AND o.fingerprint = m.fingerprint
      CROSS JOIN LATERAL (
          SELECT coalesce(div(sum(amount_units), 1e22), 0) AS received
            FROM mixer.deposits WHERE mix_id = m.id AND confirmed_at IS NOT NULL) d
      CROSS JOIN LATERAL (
          SELECT coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state IN ('planned', 'sending', 'seen')), false) AS open,
                 count(*) FILTER (WHERE credit_operation_id IS NOT NULL) AS credited,
                 min(reason) FILTER (WHERE state = 'stuck') AS stuck_reason,
                 min(reason) FILTER (WHERE state IN ('planned', 'sending', 'seen')) AS reason
            FROM mixer.sweeps WHERE mix_id = m.id) s
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(fee), 0) AS fee, coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state = 'new'), false) AS open, count(*) AS count,
                 min(reason) FILTER (WHERE state = 'stuck') AS stuck_reason,
                 min(reason) FILTER (WHERE state = 'new') AS reason
            FROM payouts.credits WHERE mix_id = m.id) c
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(amount) FILTER (WHERE state IN ('sent', 'paid', 'resolved')), 0) AS paid,
                 coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state NOT IN ('paid', 'stuck', 'resolved', 'cancelled')), false) AS open,
                 min(due_at) FILTER (WHERE state IN ('planned', 'held')) AS next_due_at,
                 min(reason) FILTER (WHERE state = 'stuck') AS stuck_reason,
                 min(reason) FILTER (WHERE state NOT IN ('paid', 'stuck', 'resolved', 'cancelled')) AS reason
            FROM payouts.payouts WHERE mix_id = m.id) p;

GRANT SELECT ON mixer.list_cursors, mixer.sweeps, mixer.mix_heads
    TO tellerline_gateway, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT INSERT ON mixer.list_cursors, mixer.sweeps TO tellerline_poller;
GRANT UPDATE (rows, bytes, prefix_hash, read_at) ON mixer.list_cursors TO tellerline_poller;
GRANT UPDATE (unswept_units, rest_units, disputed_at) ON mixer.mixes TO tellerline_poller;
GRANT UPDATE (sweep_id, confirmed_at, attempts, next_at) ON mixer.deposits TO tellerline_poller;
GRANT UPDATE (credit_minor, state, stuck_in, reason, attempts, credit_attempt, credit_operation_id, next_at, claim,
              claimed_until) ON mixer.sweeps TO tellerline_poller;
GRANT UPDATE (seen_occurrence) ON mixer.sweep_intents TO tellerline_poller;
GRANT UPDATE (seen_occurrence) ON payouts.intents TO tellerline_distributor;
