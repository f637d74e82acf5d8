package config

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"sallyport/appliance/policy/yamlfile"
)

// A Fault is one thing that is wrong with a configuration, and Faults is all of them.
type (
	Fault  = yamlfile.Fault
	Faults = yamlfile.Faults
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of the file.
func Schema() []byte { return slices.Clone(schema) }

// Load reads the file at path and checks the files that it names. Beside Faults it returns what it has understood, which
// is good for finding more faults and for nothing else.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parse(path, data, os.Stat)
}

// Parse reads a configuration without looking at the files that it names. name is the file's name in messages, and
// its folder is what relative paths are relative to.
func Parse(name string, data []byte) (*Config, error) {
	c, err := parse(name, data, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ParseFiles is Load of data, that asks stat about the files that the configuration names.
func ParseFiles(name string, data []byte, stat func(path string) (fs.FileInfo, error)) (*Config, error) {
	return parse(name, data, stat)
}

func parse(name string, data []byte, stat func(path string) (fs.FileInfo, error)) (*Config, error) {
	var written Config
	f := yamlfile.Read(name, data, &written)
	c := checker{File: f, Config: written.withDefaults(), folder: filepath.Dir(name), stat: stat}
	c.check()
	return &c.Config, f.Err()
}

// DecodeNode reads "dhcp" or a list.
func (a *Addresses) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	switch {
	case n.Kind == yamlfile.String && n.Text == "dhcp":
		a.DHCP = true
	case n.Kind == yamlfile.List:
		f.Decode(n, &a.Static, what)
		if len(n.Items) == 0 {
			f.Fault(n.Position, "give an address such as 10.0.0.4/24, or dhcp", "%s is empty", what)
		}
	default:
		f.Fault(n.Position, "such as [10.0.0.4/24]", "%s must be dhcp or a list", what)
	}
}

// DecodeNode reads one of the kinds of link, and with packet its queues.
func (l *Link) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	type plain Link // without this method
	f.Decode(n, (*plain)(l), what)
	if n.Kind != yamlfile.Map {
		return
	}
	var kinds []LinkKind
	for _, k := range n.Keys {
		if k.Name != "queues" {
			kinds = append(kinds, LinkKind(k.Name))
		}
	}
	if len(kinds) != 1 {
		f.Fault(n.Position, "such as {packet: eth1}", "%s must have one of packet, tap, wireguard and kernel", what)
		return
	}
	l.Kind = kinds[0]
}

// DecodeNode reads nothing: the checker refuses the key as a whole.
func (*Files) DecodeNode(*yamlfile.File, *yamlfile.Node, string) {}

// DecodeNode reads 44 characters of base64.
func (k *WireGuardKey) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	if !f.Want(n, yamlfile.String, what) {
		return
	}
	key, err := ParseWireGuardKey(n.Text)
	if err != nil {
		f.Fault(n.Position, "wg pubkey prints one", "%s: %v", what, err)
		return
	}
	*k = key
}

// DecodeNode reads 44 characters of base64.
func (k *UpdateKey) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	if !f.Want(n, yamlfile.String, what) {
		return
	}
	b, err := base64.StdEncoding.Strict().DecodeString(n.Text)
	if err != nil || len(b) != len(k) {
		f.Fault(n.Position, "sallyport-image update-key prints one", "%s: a key is 44 characters of base64", what)
		return
	}
	copy(k[:], b)
}

// parseHostPort reads an address and port to listen on; the address may be empty, the port 0 for any.
func parseHostPort(s string) bool {
	if len(s) > 0 && s[0] == ':' {
		s = "0.0.0.0" + s
	}
	_, err := netip.ParseAddrPort(s)
	return err == nil
}
