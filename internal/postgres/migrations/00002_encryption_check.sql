-- +goose Up
-- A value that was sealed with the key of the first node.
CREATE TABLE encryption_check (
    one    boolean NOT NULL DEFAULT true CHECK (one) PRIMARY KEY,
    sealed bytea   NOT NULL
);
