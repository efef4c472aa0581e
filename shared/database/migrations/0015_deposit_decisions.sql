-- An operator ends what no time heals of deposits, too: a decision about a sweep is found by the poller in the journal, by
-- a cursor of its own, and carried out in the transaction that moves it on (ADR 18).

DROP INDEX ledger.operations_decisions;
CREATE INDEX operations_decisions ON ledger.operations (partition, batch, line)
    WHERE kind IN ('payout.retry.v1', 'payout.resolve.v1', 'payout.cancel.v1', 'deposit.retry.v1', 'deposit.resolve.v1');

CREATE TABLE mixer.journal_cursors (
    partition smallint PRIMARY KEY,
    batch bigint NOT NULL CONSTRAINT journal_cursors_batch CHECK (batch >= 0)
);

-- As payouts.decisions.
CREATE TABLE mixer.decisions (
    id uuid PRIMARY KEY,
    sweep_id uuid NOT NULL REFERENCES mixer.sweeps,
    verb text NOT NULL CONSTRAINT decisions_verb CHECK (verb IN ('retry', 'resolve')),
    is_applied boolean NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX decisions_sweep ON mixer.decisions (sweep_id, taken_at);

-- The order in which an operator looks at sweeps.
ALTER TABLE mixer.sweeps ADD COLUMN attention smallint NOT NULL GENERATED ALWAYS AS (
    CASE WHEN state = 'stuck' THEN 0
         WHEN state = 'cancelled' THEN 3
         WHEN state = 'credited' THEN 4
         WHEN reason IS NOT NULL THEN 1
         ELSE 2 END) STORED;
CREATE INDEX sweeps_attention ON mixer.sweeps (attention, planned_at, id);

GRANT SELECT ON mixer.journal_cursors, mixer.decisions
    TO tellerline_gateway, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT INSERT ON mixer.journal_cursors, mixer.decisions TO tellerline_poller;
GRANT UPDATE (batch) ON mixer.journal_cursors TO tellerline_poller;

-- Credits that had used up their attempts go on: what stopped them is tried for ever now.
UPDATE payouts.credits SET state = stuck_in, stuck_in = NULL, attempts = 0, next_at = clock_timestamp() WHERE state = 'stuck';
