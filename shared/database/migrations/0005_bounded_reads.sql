-- Indexes for statements that would read a whole table of the mixer, and so cost more the more it has done.

-- Which rows of the network's list the sweeps of an address have been found as.
CREATE INDEX sweeps_taken ON mixer.sweeps (source) WHERE seen_row IS NOT NULL;

-- What is not finished, by state, for metrics. Rows that are finished are not counted: there is no end to them.
CREATE INDEX deposits_open ON mixer.deposits (state) WHERE state <> 'credited';
CREATE INDEX credits_open ON payouts.credits (state) WHERE state <> 'planned';
CREATE INDEX payouts_open ON payouts.payouts (state) WHERE state <> 'paid';
