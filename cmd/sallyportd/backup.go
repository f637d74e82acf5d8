package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/appliance/store"
	"sallyport/host"
)

func backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", ArgsUsage: "FILE", Usage: "write the database into a file",
		Description: "The file has everything as it is at one moment, whatever the database; the\ndaemon may serve meanwhile. Keys that are files are not in it: see\ndocs/operating.md.",
		Flags:       []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			path, cfg, err := fileAndConfig(c)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fail(1, "name another file, or remove this one", "%s is there already", path)
			}
			if err != nil {
				return fail(1, "", "%w", err)
			}
			err = backUp(c.Context, cfg, f)
			if err = errors.Join(err, f.Close()); err != nil {
				os.Remove(path)
			}
			return err
		},
	}
}

func backUp(ctx context.Context, cfg *config.Config, f *os.File) error {
	if _, err := os.Stat(cfg.State); cfg.Store.URL == "" && err != nil {
		return noDatabase(cfg)
	}
	database := databaseOf(cfg, os.ReadFile)
	database.Existing = true
	return withStore(ctx, cfg, database, func(s *store.Store) error {
		return errors.Join(s.Backup(ctx, f), f.Sync())
	})
}

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "FILE", Usage: "put a backup into an empty database",
		Description: "All of it is put there, or nothing. Stop the daemon before; see\ndocs/operating.md.",
		Flags:       []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			path, cfg, err := fileAndConfig(c)
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return fail(1, "", "%w", err)
			}
			defer f.Close()
			return withStore(c.Context, cfg, databaseOf(cfg, os.ReadFile), func(s *store.Store) error {
				err := s.Restore(c.Context, f)
				switch {
				case errors.Is(err, store.ErrLater):
					return fail(1, "use the program that made the backup, or a later one", "%s: %w", path, err)
				case errors.Is(err, store.ErrBackup):
					return fail(1, "nothing was changed; try another backup", "%s: %w", path, err)
				case errors.Is(err, store.ErrNotEmpty):
					return fail(1, "nothing was changed; docs/operating.md says how to begin with an empty one", "%w", err)
				}
				return err
			})
		},
	}
}

// fileAndConfig reads the one argument and the configuration.
func fileAndConfig(c *cli.Context) (path string, cfg *config.Config, err error) {
	if c.NArg() != 1 {
		return "", nil, misused(c, fmt.Sprintf("takes the name of one file, not %d arguments", c.NArg()))
	}
	_, cfg, err = load(c)
	return c.Args().First(), cfg, err
}

// withStore opens the database of a configuration for f. Where that is a file of the worker's, root acts as the worker.
func withStore(ctx context.Context, cfg *config.Config, database store.Config, f func(*store.Store) error) error {
	use := func() error {
		s, err := store.Open(ctx, database)
		switch {
		case errors.Is(err, fs.ErrNotExist) && cfg.Store.URL == "":
			return noDatabase(cfg)
		case errors.Is(err, store.ErrEarlier):
			return fail(1, "start the daemon once, which brings them up to date, or use the program that it runs", "%w", err)
		case errors.Is(err, store.ErrLater):
			return fail(1, "use the program that the daemon runs", "%w", err)
		case err != nil:
			return fail(1, "", "%w", err)
		}
		return errors.Join(f(s), s.Close())
	}
	if cfg.Store.URL != "" {
		return use()
	}
	return host.AsWorker(cfg.State, runAs(cfg), use)
}

func noDatabase(cfg *config.Config) error {
	return fail(1, "is it the daemon's configuration? it makes the database when it first starts", "there is no database in %s", cfg.State)
}
