package config

import (
	"net/url"
	"slices"
	"time"

	"sallyport/appliance/policy/yamlfile"
)

// checkAudit checks how long the audit log is kept, and its receivers.
func (c *checker) checkAudit() {
	for key, n := range map[string]int{"keep_days": c.Audit.KeepDays, "keep_mb": c.Audit.KeepMB} {
		if n > 1_000_000 || c.Text("audit", key) == "0" {
			c.Fault(c.At("audit", key), "", "audit.%s must be 1 to 1000000", key)
		}
	}
	if c.Audit.Sync > 10*time.Second {
		c.Fault(c.At("audit", "sync"), "a loss of power may cost as much", "audit.sync must be at most 10s")
	}
	for i := range c.Audit.Export {
		c.checkExport(&c.Audit.Export[i], i)
	}
}

func (c *checker) checkExport(e *Export, i int) {
	at := func(key string) yamlfile.Position { return c.At("audit", "export", i, key) }
	if !vnetName.MatchString(e.Name) {
		c.Fault(at("name"), "such as siem", "the receiver's name %q must be 1 to 32 of a-z, 0-9 and -", e.Name)
	} else if slices.ContainsFunc(c.Audit.Export[:i], func(o Export) bool { return o.Name == e.Name }) {
		c.Fault(at("name"), "", "there are two receivers %q", e.Name)
	}
	forms := 0
	for key, value := range map[string]string{"file": e.File, "syslog": e.Syslog, "webhook": e.Webhook, "otlp": e.OTLP} {
		if value == "" {
			continue
		}
		forms++
		if u, err := url.Parse(value); (key == "webhook" || key == "otlp") && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			c.Fault(at(key), "such as https://siem.example/in", "%q is not a URL", value)
		}
		if key == "syslog" && !isEndpoint(value) {
			c.Fault(at(key), "such as siem.example:6514", "%q is not a host and a port", value)
		}
	}
	if e.Database {
		forms++
		if e.CA != "" {
			c.Fault(at("ca"), "store.url says how the database is verified", "ca does not go with database")
		}
	}
	if forms != 1 {
		c.Fault(at("name"), "", "receiver %q must have one of file, syslog, webhook, otlp and database", e.Name)
	}
	if e.File != "" {
		e.File = c.join(e.File)
		if e.CA != "" {
			c.Fault(at("ca"), "leave it out", "a file has no certificate")
		}
	}
	if e.CA != "" {
		c.path(&e.CA, false, "audit", "export", i, "ca")
	}
	if e.TokenFile != "" {
		if e.Webhook == "" && e.OTLP == "" {
			c.Fault(at("token_file"), "leave it out", "only webhook and otlp take a token")
		}
		c.path(&e.TokenFile, true, "audit", "export", i, "token_file")
	}
}
