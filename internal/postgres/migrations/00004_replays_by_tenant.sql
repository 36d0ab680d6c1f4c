-- +goose Up
-- tenant_id leads every key of what belongs to a tenant. The index keeps its
-- name, by which nodes of an older version know what it refuses.
DROP INDEX replays_running;
CREATE UNIQUE INDEX replays_running ON replays (tenant_id, webhook_id) WHERE open AND ended_at IS NULL;
