package main

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/auth"
)

// An unlockRequest names the lock that root takes off.
type unlockRequest struct {
	Kind auth.LockKind `json:"kind"`
	Name string        `json:"name"`
}

// controlUnlock takes a lock off for root.
func (d *daemon) controlUnlock(w http.ResponseWriter, r *http.Request) {
	var ask unlockRequest
	err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&ask)
	if err == nil {
		err = d.gateway.Unlock(r.Context(), ask.Kind, ask.Name)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	json.NewEncoder(w).Encode(struct{}{})
}

func unlockCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "unlock", ArgsUsage: "user|device|target NAME", Usage: "take a lock off, as root",
		Description: "For an administrator whom the only other one has locked. Else use\nsallyport admin unlock.",
		Flags:       []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return misused(c, "takes user, device or target, and a name")
			}
			_, cfg, err := load(c)
			if err != nil {
				return err
			}
			return askDaemon(c.Context, cfg, http.MethodPost, "unlock", unlockRequest{auth.LockKind(c.Args().Get(0)), c.Args().Get(1)}, &struct{}{})
		},
	}
}
