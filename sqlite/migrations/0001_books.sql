-- The books: organizations, their places in their streams, endpoints,
-- deliveries and attempts. The package comment draws them.

CREATE TABLE orgs(
  id         INTEGER PRIMARY KEY,
  org        TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  plan       TEXT    NOT NULL,
  payload    TEXT    NOT NULL,          -- what its publishers send: data, envelope
  subjects   TEXT    NOT NULL,          -- JSON array
  created_at INTEGER NOT NULL,          -- ms
  removed_at INTEGER                    -- ms; the row stays while rows refer to it
);
CREATE UNIQUE INDEX orgs_name ON orgs(org) WHERE removed_at IS NULL;

CREATE TABLE cursors(
  org         INTEGER PRIMARY KEY,
  stream      TEXT    NOT NULL,
  created     INTEGER NOT NULL DEFAULT 0, -- ns; the stream's identity
  incarnation INTEGER NOT NULL DEFAULT 0,
  position    INTEGER NOT NULL DEFAULT 0,
  anchor      INTEGER NOT NULL DEFAULT 0, -- ns; when the message at position was stored
  furthest    INTEGER NOT NULL DEFAULT 0, -- position, unless that was moved back: how far this incarnation was read
  furthest_anchor INTEGER NOT NULL DEFAULT 0, -- ns
  updated_at  INTEGER NOT NULL DEFAULT 0, -- ms
  version     INTEGER NOT NULL DEFAULT 1, -- of the org's subscriptions
  paused      INTEGER NOT NULL DEFAULT 0, -- 1: nothing is read until somebody resumes it
  last_event  INTEGER NOT NULL DEFAULT 0, -- its newest event: head of the chain events.prev
  complete_incarnation INTEGER NOT NULL DEFAULT 0, -- up to here rows may be missing by right:
  complete    INTEGER NOT NULL DEFAULT 0, -- read in an earlier incarnation, or removed by retention
  events      INTEGER NOT NULL DEFAULT 0, -- counts since ever
  unmatched   INTEGER NOT NULL DEFAULT 0,
  duplicates  INTEGER NOT NULL DEFAULT 0,
  rejected    INTEGER NOT NULL DEFAULT 0,
  gated       INTEGER NOT NULL DEFAULT 0,
  gap_events  INTEGER NOT NULL DEFAULT 0,
  gaps        INTEGER NOT NULL DEFAULT 0, -- rows of the table gaps
  gap_at      INTEGER NOT NULL DEFAULT 0  -- ms; when the latest was found
);

CREATE TABLE endpoints(
  id              INTEGER PRIMARY KEY,
  ulid            TEXT    NOT NULL UNIQUE, -- ep_…
  org             INTEGER NOT NULL,
  url             TEXT    NOT NULL,
  description     TEXT    NOT NULL,
  event_types     TEXT    NOT NULL,        -- JSON array
  workspace       TEXT    NOT NULL,
  headers         BLOB,                    -- sealed JSON array of [name, value]; NULL: none, or removed
  credentials     BLOB,                    -- sealed JSON of how its requests say who sends them; NULL: none, or removed
  timeout         INTEGER NOT NULL,        -- ns
  retry_initial   INTEGER NOT NULL,        -- ns
  retry_multiplier REAL   NOT NULL,
  retry_max       INTEGER NOT NULL,        -- ns
  retry_attempts  INTEGER NOT NULL,
  concurrency     INTEGER NOT NULL,
  options         TEXT    NOT NULL,        -- JSON of deliver.Options
  disabled_reason TEXT    NOT NULL,        -- '': enabled
  disabled_at     INTEGER NOT NULL,        -- ms, 0: not
  health          TEXT    NOT NULL,        -- JSON of deliver.Health
  created_at      INTEGER NOT NULL,        -- ms
  updated_at      INTEGER NOT NULL,        -- ms
  revision        INTEGER NOT NULL,        -- of all that people set, and of disabled_reason
  removed_at      INTEGER,                 -- ms; the row stays while rows refer to it
  swept           INTEGER NOT NULL DEFAULT 0 -- 1: removed, and its pending deliveries are cancelled
);
CREATE INDEX endpoints_unswept ON endpoints(id) WHERE removed_at IS NOT NULL AND swept = 0;

-- What the requests of an endpoint look like from a revision on, without anything
-- secret: the log of attempts shows them.
CREATE TABLE endpoint_revisions(
  endpoint INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  until    INTEGER NOT NULL,               -- ms; 0: it is so now
  settings TEXT    NOT NULL,               -- JSON of deliver.RequestSettings
  PRIMARY KEY(endpoint, revision)
) WITHOUT ROWID;
CREATE INDEX endpoint_revisions_until ON endpoint_revisions(until) WHERE until > 0;

