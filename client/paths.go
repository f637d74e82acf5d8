package client

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// agentPlaces are where a Home's agent and the commands find each other: a folder of the person's own, 0700.
type agentPlaces struct {
	dir      string
	socket   string // 0600
	lock     string // held by the agent that listens
	starting string // held by the command that starts one
	log      string
}

// maxSocketPath is what fits into a socket's address on every system, with the byte that ends it.
const maxSocketPath = 103

// agentPlaces are in the runtime folder that the system gives a person, where there is one, else in the Home.
func (h Home) agentPlaces() (agentPlaces, error) {
	home, err := filepath.Abs(h.dir)
	if err != nil {
		return agentPlaces{}, err
	}
	dir := filepath.Join(home, "agent")
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) && checkFolder(runtime) == nil {
		sum := sha256.Sum256([]byte(home)) // each Home has an agent of its own
		dir = filepath.Join(runtime, "sallyport", hex.EncodeToString(sum[:4]))
	}
	p := agentPlaces{dir: dir, socket: filepath.Join(dir, "socket"), lock: filepath.Join(dir, "lock"),
		starting: filepath.Join(dir, "starting"), log: filepath.Join(home, "agent.log")}
	if len(p.socket) > maxSocketPath {
		return p, fmt.Errorf("the path %s is too long for a socket", p.socket)
	}
	return p, nil
}

// open makes the folder.
func (p agentPlaces) open() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	return checkFolder(p.dir)
}
