-- +goose Up
ALTER TABLE approvals ADD COLUMN vnet TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN reason TEXT NOT NULL DEFAULT ''; -- of who asks

-- +goose Down
ALTER TABLE approvals DROP COLUMN reason;
ALTER TABLE approvals DROP COLUMN vnet;
