-- Payouts are planned from a seed, served mix by mix in turn, and listed by themselves. Late fundings are never given up.
-- An operator ends what no time heals. A decision about a payout is an operation of the journal (ADR 16); the distributor
-- finds it there and carries it out once, in the transaction that moves its cursor on.

-- All that is random in the plan of a credit follows from its seed, so the plan can be made again and compared.
ALTER TABLE payouts.credits ADD COLUMN seed uuid NOT NULL DEFAULT gen_random_uuid();

-- 'resolving': paid by other means, so its hold is to be captured. 'cancelling': its hold is to be voided.
ALTER TABLE payouts.payouts DROP CONSTRAINT payouts_state;
ALTER TABLE payouts.payouts ADD CONSTRAINT payouts_state
    CHECK (state IN ('planned', 'held', 'funding', 'funded', 'sending', 'sent', 'paid', 'stuck',
                     'resolving', 'resolved', 'cancelling', 'cancelled'));

-- A payout that is due waits in the queue, by its turn. It has none before it is due, while it waits for another try,
-- and once it has ended.
ALTER TABLE payouts.payouts ADD COLUMN turn bigint;
-- The order in which an operator looks at payouts: what is stuck, what waits for another try, and the rest.
ALTER TABLE payouts.payouts ADD COLUMN attention smallint NOT NULL GENERATED ALWAYS AS (
    CASE WHEN state = 'stuck' THEN 0
         WHEN state = 'cancelled' THEN 4
         WHEN state = 'resolved' THEN 5
         WHEN state = 'paid' THEN 6
         WHEN reason IS NOT NULL THEN 1
         WHEN state = 'sent' THEN 6
         WHEN state IN ('planned', 'held') THEN 3
         ELSE 2 END) STORED;

DROP INDEX payouts.payouts_due;
CREATE INDEX payouts_due ON payouts.payouts (next_at)
    WHERE turn IS NULL AND state NOT IN ('paid', 'stuck', 'resolved', 'cancelled');
CREATE INDEX payouts_turn ON payouts.payouts (turn) WHERE turn IS NOT NULL;
CREATE INDEX payouts_mix_turn ON payouts.payouts (mix_id, turn) WHERE turn IS NOT NULL;
DROP INDEX payouts.payouts_open;
CREATE INDEX payouts_open ON payouts.payouts (state) WHERE state NOT IN ('paid', 'resolved', 'cancelled');
CREATE INDEX payouts_oldest ON payouts.payouts (due_at) WHERE state NOT IN ('paid', 'resolved', 'cancelled');
-- The lists of a mix's payouts, and of the operator's.
DROP INDEX payouts.payouts_mix;
CREATE INDEX payouts_mix ON payouts.payouts (mix_id, due_at, id);
CREATE INDEX payouts_attention ON payouts.payouts (attention, due_at, id);
GRANT UPDATE (turn) ON payouts.payouts TO tellerline_distributor;

-- When a funding that was taken for absent is looked for again.
ALTER TABLE payouts.intents ADD COLUMN look_at timestamptz NOT NULL DEFAULT clock_timestamp();
GRANT UPDATE (look_at) ON payouts.intents TO tellerline_distributor;

-- Decisions that services look for in the journal.
CREATE INDEX operations_decisions ON ledger.operations (partition, batch, line)
    WHERE kind IN ('payout.retry.v1', 'payout.resolve.v1', 'payout.cancel.v1');

CREATE TABLE payouts.decisions (
    -- The decision's operation. As the key it makes a decision be carried out once, however often it is read.
    id uuid PRIMARY KEY,
    payout_id uuid NOT NULL REFERENCES payouts.payouts,
    verb text NOT NULL CONSTRAINT decisions_verb CHECK (verb IN ('retry', 'resolve', 'cancel')),
    -- False: the payout had gone on meanwhile, and nothing was changed.
    is_applied boolean NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX decisions_payout ON payouts.decisions (payout_id, taken_at);
GRANT SELECT ON payouts.decisions TO tellerline_gateway, tellerline_poller, tellerline_distributor, tellerline_verify;
GRANT INSERT ON payouts.decisions TO tellerline_distributor;

-- 'left': the coins arrived at the one-shot address, and then the payout was resolved: they are to go home.
ALTER TABLE payouts.intents DROP CONSTRAINT intents_ended;
ALTER TABLE payouts.intents ADD CONSTRAINT intents_ended
    CHECK (ended IN ('seen', 'absent', 'refused', 'returned', 'left'));
ALTER TABLE payouts.intents DROP CONSTRAINT intents_seen;
ALTER TABLE payouts.intents ADD CONSTRAINT intents_seen
    CHECK (coalesce(ended IN ('seen', 'returned', 'left'), false) = (seen_row IS NOT NULL));
DROP INDEX payouts.intents_absent_fundings;
CREATE INDEX intents_to_reclaim ON payouts.intents (look_at)
    WHERE leg = 'fund' AND ended IN ('absent', 'refused', 'left');

-- A payout as the API shows it. `reason`: why it waits or is stuck.
CREATE OR REPLACE VIEW payouts.payout_heads AS
    SELECT id, mix_id, destination, amount, due_at, paid_at,
           CASE WHEN state IN ('planned', 'held') THEN 'planned' WHEN state IN ('sent', 'paid') THEN 'paid'
                WHEN state IN ('stuck', 'resolved', 'cancelled') THEN state ELSE 'sending' END AS status,
           CASE WHEN state NOT IN ('paid', 'resolved', 'cancelled') THEN reason END AS reason
      FROM payouts.payouts;

-- As in 0003, but that payouts can be resolved and cancelled. `reason`: why it is stuck, else why it waits.
CREATE OR REPLACE VIEW mixer.mix_heads AS
    SELECT m.id, m.operation_id, m.owner, m.deposit_address, m.destinations, m.fee_ppm, m.delay_ms_min, m.delay_ms_max,
           m.created_at, d.received, c.fee, p.paid, d.received - c.fee - p.paid AS remaining, p.next_due_at,
           CASE WHEN d.stuck OR c.stuck OR p.stuck THEN 'stuck'
                WHEN d.open THEN 'sweeping'
                WHEN p.open OR c.open OR d.credited > c.count THEN 'paying'
                WHEN d.received > 0 THEN 'completed'
                ELSE 'waiting' END AS status,
           coalesce(d.stuck_reason, c.stuck_reason, p.stuck_reason, d.reason, c.reason, p.reason) AS reason
      FROM mixer.mixes m
      JOIN ledger.operations o ON o.id = m.operation_id AND o.kind = 'mix.create.v1' AND o.outcome = 'posted'
       AND o.fingerprint = m.fingerprint
      CROSS JOIN LATERAL (
          SELECT coalesce(sum(amount_minor), 0) AS received, coalesce(bool_or(state = 'stuck'), false) AS stuck,
                 coalesce(bool_or(state IN ('seen', 'sweeping', 'swept')), false) AS open,
                 count(*) FILTER (WHERE credit_operation_id IS NOT NULL) AS credited,
                 min(reason) FILTER (WHERE state = 'stuck') AS stuck_reason,
                 min(reason) FILTER (WHERE state NOT IN ('stuck', 'credited')) AS reason
            FROM mixer.deposits WHERE mix_id = m.id) d
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
