-- +goose Up
-- What a node says of itself with each heartbeat; empty of one whose version
-- does not say it yet.
ALTER TABLE nodes
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN name       text        NOT NULL DEFAULT '',
    ADD COLUMN version    text        NOT NULL DEFAULT '',
    ADD COLUMN address    text        NOT NULL DEFAULT '';
