-- +goose Up

-- Deliveries of which no attempt has been made, as one transaction accepted
-- them for a webhook: many in a row. They are in the order in which they are
-- due, and due_at is the first one's time. What becomes of them stands in the
-- queue and in the history; the row goes with the last of them.
CREATE TABLE bundles (
    accepted_in INTEGER NOT NULL, -- the transaction
    webhook_id  BLOB    NOT NULL,
    due_at      INTEGER NOT NULL,
    tenant_id   TEXT    NOT NULL,
    size        INTEGER NOT NULL, -- deliveries
    deliveries  BLOB    NOT NULL,
    PRIMARY KEY (accepted_in, webhook_id, due_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX bundles_due ON bundles (webhook_id, due_at);

ALTER TABLE events ADD COLUMN accepted_in INTEGER; -- where its bundles are found; NULL: it has none

-- Claims end with the process, which alone has the database open: they need
-- not be written. An older server that would not look for bundles misses this
-- column, and does not start.
ALTER TABLE queue DROP COLUMN claim;
