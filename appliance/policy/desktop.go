package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"

	"sallyport/appliance/policy/yamlfile"
)

// A Desktop says how the appliance itself speaks RDP to a target. The zero value fits most.
type Desktop struct {
	Certificates   []string // SHA-256 of those that the target may show, in hexadecimal; with CA none: the first that it shows
	CA             string   // authorities whose certificates for the target are good, in PEM
	CredSSP        string   // who proves the password to the target before there is a desktop: see below
	KeepDialog     bool     // the target shows its log-on dialog even where it could log on by itself
	DisplayControl bool     // the target changes the size of a desktop while it is shown
	AsIs           bool     // the picture is as the client asks for it, not RemoteFX
}

// Who may prove the password.
const (
	CredSSPAppliance = ""        // the appliance, or the browser if the person prefers
	CredSSPBrowser   = "browser" // the browser alone: the appliance is given no password
	CredSSPOff       = "off"     // nobody: the target has TLS only
)

// desktopForm is rdp of a target.
type desktopForm struct {
	Certificate    certificatesForm `yaml:"certificate"`
	CA             string           `yaml:"ca"`
	CredSSP        string           `yaml:"credssp"`
	Autologon      autologonForm    `yaml:"autologon"`
	DisplayControl bool             `yaml:"display_control"`
	Graphics       string           `yaml:"graphics"`
}

// firstUse is certificate for a target that is known by the first that it shows.
const firstUse = "first_use"

// certificatesForm are fingerprints: one, a list, or first_use.
type certificatesForm []string

// DecodeNode implements yamlfile.NodeDecoder.
func (c *certificatesForm) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	items := []*yamlfile.Node{n}
	if n.Kind == yamlfile.List {
		items = n.Items
	}
	for _, item := range items {
		if !f.Want(item, yamlfile.String, what) {
			continue
		}
		text, ok := strings.CutPrefix(strings.ToLower(item.Text), "sha256:")
		if !ok && text == firstUse && n.Kind != yamlfile.List {
			continue
		}
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if !ok || err != nil || len(sum) != sha256.Size {
			f.Fault(item.Position, "such as sha256:9f86d081…, what openssl x509 -fingerprint -sha256 prints, or first_use", "%s is not the SHA-256 of a certificate", what)
			continue
		}
		*c = append(*c, hex.EncodeToString(sum))
	}
}

// autologonForm is autologon, which is on unless the file says that it is not.
type autologonForm struct{ off bool }

// DecodeNode implements yamlfile.NodeDecoder.
func (a *autologonForm) DecodeNode(f *yamlfile.File, n *yamlfile.Node, what string) {
	if f.Want(n, yamlfile.Bool, what) {
		a.off = !strings.EqualFold(n.Text, "true")
	}
}

// desktop checks rdp of target i.
func (c *checker) desktop(i int, d desktopForm) Desktop {
	if c.Has("targets", i, "rdp", "ca") && !areCertificates(d.CA) {
		c.Fault(c.At("targets", i, "rdp", "ca"), "-----BEGIN CERTIFICATE----- and what follows, after ca: |", "these are not certificates in PEM")
	}
	if c.Has("targets", i, "rdp", "ca") && c.Has("targets", i, "rdp", "certificate") {
		c.Fault(c.At("targets", i, "rdp", "ca"), "", "a target is known by certificate or by ca, not by both")
	}
	who := map[string]string{"": CredSSPAppliance, "appliance": CredSSPAppliance, "browser": CredSSPBrowser, "off": CredSSPOff}
	if _, known := who[d.CredSSP]; !known {
		c.Fault(c.At("targets", i, "rdp", "credssp"), "appliance, browser or off", "credssp is %q", d.CredSSP)
	}
	if !slices.Contains([]string{"", "rfx", "as-is"}, d.Graphics) {
		c.Fault(c.At("targets", i, "rdp", "graphics"), "rfx or as-is", "graphics is %q", d.Graphics)
	}
	return Desktop{Certificates: d.Certificate, CA: d.CA, CredSSP: who[d.CredSSP], KeepDialog: d.Autologon.off,
		DisplayControl: d.DisplayControl, AsIs: d.Graphics == "as-is"}
}

// areCertificates says whether a text is certificates in PEM, and nothing else.
func areCertificates(text string) bool {
	rest, some := []byte(text), false
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return false
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		some = true
	}
	return some
}
