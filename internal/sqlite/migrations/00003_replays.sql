-- +goose Up

-- Past deliveries that are sent again.
CREATE TABLE replays (
    tenant_id  TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    webhook_id BLOB    NOT NULL,
    from_at    INTEGER,          -- of the events' acceptance; NULL: the beginning
    to_at      INTEGER NOT NULL,
    status     TEXT    NOT NULL,
    events     TEXT    NOT NULL, -- JSON array; empty: all
    dry_run    INTEGER NOT NULL,
    rate       REAL    NOT NULL, -- deliveries a second
    state      TEXT    NOT NULL,
    after      BLOB    NOT NULL, -- the last attempt that was looked at while collecting
    total      INTEGER NOT NULL,
    queued     INTEGER NOT NULL,
    skipped    INTEGER NOT NULL,
    open       INTEGER NOT NULL, -- 1: there is work to do, be it to clear what was collected
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX replays_open ON replays (open, ended_at);

-- What a replay has collected and not yet queued, in the order of acceptance.
CREATE TABLE replay_deliveries (
    replay_id   BLOB    NOT NULL,
    accepted_at INTEGER NOT NULL,
    event_id    TEXT    NOT NULL,
    attempts    INTEGER NOT NULL, -- how many were made
    PRIMARY KEY (replay_id, accepted_at, event_id)
) STRICT, WITHOUT ROWID;
