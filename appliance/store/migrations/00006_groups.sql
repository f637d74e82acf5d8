-- +goose Up
ALTER TABLE accounts ADD COLUMN member_of TEXT NOT NULL DEFAULT '[]'; -- groups, as JSON

-- +goose Down
ALTER TABLE accounts DROP COLUMN member_of;
