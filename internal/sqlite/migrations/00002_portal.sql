-- +goose Up

-- Browsers that are signed in to the portal, and the one-time links that can
-- become sessions. Only hashes of tokens are kept.
CREATE TABLE sessions (
    hash       BLOB    NOT NULL PRIMARY KEY,
    link       INTEGER NOT NULL, -- 1: a link that was not yet followed
    tenant_id  TEXT    NOT NULL, -- empty: the operator's
    key_hash   BLOB    NOT NULL, -- of the API key that it ends with
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_expiry ON sessions (expires_at);

-- What charts are drawn from: attempts counted by minute, in the transaction
-- that records them. A tenant's sum has an empty webhook_id, the sum of all
-- tenants an empty tenant_id too. The latency columns count attempts by their
-- total time, each up to its number of milliseconds.
CREATE TABLE tallies (
    tenant_id  TEXT    NOT NULL,
    webhook_id BLOB    NOT NULL,
    minute     INTEGER NOT NULL, -- since 1970
    successes  INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    to_5       INTEGER NOT NULL,
    to_10      INTEGER NOT NULL,
    to_25      INTEGER NOT NULL,
    to_50      INTEGER NOT NULL,
    to_100     INTEGER NOT NULL,
    to_250     INTEGER NOT NULL,
    to_500     INTEGER NOT NULL,
    to_1000    INTEGER NOT NULL,
    to_2500    INTEGER NOT NULL,
    to_5000    INTEGER NOT NULL,
    to_10000   INTEGER NOT NULL,
    above      INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, minute)
) STRICT, WITHOUT ROWID;

CREATE INDEX tallies_minute ON tallies (minute);
