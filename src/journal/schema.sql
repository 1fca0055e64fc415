-- Version 1. Rows are in the order in which requests ended: there is no index by time, for the number of a row will do, and
-- no foreign key, for each would be looked up with every row. client, format, model, route, key, outcome and such are numbers in names.
-- Times are in UTC; _ms is milliseconds since 1970, _us microseconds; NULL is "nobody said", which is not 0.

-- Repeated text: clients, formats, paths, models, routes, keys, outcomes.
CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

-- One row for each request, written when it is over.
CREATE TABLE requests (
    id              INTEGER PRIMARY KEY,
    request_id      TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,   -- when it came
    client          INTEGER NOT NULL,
    format          INTEGER NOT NULL,   -- the client's
    path            INTEGER,            -- of what is passed through
    model           INTEGER,            -- the logical model that was found
    asked           TEXT,               -- as the client named it, where that is another name
    route           INTEGER,            -- provider/model that answered, or was tried last
    stream          INTEGER NOT NULL,
    status          INTEGER NOT NULL,   -- what the client was told; 0: it left before
    ended           INTEGER NOT NULL,   -- complete, broken, client_closed, refused (before it was let in)
    attempts        INTEGER NOT NULL,
    input           INTEGER,            -- without what caches read or wrote
    cache_read      INTEGER,
    cache_write     INTEGER,
    cache_write_1h  INTEGER,            -- part of cache_write
    output          INTEGER,
    reasoning       INTEGER,            -- part of output
    output_guess    INTEGER,            -- where nobody counted to the end
    counted         INTEGER,            -- what was told to who asked for a count only
    first_output_us INTEGER,
    total_us        INTEGER NOT NULL,
    waited_us       INTEGER NOT NULL,   -- of the time to the first output: for upstreams, or for keys that rest
    dropped         TEXT,               -- what conversion lost
    limited         INTEGER,            -- the limit of ours that kept it out
    error           TEXT
) STRICT;

-- Each try at an upstream, in order.
CREATE TABLE attempts (
    request  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    route    INTEGER NOT NULL,
    key      INTEGER NOT NULL,   -- its variable and fingerprint
    outcome  INTEGER NOT NULL,
    status   INTEGER,                   -- the upstream's
    begun_us INTEGER NOT NULL,   -- since the request came
    took_us  INTEGER NOT NULL,   -- to the first output, or to its failure
    error    TEXT,
    PRIMARY KEY (request, number)
) STRICT, WITHOUT ROWID;

-- Sums by hour, which outlive the rows: what statistics are made from.
CREATE TABLE hours (
    id             INTEGER PRIMARY KEY,
    hour           INTEGER NOT NULL,   -- since 1970
    client         INTEGER NOT NULL,
    model          INTEGER NOT NULL,
    route          INTEGER NOT NULL,
    key            INTEGER NOT NULL,
    outcome        INTEGER NOT NULL,   -- ok, failed, refused, broken, client_closed
    requests       INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,
    uncounted      INTEGER NOT NULL,   -- answers of which nobody told the usage
    input          INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write    INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    reasoning      INTEGER NOT NULL,
    UNIQUE (hour, client, model, route, key, outcome)
) STRICT;

-- How long they took: eight buckets for each doubling, by their number (spread.rs).
CREATE TABLE spread (
    hours    INTEGER NOT NULL,
    bucket   INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (hours, bucket)
) STRICT, WITHOUT ROWID;

-- The same for people: names as they are.
CREATE VIEW log AS
SELECT q.id, q.request_id, q.at_ms, c.text AS client, f.text AS format, p.text AS path, coalesce(q.asked, m.text) AS asked,
    m.text AS model, r.text AS route, q.stream, q.status, e.text AS ended, q.attempts, q.input, q.cache_read, q.cache_write,
    q.cache_write_1h, q.output, q.reasoning, q.output_guess, q.counted, q.first_output_us, q.total_us, q.waited_us, q.dropped,
    l.text AS limited, q.error
FROM requests q JOIN names c ON c.id = q.client JOIN names f ON f.id = q.format JOIN names e ON e.id = q.ended
    LEFT JOIN names p ON p.id = q.path LEFT JOIN names m ON m.id = q.model LEFT JOIN names r ON r.id = q.route
    LEFT JOIN names l ON l.id = q.limited;

CREATE VIEW tries AS
SELECT a.request, a.number, r.text AS route, k.text AS key, o.text AS outcome, a.status, a.begun_us, a.took_us, a.error
FROM attempts a JOIN names r ON r.id = a.route JOIN names k ON k.id = a.key JOIN names o ON o.id = a.outcome;
