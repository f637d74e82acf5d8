package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

// maxDocument is what a machine takes.
const maxDocument = 1 << 20

func (c *command) configure() *cli.Command {
	return &cli.Command{
		Name: "configure", Usage: "give a configuration to a machine that has none", ArgsUsage: "URL",
		Description: `A machine that runs the appliance's image and finds no configuration says so
on its console, with its address, a fingerprint and a code for ten minutes.

  sallyport admin configure https://10.0.0.4 --fingerprint 3f9a… \
    --code-file - --config sallyport.yaml

The file may carry those that it names; see docs/image-configuration.md. Exit
status: 1 if there are faults in it.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "fingerprint", Usage: "of the certificate's key, `SHA-256`; must be given"},
			&cli.StringFlag{Name: "code-file", Usage: "read the code from `FILE`; - is stdin"},
			&cli.StringFlag{Name: "config", Usage: "the configuration, a `FILE`; must be given"},
		},
		Action: func(x *cli.Context) error {
			url, err := only(x, "URL")
			if err != nil {
				return err
			}
			if x.String("fingerprint") == "" || x.String("config") == "" {
				return usage("--fingerprint and --config are needed", "the machine's console shows the fingerprint")
			}
			o := client.ConfigureOptions{URL: url, Fingerprint: x.String("fingerprint")}
			if o.Document, err = readDocument(x.String("config")); err != nil {
				return err
			}
			if o.Code, err = c.code(x.Context, x.String("code-file"), "code", "the machine's console"); err != nil {
				return err
			}
			faults, err := client.Configure(x.Context, o)
			if err != nil {
				return err
			}
			if c.json {
				if err := c.print(map[string][]string{"faults": append([]string{}, faults...)}); err != nil {
					return err
				}
			}
			if len(faults) == 0 {
				if !c.json {
					c.say("the machine has taken it, and serves with it in a moment")
				}
				return nil
			}
			for _, f := range faults {
				if !c.json {
					c.say(frame.Clip(f, 500))
				}
			}
			return exitStatus(1)
		},
	}
}

func readDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage("the configuration cannot be read: "+err.Error(), "")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = errors.New("it has more than 1 MiB")
	}
	if err != nil {
		return nil, usage(fmt.Sprintf("the configuration cannot be read: %v", err), "")
	}
	return b, nil
}
