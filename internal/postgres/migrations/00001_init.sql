-- +goose Up
-- tenant_id leads the primary key of what belongs to a tenant, so that these
-- tables can be distributed by it. Text that is a key is compared byte by byte.

-- The runs of processes that work on this database. A claim holds while its
-- node's row is here and has not ended.
CREATE TABLE nodes (
    id       bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    beat_at  timestamptz NOT NULL,
    ended_at timestamptz -- found dead; kept for a while, for what it still had under way
) WITH (fillfactor = 50);

-- Each change of the registry is the next revision: over all nodes they are
-- made one after another.
CREATE TABLE revision (
    one boolean NOT NULL DEFAULT true CHECK (one) PRIMARY KEY,
    n   bigint  NOT NULL
) WITH (fillfactor = 50);

INSERT INTO revision (n) VALUES (0);

CREATE TABLE changes (
    revision   bigint           NOT NULL PRIMARY KEY,
    noun       text             NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    changed_at timestamptz      NOT NULL DEFAULT now()
);

CREATE TABLE tenants (
    name       text COLLATE "C" NOT NULL PRIMARY KEY,
    paused     boolean          NOT NULL,
    created_at timestamptz      NOT NULL
);

CREATE TABLE api_keys (
    id         uuid             NOT NULL PRIMARY KEY,
    tenant_id  text COLLATE "C" NOT NULL, -- empty: the operator's
    name       text             NOT NULL,
    prefix     text             NOT NULL,
    hash       bytea            NOT NULL UNIQUE,
    created_at timestamptz      NOT NULL
);

CREATE TABLE webhooks (
    tenant_id       text COLLATE "C" NOT NULL,
    id              uuid             NOT NULL,
    url             text             NOT NULL,
    content_type    text             NOT NULL,
    sealed          bytea,                     -- secret and headers, encrypted; NULL when there are none
    events          text[]           NOT NULL,
    active          boolean          NOT NULL,
    description     text             NOT NULL,
    insecure_ssl    boolean          NOT NULL,
    timeout         bigint           NOT NULL, -- microseconds; 0: the server's default
    retry_schedule  bigint[],                  -- microseconds; NULL: the server's default
    max_in_flight   integer          NOT NULL, -- 0: the server's default
    rate_limit      double precision NOT NULL, -- attempts a second; 0: no limit
    ordered         boolean          NOT NULL,
    paused          boolean          NOT NULL,
    failing_since   timestamptz,
    failing_warned  integer          NOT NULL,
    disabled_at     timestamptz,
    disabled_code   text,
    disabled_reason text,
    created_at      timestamptz      NOT NULL,
    updated_at      timestamptz      NOT NULL,
    deleted_at      timestamptz,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE event_types (
    name        text COLLATE "C" NOT NULL PRIMARY KEY,
    description text             NOT NULL,
    notes       text             NOT NULL,
    schema      bytea,
    example     bytea,
    deprecated  boolean          NOT NULL,
    created_at  timestamptz      NOT NULL,
    updated_at  timestamptz      NOT NULL
);

-- The day, in UTC, is that in the event's id, or of the acceptance when the
-- producer chose the id: then chosen_ids has it. What is older than the kept
-- days, and what no partition was made for, is in events_rest.
CREATE TABLE events (
    tenant_id   text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    created_at  timestamptz      NOT NULL,
    occurred_at timestamptz,
    day         date             NOT NULL,
    deliveries  integer          NOT NULL,
    type        text             NOT NULL,
    payload     bytea            NOT NULL,
    PRIMARY KEY (tenant_id, id, day)
) PARTITION BY RANGE (day);

CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE TABLE chosen_ids (
    tenant_id text COLLATE "C" NOT NULL,
    event_id  text COLLATE "C" NOT NULL,
    day       date             NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);

CREATE INDEX chosen_ids_day ON chosen_ids USING brin (day) WITH (pages_per_range = 16);

-- The deliveries that are not settled: small and hot. A delivery that is
-- settled by the node that accepted it is in no index but the key and
-- queue_claimed; queue_due holds only what a node may claim, so that looking
-- for work meets nothing that another node has in hand.
CREATE TABLE queue (
    tenant_id   text COLLATE "C" NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    webhook_id  uuid             NOT NULL,
    place       bigint           NOT NULL GENERATED ALWAYS AS IDENTITY, -- among those that are due at the same time
    accepted_at timestamptz      NOT NULL,
    due_at      timestamptz      NOT NULL,
    node        bigint,                    -- that has the right to send it
    day         date             NOT NULL, -- of the event
    size        integer          NOT NULL, -- of the payload, in bytes
    attempts    integer          NOT NULL DEFAULT 0,
    retries     integer          NOT NULL DEFAULT 0,
    trigger     text             NOT NULL,
    PRIMARY KEY (tenant_id, event_id, webhook_id)
) WITH (
    fillfactor = 85,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.1
);

-- A lane is refilled from here, and the webhooks with work are found here by
-- skipping from one webhook to the next.
CREATE INDEX queue_due ON queue (webhook_id, due_at, place) WHERE node IS NULL;
-- What a dead node had claimed.
CREATE INDEX queue_claimed ON queue (node, webhook_id) WHERE node IS NOT NULL;

-- The ordered webhooks whose deliveries one node sends, and no other.
CREATE TABLE lanes (
    tenant_id  text COLLATE "C" NOT NULL,
    webhook_id uuid             NOT NULL,
    node       bigint           NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id)
) WITH (fillfactor = 50);

