-- +goose Up
DROP TABLE failures; -- wrong passwords are counted in memory

-- +goose Down
CREATE TABLE failures (
    name        TEXT PRIMARY KEY,
    number      BIGINT NOT NULL,
    latest      BIGINT NOT NULL,
    barred_till BIGINT NOT NULL
);
