-- What a platform keeps beside the books: who may ask (tokens), who asked for
-- what (audit), what was asked only once (answers), what event types there are,
-- and how endpoints fare.

CREATE TABLE tokens(
  id         INTEGER PRIMARY KEY,
  ulid       TEXT    NOT NULL UNIQUE,     -- tok_…
  org        INTEGER,                     -- NULL: an operator's
  hash       BLOB    NOT NULL UNIQUE,     -- SHA-256 of the token's text
  name       TEXT    NOT NULL,
  scopes     TEXT    NOT NULL,            -- JSON array
  created_at INTEGER NOT NULL,            -- ms
  expires_at INTEGER NOT NULL,            -- ms
  used_at    INTEGER NOT NULL DEFAULT 0,  -- ms, at most a minute old; 0: never
  revoked_at INTEGER NOT NULL DEFAULT 0   -- ms; 0: it was not
);
CREATE INDEX tokens_org ON tokens(org, ulid);

-- Who changed what. Rows are never changed, and are removed only by age.
CREATE TABLE audit(
  id      INTEGER PRIMARY KEY,
  org     INTEGER,                        -- NULL: of the installation
  at      INTEGER NOT NULL,               -- ms
  actor   TEXT    NOT NULL,               -- tok_…, operator, or grapnel itself
  action  TEXT    NOT NULL,               -- endpoint.add
  target  TEXT    NOT NULL,               -- ep_…
  changes TEXT    NOT NULL,               -- JSON object: field → [old, new]; of secrets only the name
  address TEXT    NOT NULL,               -- where the request came from
  request TEXT    NOT NULL                -- its id
);
CREATE INDEX audit_org ON audit(org, id);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN
  SELECT raise(ABORT, 'audit entries are never changed');
END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit WHEN old.at > (unixepoch() - 365 * 86400) * 1000 BEGIN
  SELECT raise(ABORT, 'audit entries are kept for a year');
END;

-- Answers to requests with an Idempotency-Key, for a day.
CREATE TABLE answers(
  org     INTEGER NOT NULL,               -- 0: asked of the installation
  key     TEXT    NOT NULL,
  request BLOB    NOT NULL,               -- SHA-256 of method, path and body
  at      INTEGER NOT NULL,               -- ms
  body    BLOB,                           -- sealed JSON; NULL: begun, and perhaps done
  PRIMARY KEY(org, key)
) WITHOUT ROWID;
CREATE INDEX answers_at ON answers(at);

-- The catalogue, a row for each version of an event type's schema.
CREATE TABLE event_types(
  name        TEXT    NOT NULL,
  version     TEXT    NOT NULL,           -- of the schema
  grouping    TEXT    NOT NULL,           -- "group", for people
  description TEXT    NOT NULL,
  schema      TEXT    NOT NULL,           -- JSON Schema; '': any data
  example     TEXT    NOT NULL,           -- JSON; '': none
  deprecated  INTEGER NOT NULL,           -- 0, 1
  created_at  INTEGER NOT NULL,           -- ms
  updated_at  INTEGER NOT NULL,           -- ms
  PRIMARY KEY(name, version)
) WITHOUT ROWID;

-- Operational events that their streams do not have yet, see outbox.go.
CREATE TABLE outbox(
  org       INTEGER NOT NULL,
  id        INTEGER NOT NULL,             -- ascends
  type      TEXT    NOT NULL,
  dedupe    TEXT    NOT NULL,
  workspace TEXT    NOT NULL,             -- '': it concerns the whole organization
  at        INTEGER NOT NULL,             -- ms
  omitted   INTEGER NOT NULL,             -- events of its type that gave way to others
  data      TEXT    NOT NULL,             -- JSON object
  PRIMARY KEY(org, id)
) WITHOUT ROWID;

-- How endpoints fare, in slots of five minutes, for a day.
CREATE TABLE endpoint_slots(
  slot      INTEGER NOT NULL,             -- minutes since 1970, by five
  endpoint  INTEGER NOT NULL,
  succeeded INTEGER NOT NULL,             -- attempts
  failed    INTEGER NOT NULL,
  latencies BLOB    NOT NULL,             -- deliver.Latencies
  PRIMARY KEY(slot, endpoint)
) WITHOUT ROWID;

-- Jobs that send again what matches, each for one endpoint.
CREATE TABLE replays(
  id          INTEGER PRIMARY KEY,
  ulid        TEXT    NOT NULL UNIQUE,    -- rpl_…
  org         INTEGER NOT NULL,
  endpoint    INTEGER NOT NULL,
  state       INTEGER NOT NULL,           -- ReplayState
  statuses    TEXT    NOT NULL,           -- JSON array of what is sent again: deliver.State, or missing
  types       TEXT    NOT NULL,           -- JSON array; []: any
  since       INTEGER NOT NULL,           -- ms; 0: from the first event on
  until       INTEGER NOT NULL,           -- ms; 0: up to the last one
  from_seq    INTEGER NOT NULL,           -- inclusive; 0: any
  to_seq      INTEGER NOT NULL,           -- inclusive; 0: any
  rate        INTEGER NOT NULL,           -- deliveries/s
  start       INTEGER NOT NULL,           -- place at the beginning
  place       INTEGER NOT NULL,           -- events up to here were looked at; of missing ones: sequences
  last        INTEGER NOT NULL,           -- and up to here are to be
  incarnation INTEGER NOT NULL,           -- that the sequences are of; 0: there are none
  span        INTEGER NOT NULL DEFAULT 0, -- subscriptions.id of what was filled in; 0: nothing yet
  matched     INTEGER NOT NULL DEFAULT 0,
  replayed    INTEGER NOT NULL DEFAULT 0,
  changed     INTEGER NOT NULL DEFAULT 0, -- had left their state meanwhile
  removed     INTEGER NOT NULL DEFAULT 0, -- by retention meanwhile
  withheld    INTEGER NOT NULL DEFAULT 0, -- of what is missing: there is a reason why it is not there
  lost        INTEGER NOT NULL DEFAULT 0, -- nobody has their payload any more
  by_type     TEXT    NOT NULL DEFAULT '{}', -- JSON object: event type → replayed
  first_event INTEGER NOT NULL DEFAULT 0, -- that was replayed; 0: none yet
  last_event  INTEGER NOT NULL DEFAULT 0,
  ran         INTEGER NOT NULL DEFAULT 0, -- ms, up to updated_at
  why         TEXT    NOT NULL DEFAULT '', -- it ended before its end
  actor       TEXT    NOT NULL,
  created_at  INTEGER NOT NULL,           -- ms
  updated_at  INTEGER NOT NULL,           -- ms
  finished_at INTEGER NOT NULL DEFAULT 0  -- ms; 0: it is not
);
CREATE INDEX replays_org      ON replays(org, ulid);
CREATE INDEX replays_open     ON replays(org, endpoint) WHERE state < 2;
CREATE INDEX replays_finished ON replays(finished_at) WHERE state >= 2;

-- One row in a database that came out of a backup: nothing is read and nothing
-- is sent until somebody has looked at what that would repeat.
CREATE TABLE hold(
  id      INTEGER PRIMARY KEY CHECK(id = 1),
  made_at INTEGER NOT NULL               -- ms; when the backup was made
);
