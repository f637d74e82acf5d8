-- +goose Up
CREATE TABLE audit (
    appliance TEXT NOT NULL,
    seq       BIGINT NOT NULL,
    happened  BIGINT NOT NULL,
    event     TEXT NOT NULL,
    person    TEXT NOT NULL,
    target    TEXT NOT NULL,
    line      TEXT NOT NULL,
    PRIMARY KEY (appliance, seq)
);
CREATE INDEX audit_by_time ON audit (happened, appliance, seq);
CREATE INDEX audit_by_person ON audit (person, happened, appliance, seq);
CREATE INDEX audit_by_target ON audit (target, happened, appliance, seq);

-- +goose Down
DROP TABLE audit;
