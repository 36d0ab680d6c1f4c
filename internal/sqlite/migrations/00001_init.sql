-- +goose Up
-- Times are microseconds since 1970. Ids are the 16 bytes of a UUIDv7, except
-- an event's, which may be the producer's own text. tenant_id leads every key.

CREATE TABLE tenants (
    name       TEXT    NOT NULL PRIMARY KEY,
    paused     INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id         BLOB    NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL, -- empty: the operator's
    name       TEXT    NOT NULL,
    prefix     TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    tenant_id       TEXT    NOT NULL,
    id              BLOB    NOT NULL,
    url             TEXT    NOT NULL,
    content_type    TEXT    NOT NULL,
    sealed          BLOB,             -- secret and headers, encrypted; NULL when there are none
    events          TEXT    NOT NULL, -- JSON array
    active          INTEGER NOT NULL,
    description     TEXT    NOT NULL,
    insecure_ssl    INTEGER NOT NULL,
    timeout         INTEGER NOT NULL, -- microseconds; 0: the server's default
    retry_schedule  TEXT,             -- JSON array of microseconds; NULL: the server's default
    max_in_flight   INTEGER NOT NULL, -- 0: the server's default
    rate_limit      REAL    NOT NULL, -- attempts a second; 0: no limit
    ordered         INTEGER NOT NULL,
    paused          INTEGER NOT NULL,
    failing_since   INTEGER,
    failing_warned  INTEGER NOT NULL,
    disabled_at     INTEGER,
    disabled_code   TEXT,
    disabled_reason TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_types (
    name        TEXT    NOT NULL PRIMARY KEY,
    description TEXT    NOT NULL,
    notes       TEXT    NOT NULL,
    schema      BLOB,
    example     BLOB,
    deprecated  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    tenant_id   TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    occurred_at INTEGER,
    created_at  INTEGER NOT NULL,
    deliveries  INTEGER NOT NULL,
    payload     BLOB    NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

-- The deliveries that are not settled: small and hot.
CREATE TABLE queue (
    tenant_id   TEXT    NOT NULL,
    event_id    TEXT    NOT NULL,
    webhook_id  BLOB    NOT NULL,
    trigger     TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    retries     INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    claim       BLOB, -- the run that has the right to send it; that of an earlier run is void
    PRIMARY KEY (tenant_id, event_id, webhook_id)
) STRICT, WITHOUT ROWID;

-- A lane is refilled from here, and the webhooks with work are found here by
-- skipping from one webhook to the next.
CREATE INDEX queue_due ON queue (webhook_id, due_at);

-- Events with deliveries that are still to be written, in the order of the
-- webhooks' ids.
CREATE TABLE fanouts (
    tenant_id TEXT NOT NULL,
    event_id  TEXT NOT NULL,
    after     BLOB NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
) STRICT, WITHOUT ROWID;

-- History: one row for each attempt, written once.
CREATE TABLE attempts (
    tenant_id       TEXT    NOT NULL,
    id              BLOB    NOT NULL,
    webhook_id      BLOB    NOT NULL,
    event_id        TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    number          INTEGER NOT NULL,
    trigger         TEXT    NOT NULL,
    at              INTEGER NOT NULL,
    url             TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    status_code     INTEGER NOT NULL,
    failure         TEXT    NOT NULL,
    detail          TEXT    NOT NULL,
    next_attempt_at INTEGER,
    remote_ip       TEXT    NOT NULL,
    tls_version     TEXT    NOT NULL,
    dns             INTEGER NOT NULL, -- microseconds, as are the next four
    connect         INTEGER NOT NULL,
    tls             INTEGER NOT NULL,
    first_byte      INTEGER NOT NULL,
    total           INTEGER NOT NULL,
    truncated       INTEGER NOT NULL,
    request_header  TEXT    NOT NULL,
    response_header TEXT    NOT NULL,
    response_body   BLOB,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_webhook ON attempts (tenant_id, webhook_id);
CREATE INDEX attempts_event ON attempts (tenant_id, event_id);
CREATE INDEX attempts_unsuccessful ON attempts (tenant_id) WHERE status <> 'success';

CREATE TABLE idempotency_keys (
    scope      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    body_hash  BLOB    NOT NULL,
    answer     TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
