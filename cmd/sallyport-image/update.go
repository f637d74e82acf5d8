package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"sallyport/image/uki"
	"sallyport/image/update"
)

// updateKeyCommand makes the key that updates are signed by, or says which one a file has.
func updateKeyCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "update-key", Usage: "make a key that signs updates", ArgsUsage: "FILE",
		UsageText:   "sallyport-image update-key FILE",
		Description: "The private key is written to FILE, readable by you only, unless FILE is\nthere. The public one is printed: it is for update.keys in sallyport.yaml and\nfor sallyport-image build --update-keys.",
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
		UsageText: "sallyport-image update --uki FILE --key FILE [options]",
		Description: "An appliance takes it that knows the key, is of the flavour, and runs an\nearlier version. Sign the unified kernel image for Secure Boot before that.\nVersion and flavour are those of the image.\n\n" +
			"Give a release that mends what is dangerous a floor: once it is good nobody\ngoes back below that, neither an administrator nor who has taken the\nappliance over. Without one the version before stays within reach.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "uki", Usage: "the unified kernel image, the *.efi of a build, in `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "the key of update-key in `FILE`"},
			&cli.StringFlag{Name: "version", Usage: "`VERSION` that the image must be of"},
			&cli.StringFlag{Name: "flavour", Usage: "`FLAVOUR` that the image must be of"},
			&cli.StringFlag{Name: "floor", Usage: "nothing before `VERSION` is taken, not by rollback\neither, once this one is good; default: none"},
			&cli.StringFlag{Name: "out", Usage: "write `FILE`, by default sallyport-VERSION.update"},
		},
		Action: func(c *cli.Context) (err error) {
			if c.Args().Present() {
				return misused("update takes no argument %q", c.Args().First())
			}
			for _, name := range []string{"uki", "key"} {
				if c.String(name) == "" {
					return misused("--%s is needed; see: sallyport-image update --help", name)
				}
			}
			key, err := readKey(c.String("key"))
			if err != nil {
				return err
			}
			image, err := os.ReadFile(c.String("uki"))
			if err != nil {
				return err
			}
			h, err := header(c, image)
			if err != nil {
				return err
			}
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
			h, err = update.Write(f, h, bytes.NewReader(image), key)
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

// header is that of an update with the image, whose own words say what it is of: by those the boot loader orders it. What the
// flags say must be the same.
func header(c *cli.Context, image []byte) (update.Header, error) {
	name := c.String("uki")
	release, err := uki.Release(image)
	if err != nil {
		return update.Header{}, fmt.Errorf("%s: %w", name, err)
	}
	h := update.Header{Name: update.Name, Version: release["VERSION_ID"], Flavour: release["VARIANT_ID"]}
	if err := update.CheckVersion(h.Version); err != nil {
		return h, fmt.Errorf("%s: %w", name, err)
	}
	if err := h.Matches(release); err != nil {
		return h, fmt.Errorf("%s: %w", name, err)
	}
	for flag, is := range map[string]string{"version": h.Version, "flavour": h.Flavour} {
		if want := c.String(flag); want != "" && want != is {
			return h, fmt.Errorf("%s is of the %s %s, not %s", name, flag, is, want)
		}
	}
	h.Floor = c.String("floor")
	return h, nil
}