-- Signing secrets: the newest of an endpoint, and those before it until they end.
CREATE TABLE secrets(
  id         INTEGER PRIMARY KEY,          -- ascends with time
  org        INTEGER NOT NULL,
  endpoint   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,             -- ms
  expires_at INTEGER NOT NULL,             -- ms; 0: it has no end
  sealed     BLOB    NOT NULL              -- its text, bound to org, endpoint and id
);
CREATE INDEX secrets_endpoint ON secrets(endpoint, id);
CREATE INDEX secrets_ending   ON secrets(expires_at, endpoint) WHERE expires_at > 0;

-- Nothing, sealed: it proves at each start that the key is this database's.
CREATE TABLE probe(
  id     INTEGER PRIMARY KEY CHECK(id = 1),
  sealed BLOB    NOT NULL
);

-- Who was subscribed to what, during which span of the org's stream.
CREATE TABLE subscriptions(
  id           INTEGER PRIMARY KEY,
  org          INTEGER NOT NULL,
  endpoint     INTEGER NOT NULL,
  types        TEXT    NOT NULL,           -- JSON array
  workspace    TEXT    NOT NULL,
  filter       TEXT    NOT NULL,           -- the condition beside them; '': none
  incarnation  INTEGER NOT NULL,
  from_seq     INTEGER NOT NULL,           -- after this one
  until_incarnation INTEGER,               -- NULL: still open
  until_seq    INTEGER                     -- inclusive
);
CREATE INDEX subscriptions_org ON subscriptions(org, endpoint);

-- Events that have at least one delivery. id ascends in the order of commits.
CREATE TABLE events(
  id          INTEGER PRIMARY KEY,
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  prev        INTEGER NOT NULL,            -- how far back the org's event before lies: id - prev; 0: none
  key         BLOB    NOT NULL,            -- stream.ID
  type        TEXT    NOT NULL,
  stored      INTEGER NOT NULL,            -- ms
  fanned      INTEGER NOT NULL             -- ms after stored
);

-- One row for each (event, endpoint), for ever. The event comes first: with the
-- endpoint first each commit would touch one page for each endpoint.
CREATE TABLE deliveries(
  event    INTEGER NOT NULL,
  endpoint INTEGER NOT NULL,
  org      INTEGER NOT NULL,
  state    INTEGER NOT NULL,               -- deliver.State
  reason   INTEGER NOT NULL,               -- deliver.Reason
  due      INTEGER NOT NULL,               -- ms; 0: never attempted, or not pending; deliver.HeldBack: stands in a line
  attempts INTEGER NOT NULL,               -- made
  spent    INTEGER NOT NULL,               -- of them, counted against the present budget
  trigger  INTEGER NOT NULL,               -- deliver.Trigger of the next attempt
  PRIMARY KEY(event, endpoint)
) WITHOUT ROWID;
-- Both are small: a row is in them only while it is pending, or when it is dead or cancelled.
CREATE INDEX deliveries_pending ON deliveries(due, event, endpoint, org, attempts, spent, trigger) WHERE state = 0;
CREATE INDEX deliveries_failed  ON deliveries(org, state, event, endpoint) WHERE state >= 2;

-- Where deliveries of ordered endpoints stand that failed or are held back. Those
-- of one endpoint, rule and key go one after the other, by event.
CREATE TABLE lines(
  endpoint INTEGER NOT NULL,
  event    INTEGER NOT NULL,
  rule     INTEGER NOT NULL,               -- by what the endpoint is ordered
  key      INTEGER NOT NULL,               -- of those whose value is the same
  PRIMARY KEY(endpoint, event)
) WITHOUT ROWID;
CREATE INDEX lines_order ON lines(endpoint, rule, key, event);

-- What lies in 512 consecutive events of an org, so that lists can pass over it.
CREATE TABLE segments(
  org       INTEGER NOT NULL,
  event     INTEGER NOT NULL,              -- the last of them
  prev      INTEGER NOT NULL,              -- the last of those before; 0: none
  oldest    INTEGER NOT NULL,              -- min(events.stored)
  types     BLOB    NOT NULL,              -- Bloom filters of 256 bits
  endpoints BLOB    NOT NULL,
  PRIMARY KEY(org, event)
) WITHOUT ROWID;

