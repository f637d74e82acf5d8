package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/host"
	"sallyport/host/source"
)

const (
	volumeSlow = 2 * time.Minute // a CD, on a machine that is busy starting

	// maxVolumeText is what a document and its files have as base64 in JSON, with their names.
	maxVolumeText = (source.MaxDocument+source.MaxFiles)/3*4 + 1<<20
)

// A volumeText is what the child that reads a volume says.
type volumeText struct {
	Config []byte            `json:"config,omitempty"`
	Files  map[string][]byte `json:"files,omitempty"`
	From   string            `json:"from,omitempty"`
	None   bool              `json:"none,omitempty"` // it has no document
	Fault  string            `json:"fault,omitempty"`
}

// volumeCommand is the child of a Reading: it reads a volume and says what is in it.
func volumeCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "volume", Hidden: true, Usage: "is started by init",
		Action: func(c *cli.Context) error {
			in, out, err := host.JoinReading()
			if err != nil || c.NArg() != 1 {
				return fail(exitUsage, "run: sallyportd serve", "volume is for init to start, not for people")
			}
			d, err := source.ReadVolume(in, c.Args().First())
			text := volumeText{d.Config, d.Files, d.From, errors.Is(err, source.ErrNone), ""}
			if err != nil && !text.None {
				text.Fault = err.Error()
			}
			return json.NewEncoder(out).Encode(text)
		},
	}
}

// volumeReader has a confined child read a volume: file systems are parsed there that anybody may have made. output is the
// child's, if it is not nil.
func volumeReader(ctx context.Context, output *os.File) source.VolumeReader {
	return func(f *os.File, from string) (source.Document, error) {
		b, err := host.Reading{Args: []string{"sallyportd", "volume", from}, Input: f, Timeout: volumeSlow, Limit: maxVolumeText, Output: output}.Run(ctx)
		if err != nil {
			return source.Document{}, fmt.Errorf("%s: it cannot be read: %w", from, err)
		}
		var text volumeText
		switch err := json.Unmarshal(b, &text); {
		case err != nil:
			return source.Document{}, fmt.Errorf("%s: %w", from, err)
		case text.None:
			return source.Document{}, source.ErrNone
		case text.Fault != "":
			return source.Document{}, errors.New(text.Fault)
		}
		return source.Document{From: text.From, Config: text.Config, Files: text.Files}, nil
	}
}