CREATE INDEX lanes_webhook ON lanes (webhook_id);

-- Events with deliveries that are still to be written, in the order of the
-- webhooks' ids.
CREATE TABLE fanouts (
    tenant_id text COLLATE "C" NOT NULL,
    event_id  text COLLATE "C" NOT NULL,
    after     uuid             NOT NULL,
    day       date             NOT NULL, -- of the event
    PRIMARY KEY (tenant_id, event_id)
);

-- History: one row for each attempt, written once. An id begins with the time
-- at which it was made, so days are ranges of ids.
CREATE TABLE attempts (
    tenant_id       text COLLATE "C" NOT NULL,
    id              uuid             NOT NULL,
    webhook_id      uuid             NOT NULL,
    at              timestamptz      NOT NULL,
    next_attempt_at timestamptz,
    number          integer          NOT NULL,
    status_code     integer          NOT NULL,
    dns             integer          NOT NULL, -- microseconds, as are the next four
    connect         integer          NOT NULL,
    tls             integer          NOT NULL,
    first_byte      integer          NOT NULL,
    total           integer          NOT NULL,
    truncated       boolean          NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    event_type      text             NOT NULL,
    trigger         text             NOT NULL,
    status          text             NOT NULL,
    failure         text             NOT NULL,
    url             text             NOT NULL,
    remote_ip       text             NOT NULL,
    tls_version     text             NOT NULL,
    detail          text             NOT NULL,
    request_header  bytea            NOT NULL, -- bytes, since a receiver's need not be UTF-8
    response_header bytea            NOT NULL,
    response_body   bytea,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);

CREATE INDEX attempts_webhook ON attempts (tenant_id, webhook_id, id);
CREATE INDEX attempts_event ON attempts (tenant_id, event_id, id);
CREATE INDEX attempts_unsuccessful ON attempts (tenant_id, id) WHERE status <> 'success';

CREATE TABLE attempts_rest PARTITION OF attempts DEFAULT;

CREATE TABLE idempotency_keys (
    scope      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    body_hash  bytea            NOT NULL,
    answer     jsonb            NOT NULL,
    expires_at timestamptz      NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Browsers that are signed in to the portal, and the one-time links that can
-- become sessions. Only hashes of tokens are kept.
CREATE TABLE sessions (
    hash       bytea            NOT NULL PRIMARY KEY,
    link       boolean          NOT NULL, -- true: a link that was not yet followed
    tenant_id  text COLLATE "C" NOT NULL, -- empty: the operator's
    key_hash   bytea            NOT NULL, -- of the API key that it ends with
    expires_at timestamptz      NOT NULL
);

CREATE INDEX sessions_expiry ON sessions (expires_at);

-- What charts are drawn from: attempts counted by minute. A tenant's sum has
-- the zero webhook_id, the sum of all tenants an empty tenant_id too. The
-- latency columns count attempts by their total time, each up to its number of
-- milliseconds.
CREATE TABLE tallies (
    tenant_id  text COLLATE "C" NOT NULL,
    webhook_id uuid             NOT NULL,
    minute     bigint           NOT NULL, -- since 1970
    successes  bigint           NOT NULL,
    failures   bigint           NOT NULL,
    to_5       bigint           NOT NULL,
    to_10      bigint           NOT NULL,
    to_25      bigint           NOT NULL,
    to_50      bigint           NOT NULL,
    to_100     bigint           NOT NULL,
    to_250     bigint           NOT NULL,
    to_500     bigint           NOT NULL,
    to_1000    bigint           NOT NULL,
    to_2500    bigint           NOT NULL,
    to_5000    bigint           NOT NULL,
    to_10000   bigint           NOT NULL,
    above      bigint           NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, minute)
) WITH (fillfactor = 70);

CREATE INDEX tallies_minute ON tallies USING brin (minute) WITH (pages_per_range = 16);

-- Past deliveries that are sent again.
CREATE TABLE replays (
    tenant_id  text COLLATE "C" NOT NULL,
    id         uuid             NOT NULL,
    webhook_id uuid             NOT NULL,
    from_at    timestamptz,               -- of the events' acceptance; NULL: the beginning
    to_at      timestamptz      NOT NULL,
    status     text             NOT NULL,
    events     text[]           NOT NULL, -- empty: all
    dry_run    boolean          NOT NULL,
    rate       double precision NOT NULL, -- deliveries a second
    state      text             NOT NULL,
    after      uuid             NOT NULL, -- the last attempt that was looked at while collecting
    total      integer          NOT NULL,
    queued     integer          NOT NULL,
    skipped    integer          NOT NULL,
    open       boolean          NOT NULL, -- there is work to do, be it to clear what was collected
    created_at timestamptz      NOT NULL,
    ended_at   timestamptz,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX replays_running ON replays (webhook_id) WHERE open AND ended_at IS NULL;
CREATE INDEX replays_open ON replays (id) WHERE open;
CREATE INDEX replays_ended ON replays (ended_at) WHERE NOT open;

-- What a replay has collected and not yet queued, in the order of acceptance.
CREATE TABLE replay_deliveries (
    tenant_id   text COLLATE "C" NOT NULL,
    replay_id   uuid             NOT NULL,
    accepted_at timestamptz      NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    day         date             NOT NULL, -- of the event
    attempts    integer          NOT NULL, -- how many were made
    PRIMARY KEY (tenant_id, replay_id, accepted_at, event_id)
);
