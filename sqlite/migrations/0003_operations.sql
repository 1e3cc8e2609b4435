-- What operating needs: written after databases of schema 2 were in use, so
-- every statement also holds for a database that has rows.

-- What the message at a position says, beside when it was stored (cursor.Hash).
ALTER TABLE cursors ADD COLUMN hash INTEGER NOT NULL DEFAULT 0;          -- of the message at position; 0: not known
ALTER TABLE cursors ADD COLUMN furthest_hash INTEGER NOT NULL DEFAULT 0;

-- The streams that were found in place of the one that the cursor had read. The
-- first incarnation has no row.
CREATE TABLE incarnations(
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,           -- that began
  at          INTEGER NOT NULL,           -- ms; when it was noticed
  regressed   INTEGER NOT NULL,           -- 0: deleted and made anew; 1: rolled back
  created     INTEGER NOT NULL,           -- ns; the stream's identity
  left_at     INTEGER NOT NULL,           -- how far the one before was read
  began       INTEGER NOT NULL,           -- the sequence after which this one is read
  PRIMARY KEY(org, incarnation)
) WITHOUT ROWID;

-- Who these books are, for the streams that they are the books of. One row.
CREATE TABLE installation(
  one INTEGER PRIMARY KEY CHECK(one = 1),
  id  TEXT NOT NULL                       -- ULID
);

-- What the books have in common with home.json beside them, see home.go: books without
-- it, or behind it, were put here from elsewhere.
CREATE TABLE home(
  id    INTEGER PRIMARY KEY CHECK(id = 1),
  nonce TEXT    NOT NULL,
  count INTEGER NOT NULL,                -- up at each start, each minute and at the end
  at    INTEGER NOT NULL                 -- ms; when it was counted
);

-- Why they are held: backup, older, alone (HoldReason).
ALTER TABLE hold ADD COLUMN reason TEXT NOT NULL DEFAULT 'backup';


-- Who paused a cursor, why and until when. A row goes when the cursor is resumed;
-- cursors.paused is what counts.
CREATE TABLE pauses(
  org    INTEGER PRIMARY KEY,
  at     INTEGER NOT NULL,               -- ms
  until  INTEGER NOT NULL,               -- ms; 0: until somebody resumes it
  actor  TEXT    NOT NULL,
  reason TEXT    NOT NULL                -- '': none was given
);
CREATE INDEX pauses_until ON pauses(until) WHERE until > 0;

-- Events, and messages that were none, whose content was removed on request (expunge.go).
CREATE TABLE expunged(
  org         INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  event       INTEGER NOT NULL,          -- 0: it had no deliveries
  at          INTEGER NOT NULL,          -- ms
  PRIMARY KEY(org, incarnation, seq)
) WITHOUT ROWID;
CREATE INDEX expunged_event ON expunged(event) WHERE event > 0;
