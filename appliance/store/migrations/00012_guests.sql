-- +goose Up
CREATE TABLE guest_links (
    id             TEXT PRIMARY KEY,
    hash           BYTEA NOT NULL UNIQUE, -- of the secret
    maker          TEXT NOT NULL,
    target         TEXT NOT NULL,
    vnet           TEXT NOT NULL,
    host           TEXT NOT NULL,
    protocol       TEXT NOT NULL,
    programs       TEXT NOT NULL, -- as JSON; none: all
    approval       TEXT NOT NULL, -- a group, or empty
    sign_in        BIGINT NOT NULL, -- 1: who opens it must
    made_source    TEXT NOT NULL, -- where, how and with which second factor its maker was there
    made_transport TEXT NOT NULL,
    made_mfa       BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    expires        BIGINT NOT NULL,
    uses           BIGINT NOT NULL,
    used           BIGINT NOT NULL,
    revoked        BIGINT NOT NULL
);
CREATE INDEX guest_links_of_maker ON guest_links (maker);

CREATE TABLE guest_uses (
    link   TEXT NOT NULL REFERENCES guest_links (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    person TEXT NOT NULL,
    device TEXT NOT NULL,
    source TEXT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (link, number)
);

-- +goose Down
DROP TABLE guest_uses;
DROP TABLE guest_links;
