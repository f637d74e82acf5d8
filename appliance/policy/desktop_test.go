package policy

import (
	"strings"
	"testing"
)

func withDesktop(rdp string) string {
	return "targets:\n  - name: win-1\n    vnet: hub\n    address: 10.0.5.20\n    protocols: rdp\n    rdp: " + rdp + "\nrules: [{name: r, who: [ann], targets: [win-1]}]\n"
}

func TestDesktop(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	colons := strings.ToUpper(strings.TrimSuffix(strings.Repeat("ab:", 32), ":"))
	for _, c := range []struct {
		rdp  string
		want Desktop
	}{
		{"{}", Desktop{}},
		{"{certificate: first_use, credssp: appliance, autologon: true, graphics: rfx}", Desktop{}},
		{`{certificate: "sha256:` + colons + `", autologon: false, display_control: true}`, Desktop{Certificates: []string{sum}, KeepDialog: true, DisplayControl: true}},
		{"{certificate: ['sha256:" + sum + "', 'sha256:" + sum + "'], credssp: browser}", Desktop{Certificates: []string{sum, sum}, CredSSP: CredSSPBrowser}},
		{"{credssp: off, graphics: as-is}", Desktop{CredSSP: CredSSPOff, AsIs: true}},
	} {
		p, err := parseOne(withDesktop(c.rdp))
		if err != nil {
			t.Errorf("%s: %v", c.rdp, err)
			continue
		}
		g, err := p.Decide(Request{User: "ann", Target: "win-1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Desktop; strings.Join(got.Certificates, " ") != strings.Join(c.want.Certificates, " ") || got.CA != c.want.CA || got.CredSSP != c.want.CredSSP ||
			got.KeepDialog != c.want.KeepDialog || got.DisplayControl != c.want.DisplayControl || got.AsIs != c.want.AsIs {
			t.Errorf("%s: %+v, want %+v", c.rdp, got, c.want)
		}
	}
	for rdp, want := range map[string]string{
		"{certificate: 'sha1:abcd'}":             "is not the SHA-256 of a certificate",
		"{certificate: 'sha256:abcd'}":           "is not the SHA-256 of a certificate",
		"{certificate: [first_use]}":             "is not the SHA-256 of a certificate",
		"{ca: nonsense}":                         "these are not certificates in PEM",
		"{ca: nonsense, certificate: first_use}": "by certificate or by ca, not by both",
		"{credssp: perhaps}":                     `credssp is "perhaps"`,
		"{graphics: h264}":                       `graphics is "h264"`,
		"{autologon: perhaps}":                   "must be true or false",
		"{colour: true}":                         "unknown key",
	} {
		if _, err := parseOne(withDesktop(rdp)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rdp, err, want)
		}
	}
}