CREATE TABLE attempts(
  event       INTEGER NOT NULL,
  endpoint    INTEGER NOT NULL,
  number      INTEGER NOT NULL,
  trigger     INTEGER NOT NULL,
  started     INTEGER NOT NULL,            -- ms
  duration    INTEGER NOT NULL,            -- µs
  class       INTEGER NOT NULL,            -- deliver.Class
  status      INTEGER NOT NULL,            -- HTTP; 0: no answer
  revision    INTEGER NOT NULL,            -- of the endpoint's settings; 0: no request was made
  timings     BLOB,                        -- see timingsOf
  retry_after INTEGER,                     -- ms
  error       TEXT,
  headers     TEXT,                        -- JSON
  body        BLOB,
  truncated   INTEGER,
  PRIMARY KEY(event, endpoint, number)
) WITHOUT ROWID;

-- The payloads of events of which a delivery has failed.
CREATE TABLE payloads(
  event       INTEGER PRIMARY KEY,
  org         TEXT    NOT NULL,
  key         BLOB    NOT NULL,
  type        TEXT    NOT NULL,
  traceparent TEXT,
  stored      INTEGER NOT NULL,            -- ns
  body        BLOB    NOT NULL
);

-- Sequences that made no deliveries, and why.
CREATE TABLE rejected(
  id          INTEGER PRIMARY KEY,
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  stored      INTEGER NOT NULL,            -- ns
  at          INTEGER NOT NULL,            -- ms
  subject     TEXT    NOT NULL,
  code        TEXT    NOT NULL,
  detail      TEXT    NOT NULL,
  data        BLOB    NOT NULL,            -- the first 64 KiB
  UNIQUE(org, incarnation, seq)
);
CREATE TABLE gaps(
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  from_seq    INTEGER NOT NULL,
  to_seq      INTEGER NOT NULL,            -- inclusive
  at          INTEGER NOT NULL,            -- ms
  skipped     INTEGER NOT NULL,            -- 0: the stream no longer had it; 1: the cursor was moved over it
  PRIMARY KEY(org, incarnation, from_seq)
) WITHOUT ROWID;
CREATE TABLE gated(
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  from_seq    INTEGER NOT NULL,
  to_seq      INTEGER NOT NULL,            -- inclusive
  PRIMARY KEY(org, incarnation, from_seq)
) WITHOUT ROWID;

-- From an event's key to its number. A run is a block of consecutive events
-- whose keys were sorted once and are never changed; the newest events are in no
-- run yet, they are in memory.
CREATE TABLE key_runs(
  run     INTEGER PRIMARY KEY,             -- ascending
  first   INTEGER NOT NULL,                -- event
  last    INTEGER NOT NULL,                -- event
  filter  BLOB    NOT NULL,                -- Bloom filter of the keys
  fences  BLOB    NOT NULL                 -- the first hash of each chunk
);
CREATE TABLE key_chunks(
  id      INTEGER PRIMARY KEY,             -- run << 16 | chunk
  keys    BLOB    NOT NULL                 -- sorted: hash (8 bytes), event - first (4 bytes), …
);

-- How far retention has walked, and the highest event number it removed, so that
-- no number is ever given twice.
CREATE TABLE retention(
  id               INTEGER PRIMARY KEY CHECK(id = 1),
  event            INTEGER NOT NULL,       -- all before (event, endpoint) was looked at
  endpoint         INTEGER NOT NULL,
  revisit_event    INTEGER NOT NULL,       -- the next look at what had to stay
  revisit_endpoint INTEGER NOT NULL,
  high             INTEGER NOT NULL
);
INSERT INTO retention VALUES(1, 0, 0, 0, 0, 0);

-- Endpoints that are behind: instead of an open subscription they have a place in
-- their stream, see catchup.go.
CREATE TABLE catchups(
  endpoint    INTEGER PRIMARY KEY,
  org         INTEGER NOT NULL,
  reason      TEXT    NOT NULL,            -- fanout.CatchupReason
  began_at    INTEGER NOT NULL,            -- ms
  incarnation INTEGER NOT NULL,
  from_seq    INTEGER NOT NULL,            -- it began after this one
  seq         INTEGER NOT NULL,            -- the place: read for it up to here
  span        INTEGER NOT NULL,            -- subscriptions.id: the one that ends at the place
  first_seq   INTEGER NOT NULL DEFAULT 0,  -- of the stream, when it was looked at first; 0: it was not
  at_risk     INTEGER NOT NULL DEFAULT 0   -- 1: the stream is about to lose what comes after the place
);
-- What a stream lost before it was read for an endpoint that was behind.
CREATE TABLE endpoint_gaps(
  endpoint    INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  from_seq    INTEGER NOT NULL,
  to_seq      INTEGER NOT NULL,            -- inclusive
  at          INTEGER NOT NULL,            -- ms; the latest
  PRIMARY KEY(endpoint, incarnation, from_seq)
) WITHOUT ROWID;
