-- Version 2: what was asked and answered, where that is asked for (MODEL_PROXY_LOG_BODIES), without credentials. request is the
-- number of a row in requests.
CREATE TABLE bodies (
    request        INTEGER PRIMARY KEY,
    asked          TEXT NOT NULL,      -- its beginning
    asked_bytes    INTEGER NOT NULL,   -- all of it
    answered       TEXT NOT NULL,
    answered_bytes INTEGER NOT NULL
) STRICT;
