-- Fingerprints of the two secrets that every process of the ledger must share. Another naming key would give a repeated
-- request another command id, and money would move twice. Null only until `tellerline migrate` has written them.
ALTER TABLE ledger.constants
    ADD COLUMN naming_key_fingerprint text,
    ADD COLUMN secret_fingerprint text,
    ADD CONSTRAINT constants_fingerprints CHECK ((naming_key_fingerprint IS NULL) = (secret_fingerprint IS NULL));
