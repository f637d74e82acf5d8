-- +goose Up
CREATE TABLE locks (
    kind    TEXT NOT NULL, -- user, device or target
    name    TEXT NOT NULL,
    set_by  TEXT NOT NULL,
    why     TEXT NOT NULL,
    created BIGINT NOT NULL,
    ends    BIGINT NOT NULL, -- 0: when it is taken away
    PRIMARY KEY (kind, name)
);

CREATE TABLE approvals (
    id         TEXT PRIMARY KEY,
    person     TEXT NOT NULL,
    device     TEXT NOT NULL,
    target     TEXT NOT NULL,
    protocol   TEXT NOT NULL,
    approvers  TEXT NOT NULL, -- groups, as JSON
    asked      BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    decision   TEXT NOT NULL, -- empty while there is none
    decided_by TEXT NOT NULL,
    why        TEXT NOT NULL,
    decided    BIGINT NOT NULL
);
CREATE INDEX approvals_by_time ON approvals (asked, id);

CREATE TABLE access_versions (
    version BIGINT PRIMARY KEY,
    created BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    remark  TEXT NOT NULL,
    files   BYTEA,
    hash    BYTEA
);

CREATE TABLE keypairs (
    name    TEXT NOT NULL, -- what it is for
    serial  BIGINT NOT NULL,
    created BIGINT NOT NULL,
    retires BIGINT NOT NULL,
    public  BYTEA NOT NULL,
    sealed  BYTEA,
    PRIMARY KEY (name, serial)
);

CREATE TABLE hostkeys (
    target       TEXT NOT NULL,
    algorithm    TEXT NOT NULL,
    public       BYTEA NOT NULL,
    seen         BIGINT NOT NULL,
    confirmed    BIGINT NOT NULL,
    confirmed_by TEXT NOT NULL,
    PRIMARY KEY (target, algorithm)
);

-- +goose Down
DROP TABLE hostkeys;
DROP TABLE keypairs;
DROP TABLE access_versions;
DROP TABLE approvals;
DROP TABLE locks;
