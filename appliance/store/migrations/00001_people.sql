-- +goose Up
CREATE TABLE devices (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL,
    name        TEXT NOT NULL,
    platform    TEXT NOT NULL,
    public      BYTEA NOT NULL,
    enrolled    BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    last_source TEXT NOT NULL,
    version     TEXT NOT NULL,
    revoked     BIGINT NOT NULL,
    signin      TEXT NOT NULL
);

CREATE TABLE codes (
    hash    BYTEA PRIMARY KEY,
    person  TEXT NOT NULL,
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL,
    used_by TEXT NOT NULL, -- a device
    scope   TEXT NOT NULL
);

CREATE TABLE accounts (
    name       TEXT PRIMARY KEY,
    source     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    created    BIGINT NOT NULL,
    disabled   BIGINT NOT NULL,
    last_login BIGINT NOT NULL,
    UNIQUE (source, subject)
);

CREATE TABLE credentials (
    id      TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    sealed  BYTEA,
    counter BIGINT NOT NULL,
    created BIGINT NOT NULL,
    used    BIGINT NOT NULL
);
CREATE INDEX credentials_of_account ON credentials (account);

CREATE TABLE failures (
    name        TEXT PRIMARY KEY,
    number      BIGINT NOT NULL,
    latest      BIGINT NOT NULL,
    barred_till BIGINT NOT NULL
);

CREATE TABLE signins (
    id        TEXT PRIMARY KEY,
    account   TEXT NOT NULL,
    device    TEXT NOT NULL,
    provider  TEXT NOT NULL,
    member_of TEXT NOT NULL, -- groups, as JSON
    mfa_at    BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    refreshed BIGINT NOT NULL,
    sealed    BYTEA, -- what refreshes it
    ended     BIGINT NOT NULL
);
CREATE INDEX signins_of_account ON signins (account);
CREATE INDEX signins_of_device ON signins (device);

CREATE TABLE once (
    kind    TEXT NOT NULL,
    hash    BYTEA NOT NULL,
    sealed  BYTEA,
    expires BIGINT NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX once_by_end ON once (expires);

CREATE TABLE changes (
    id      BIGINT PRIMARY KEY,
    subject TEXT NOT NULL,
    name    TEXT NOT NULL
);

-- +goose Down
DROP TABLE changes;
DROP TABLE once;
DROP TABLE signins;
DROP TABLE failures;
DROP TABLE credentials;
DROP TABLE accounts;
DROP TABLE codes;
DROP TABLE devices;
