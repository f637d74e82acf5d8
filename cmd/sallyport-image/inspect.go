package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sallyport/image"
)

func inspectCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "list what is in a disk, EFI program or initramfs", ArgsUsage: "FILE",
		UsageText: "sallyport-image inspect [--json] FILE",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON, with whole hashes", DisableDefaultText: true}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused("inspect takes one file; see: sallyport-image inspect --help")
			}
			content, err := image.Inspect(c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				out := json.NewEncoder(e.stdout)
				out.SetIndent("", "\t")
				out.SetEscapeHTML(false)
				return out.Encode(content)
			}
			return e.table(content)
		},
	}
}

// table prints a line an item, with no spaces at the end.
func (e env) table(content *image.Content) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tNAME\tSIZE\tSHA-256\tNOTE")
	for _, i := range content.Items {
		name := i.Name
		if i.In != "" {
			name = i.In + ": " + name
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.16s\t%s\n", i.Kind, name, i.Size, i.SHA256, i.Note)
	}
	w.Flush()
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(e.stdout, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
