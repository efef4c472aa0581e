-- Access: the API keys with which clients call the gateway.

CREATE SCHEMA access;

-- A key is shown once, when it is made. Here is its SHA-256: a key holds 256 random bits, so no slow hash is needed.
CREATE TABLE access.keys (
    -- Stands in the text of the key, too, and names it in lists and logs (shared.domain.api_keys).
    id text PRIMARY KEY CONSTRAINT keys_id CHECK (id ~ '^[0-9a-f]{16}$'),
    hash bytea NOT NULL CONSTRAINT keys_hash_length CHECK (length(hash) = 32),
    -- Whose the key is. `tellerline:…` are the principals of the services themselves, and no client may pass for one.
    principal text NOT NULL CONSTRAINT keys_principal
        CHECK (principal ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$' AND principal !~ '^tellerline:'),
    -- A key that may do nothing, or something that no route knows, is a mistake.
    scopes text[] NOT NULL CONSTRAINT keys_scopes
        CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY['read', 'write', 'payout', 'admin']),
    label text CONSTRAINT keys_label CHECK (length(label) <= 128),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    last_used_at timestamptz
);
-- The gateway finds a key by the hash of what a client sent.
CREATE UNIQUE INDEX keys_hash ON access.keys (hash);
-- `tellerline keys list --principal`.
CREATE INDEX keys_principal_index ON access.keys (principal);

-- The gateway looks keys up and notes their use; `tellerline keys` makes and revokes them, also with the gateway's role.
-- Neither can change what a key may do, or erase that it was there.
GRANT USAGE ON SCHEMA access TO tellerline_gateway;
GRANT SELECT, INSERT, UPDATE (revoked_at, last_used_at) ON access.keys TO tellerline_gateway;
