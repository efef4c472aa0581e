-- Instants up to which nothing can be written any more. A batch's recorded_at is taken inside its transaction, after the
-- fence, and is later than that of every batch committed before, and not before the transaction began (ledger.append).
--   now       the database's clock, or the newest batch if the clock was set back behind it
--   final     everything recorded until then can be read in the next statement, and nothing more will be
--   position  the same, without trust in the clock: the newest batch of which that is certain
CREATE FUNCTION ledger.instants() RETURNS TABLE (now_us bigint, final_us bigint, position_us bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    clock timestamptz := clock_timestamp() - interval '1 microsecond';
    newest timestamptz;
    oldest timestamptz;
    is_hidden boolean;
BEGIN
    SELECT max(b.recorded_at) INTO newest FROM ledger.batches b;
    -- Read last: a transaction that begins after this takes its instant later than `clock` and `newest`. One that has
    -- locked nothing yet has not passed the fence, so it will take its instant later, too; one that is gone is visible.
    SELECT min(a.xact_start), bool_or(a.query = '<insufficient privilege>') INTO oldest, is_hidden
      FROM pg_stat_activity a WHERE a.usename = 'tellerline_worker' AND (a.backend_xid IS NOT NULL OR a.xact_start IS NULL);
    IF is_hidden THEN
        RAISE EXCEPTION 'the owner of ledger.instants may not see the transactions of tellerline_worker'
            USING HINT = 'make it a member of pg_read_all_stats';
    END IF;
    clock := greatest(clock, newest);
    oldest := coalesce(oldest, 'infinity') - interval '1 microsecond';
    RETURN QUERY SELECT ledger.us(clock), ledger.us(least(clock, oldest)),
                        CASE WHEN newest IS NULL THEN 0 ELSE ledger.us(least(newest, oldest)) END;
END $$;
REVOKE EXECUTE ON FUNCTION ledger.instants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.instants() TO tellerline_gateway;
