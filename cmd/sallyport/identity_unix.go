//go:build unix

package main

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
)

// identitySocket is where the SSH agent of one connection will be. The folder is made, for its owner only, by who serves.
func identitySocket() string {
	var b [8]byte
	rand.Read(b[:])
	return filepath.Join(os.TempDir(), "sallyport-"+hex.EncodeToString(b[:]), "agent")
}
