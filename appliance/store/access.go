package store

import (
	"context"
	"errors"
	"time"
)

// An Access is a version of the access files: targets, policies, groups. The latest one is the one in force; to go back
// is to add an old one again.
type Access struct {
	Version int64 // 1, 2, 3 …
	Created time.Time
	By      string
	Comment string
	Files   []byte // as the caller packs them
	Hash    []byte // of Files
}

const accessColumns = "version, created, made_by, remark, hash"

func scanAccess(row scanner) (a Access, err error) {
	err = row.Scan(&a.Version, stamp{&a.Created}, &a.By, &a.Comment, &a.Hash)
	return a, err
}

func scanAccessFiles(row scanner) (a Access, err error) {
	err = row.Scan(&a.Version, stamp{&a.Created}, &a.By, &a.Comment, &a.Hash, &a.Files)
	return a, err
}

// AddAccess puts a version in force after the expected one, 0 where there is none, and does to the accounts what it says of
// them: all of it or nothing. It returns the version's number. ErrConflict means that another version is in force.
func (s *Store) AddAccess(ctx context.Context, expected int64, a Access, accounts ...AccountChange) (int64, error) {
	a.Version = expected + 1
	err := s.change(ctx, "add a version of the access files", func(c *change) error {
		c.note(OfAccess, "")
		// Of two that find the same version in force, the number is for one.
		err := c.must(ErrConflict, "INSERT INTO access_versions ("+accessColumns+", files) SELECT CAST($1 AS BIGINT), $2, $3, $4, $5, $6"+
			" WHERE (SELECT COALESCE(MAX(version), 0) FROM access_versions) = $7",
			a.Version, micros(a.Created), a.By, a.Comment, data(a.Hash), data(a.Files), expected)
		for _, change := range accounts {
			if err == nil {
				err = c.changeAccount(change, a.Created)
			}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return a.Version, nil
}

// ActiveAccess returns the version in force; none is the zero Access.
func (s *Store) ActiveAccess(ctx context.Context) (Access, error) {
	a, err := one(ctx, s, "read the access files", scanAccessFiles, "SELECT "+accessColumns+", files FROM access_versions ORDER BY version DESC LIMIT 1")
	if errors.Is(err, ErrNotFound) {
		return Access{}, nil
	}
	return a, err
}

// AccessVersion returns a version, or ErrNotFound.
func (s *Store) AccessVersion(ctx context.Context, version int64) (Access, error) {
	return one(ctx, s, "read a version of the access files", scanAccessFiles,
		"SELECT "+accessColumns+", files FROM access_versions WHERE version = $1", version)
}

// AccessVersions returns the latest versions without their files, the latest first.
func (s *Store) AccessVersions(ctx context.Context, limit int) ([]Access, error) {
	return list(ctx, s, "read the versions of the access files", scanAccess,
		"SELECT "+accessColumns+" FROM access_versions ORDER BY version DESC LIMIT $1", limit)
}
