-- +goose Up
ALTER TABLE devices ADD COLUMN scope TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN expires BIGINT NOT NULL DEFAULT 0; -- 0: never

-- +goose Down
ALTER TABLE devices DROP COLUMN expires;
ALTER TABLE devices DROP COLUMN scope;
