-- +goose Up
ALTER TABLE accounts ADD COLUMN valid_from BIGINT NOT NULL DEFAULT 0; -- who signed in before is not signed in any more

-- +goose Down
ALTER TABLE accounts DROP COLUMN valid_from;
