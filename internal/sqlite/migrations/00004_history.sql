-- +goose Up

-- Events that went to nobody have no attempts by which they could be found once
-- they are old.
CREATE INDEX events_undelivered ON events (created_at) WHERE deliveries = 0;

-- One value that is encrypted with the store's key, to know that key by.
CREATE TABLE encryption (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    sealed BLOB    NOT NULL
) STRICT;
