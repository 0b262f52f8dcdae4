-- A queue of schema version 1: two deliveries wait, one is dead, one arrived, and the notification log has one entry.
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), store TEXT NOT NULL, clock REAL NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE payloads (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    origin INTEGER,
    payload INTEGER NOT NULL,
    sink TEXT NOT NULL,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    batch TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    died REAL
);
CREATE INDEX waiting ON deliveries (sink, seq) WHERE died IS NULL;
CREATE INDEX dead ON deliveries (died) WHERE died IS NOT NULL;
CREATE INDEX replayed ON deliveries (origin) WHERE origin IS NOT NULL;
CREATE TABLE arrivals (
    seq INTEGER PRIMARY KEY, origin INTEGER, sink TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
    status TEXT NOT NULL, created REAL NOT NULL, attempts INTEGER NOT NULL, arrived REAL NOT NULL, message TEXT NOT NULL,
    reference TEXT NOT NULL
);
CREATE INDEX arrived_at ON arrivals (arrived);
CREATE INDEX arrived_in ON arrivals (message);
CREATE TABLE told (
    sink TEXT NOT NULL, destination TEXT NOT NULL, fingerprint TEXT NOT NULL,
    status TEXT NOT NULL, starts_at INTEGER NOT NULL, told_at REAL NOT NULL,
    UNIQUE (sink, destination, fingerprint)
);
CREATE TABLE holds (sink TEXT PRIMARY KEY, reason TEXT NOT NULL);
INSERT INTO meta VALUES (1, '3f9c01aa2b4d', 5000.5, 4);
INSERT INTO payloads VALUES (1, 'alert', 'A', CAST('{"name":"A"}' AS BLOB)), (2, 'alert', 'B', CAST('{"name":"B"}' AS BLOB));
INSERT INTO deliveries VALUES
    (1, NULL, 1, 's1', 'acme', 'k1', 'firing', 1700000000.0, 9000.0, 5010.0, 2, 'm1', 'HTTP503', '', NULL),
    (2, NULL, 1, 's2', 'acme', 'k1', 'firing', 1700000000.0, 9000.0, 0, 0, '', '', '', NULL),
    (4, 3, 2, 's2', 'acme', 'k2', 'resolved', 1700000001.0, 9001.0, 0, 1, '', 'HTTP413', 'too large', 1700000002.0);
INSERT INTO arrivals VALUES (3, NULL, 's1', 'acme', 'k3', 'C', 'firing', 1700000000.0, 0, 1700000003.0, 'm3', 'C1/1.5');
INSERT INTO told VALUES ('s1', 'd', 'k1', 'firing', 5, 4000.0);
PRAGMA user_version = 1;
INSERT INTO told VALUES ('s1', 'before', 'k1', 'resolved', 4, 3000.0);
INSERT INTO told VALUES ('s2', 'd', 'k1', 'resolved', 6, 4500.0);
