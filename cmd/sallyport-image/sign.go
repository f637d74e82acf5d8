package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"sallyport/image"
)

func signCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign an image for Secure Boot", ArgsUsage: "FILE|DIR",
		UsageText: "sallyport-image sign --key KEY --cert CERT [--out OUT] FILE|DIR",
		Description: "FILE is an EFI program, which is signed in its place or into the file OUT.\n" +
			"DIR is a folder that build has written; the signed image, with the boot\nloader signed too, goes into the folder OUT.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the `FILE` of the private key, RSA in PEM"},
			&cli.StringFlag{Name: "cert", Usage: "the `FILE` of its certificate in PEM, which the\nfirmware's db must have"},
			&cli.StringFlag{Name: "out", Usage: "where the signed one goes"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.String("key") == "" || c.String("cert") == "" {
				return misused("sign needs --key, --cert and one file or folder; see: sallyport-image sign --help")
			}
			name, out := c.Args().First(), c.String("out")
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			if info.IsDir() && out == "" {
				return misused("%s is a folder; name the one for the signed image with --out", name)
			}
			if other, err := os.Stat(out); err == nil && info.IsDir() && os.SameFile(info, other) {
				return misused("--out must be another folder: the unsigned image can be verified, and signed again")
			}
			key, err := image.ReadKey(c.String("key"), c.String("cert"))
			if err != nil {
				return err
			}
			if !info.IsDir() {
				if out == "" {
					out = name
				}
				return image.SignFile(name, out, key)
			}
			m, err := image.Sign(c.Context, name, key, image.Options{Out: out, Step: e.progress().step})
			if err != nil {
				return err
			}
			return e.files(m, out)
		},
	}
}
