package client

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"sallyport/transport"
)

// pathsFile keeps which transport has lately won the race to each appliance. What it says is only where the next race
// begins: it may be lost, be old, or be written by two at once.
const pathsFile = "paths.json"

// memory is the Home's memory of races, which keeps itself.
func (h Home) memory() *transport.Memory {
	m := &transport.Memory{}
	if f, err := os.Open(filepath.Join(h.dir, pathsFile)); err == nil {
		var wins []transport.Win
		if json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(&wins) == nil {
			m.Restore(wins)
		}
		f.Close()
	}
	m.Changed = func(wins []transport.Win) {
		if _, err := os.Stat(h.dir); err != nil {
			return // logged out, folder and all
		}
		if b, err := json.Marshal(wins); err == nil {
			h.write(pathsFile, append(b, '\n'))
		}
	}
	return m
}
