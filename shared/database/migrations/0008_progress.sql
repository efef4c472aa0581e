-- Each running process says every two seconds, here, that it goes on and what of it is not ready. Gateways read it for
-- /readyz, which a process that is stopped or stuck could not be asked for.

-- Workers are seen by advisory locks (ADR 11), which know no pid.
ALTER TABLE ledger.partitions DROP COLUMN backend_pid;

-- The processes of deposit poller and distributor. One that ends on purpose takes its row back.
CREATE TABLE mixer.processes (
    id text PRIMARY KEY,
    service text NOT NULL,
    seen_at timestamptz NOT NULL,
    -- JSON object: the part that is not ready → why.
    missing text NOT NULL
) WITH (fillfactor = 50);

GRANT SELECT ON mixer.processes TO tellerline_gateway, tellerline_verify;
GRANT SELECT, INSERT, UPDATE, DELETE ON mixer.processes TO tellerline_poller, tellerline_distributor;
