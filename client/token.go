package client

import (
	"os"
	"path/filepath"
)

// The access token of an appliance is kept beside the device key, without which it is worth nothing. It is no loss when it
// is gone: the appliance knows the sign-in of a device, and gives another.

const maxToken = 16 << 10

func (h Home) tokenFile(name string) string { return filepath.Join(h.dir, name+".token") }

// token is the one that is kept; nil if there is none.
func (h Home) token(name string) []byte {
	b, err := os.ReadFile(h.tokenFile(name))
	if err != nil || len(b) > maxToken {
		return nil
	}
	return b
}

func (h Home) keepToken(name string, token []byte) {
	if len(token) <= maxToken {
		h.write(name+".token", token) // or the next connection gets one anew
	}
}

func (h Home) dropToken(name string) { os.Remove(h.tokenFile(name)) }
