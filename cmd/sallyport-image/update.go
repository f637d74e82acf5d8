package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"sallyport/image/update"
)

// updateKeyCommand makes the key that updates are signed by, or says which one a file has.
func updateKeyCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "update-key", Usage: "make a key that signs updates, and print its public half", ArgsUsage: "FILE",
		UsageText:   "sallyport-image update-key FILE",
		Description: "The private key is written to FILE, readable by you only, unless FILE is there.\nThe public one is for sallyport-image build --update-keys and for update.keys\nin sallyport.yaml.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused("update-key takes the name of one file, not %d arguments", c.NArg())
			}
			key, err := readKey(c.Args().First())
			if errors.Is(err, os.ErrNotExist) {
				key, err = makeKey(c.Args().First())
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, update.FormatKey(key.Public().(ed25519.PublicKey)))
			return nil
		},
	}
}

func makeKey(name string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	text, err := update.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	return key, errors.Join(err, f.Sync(), f.Close())
}

const maxKey = 4 << 10 // of a file that has one in PEM

func readKey(name string) (ed25519.PrivateKey, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	key, err := update.ParsePrivateKey(text)
	if err != nil {
		return nil, &exit{exitFailed, fmt.Errorf("%s: %w", name, err), "sallyport-image update-key FILE makes one"}
	}
	return key, nil
}

// updateCommand makes an update file of a unified kernel image.
func updateCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "make the file that sallyport admin update takes",
		UsageText:   "sallyport-image update --uki FILE --key FILE --version VERSION [options]",
		Description: "An appliance takes it that knows the key, is of the flavour, and runs an earlier\nversion. Sign the unified kernel image for Secure Boot before that.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "uki", Usage: "the unified kernel image, the *.efi of a build, in `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "the key of update-key in `FILE`"},
			&cli.StringFlag{Name: "version", Usage: "`VERSION` of the image"},
			&cli.StringFlag{Name: "flavour", Value: update.FlavourAll, Usage: "`FLAVOUR` of the image"},
			&cli.StringFlag{Name: "floor", Usage: "once it is installed nothing before `VERSION` is"},
			&cli.StringFlag{Name: "out", Usage: "write `FILE`, by default sallyport-VERSION.update"},
		},
		Action: func(c *cli.Context) (err error) {
			if c.Args().Present() {
				return misused("update takes no argument %q", c.Args().First())
			}
			for _, name := range []string{"uki", "key", "version"} {
				if c.String(name) == "" {
					return misused("--%s is needed; see: sallyport-image update --help", name)
				}
			}
			h := update.Header{Name: update.Name, Version: c.String("version"), Floor: c.String("floor"), Flavour: c.String("flavour")}
			if err := update.CheckVersion(h.Version); err != nil {
				return misused("--version: %v", err)
			}
			key, err := readKey(c.String("key"))
			if err != nil {
				return err
			}
			uki, err := os.Open(c.String("uki"))
			if err != nil {
				return err
			}
			defer uki.Close()
			out := c.String("out")
			if out == "" {
				out = "sallyport-" + h.Version + ".update"
			}
			// Whoever looks sees the whole file or none.
			f, err := os.CreateTemp(filepath.Dir(out), ".update-*")
			if err != nil {
				return err
			}
			defer func() {
				if err != nil {
					os.Remove(f.Name())
				}
			}()
			h, err = update.Write(f, h, uki, key)
			if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
				return err
			}
			if err := os.Rename(f.Name(), out); err != nil {
				return err
			}
			fmt.Fprintf(e.stderr, "sallyport-image: %s: %s %s %s, %d bytes, %s\n", out, h.Name, h.Version, h.Flavour, h.Size, h.SHA256)
			return nil
		},
	}
}
