package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/config"
)

// settings are what administrators see of the configuration: what is listed here and nothing else, so that a new secret is
// not among them by itself.
func settings(cfg *config.Config) (list []api.Setting) {
	set := func(key, format string, args ...any) {
		if value := fmt.Sprintf(format, args...); value != "" {
			list = append(list, api.Setting{Key: key, Value: value})
		}
	}
	span := func(key string, d time.Duration) {
		if d != 0 {
			set(key, "%v", d)
		}
	}
	count := func(key string, n int) {
		if n != 0 {
			set(key, "%d", n)
		}
	}
	set("name", "%s", cfg.Name)
	set("banner", "%s", cfg.Banner)
	set("listen", "%s", where(cfg))
	set("listen.proxy_protocol", "%s", words(cfg.Listen.ProxyProtocol))
	set("tls", "%s", certificateOf(cfg.TLS))
	set("state", "%s", cfg.State)
	set("store", "%s", cmp.Or(map[bool]string{true: "a database that appliances share"}[cfg.Store.URL != ""], "a database of its own"))
	set("access", "%s", cfg.Access)
	set("uplink", "%s", cfg.Uplink)
	for _, name := range slices.Sorted(maps.Keys(cfg.VNets)) {
		v := cfg.VNets[name]
		set("vnets."+name+".link", "%s", v.Link.Kind)
		set("vnets."+name+".prefixes", "%s", words(v.Prefixes))
		set("vnets."+name+".deny", "%s", words(v.Deny))
		set("vnets."+name+".dns", "%s", words(v.DNS))
	}
	set("identity.url", "%s", cfg.Identity.URL)
	span("identity.lasts", cfg.Identity.Lasts)
	for _, p := range cfg.Identity.Providers {
		set("identity.providers."+p.Name, "%s", p.Issuer)
	}
	if cfg.Identity.Local.PasswordAlone {
		set("identity.local.password_alone", "true")
	}
	span("drain.grace", cfg.Drain.Grace)
	span("grants.cache", cfg.Grants.Cache)
	count("limits.flows", cfg.Limits.Flows)
	count("limits.flows_per_user", cfg.Limits.FlowsPerUser)
	span("limits.grace", cfg.Limits.Grace)
	span("limits.approval", cfg.Limits.Approval)
	span("limits.approved", cfg.Limits.Approved)
	count("audit.keep_days", cfg.Audit.KeepDays)
	count("audit.keep_mb", cfg.Audit.KeepMB)
	for _, e := range cfg.Audit.Export {
		set("audit.export."+e.Name, "%s", kindOf(e))
	}
	set("metrics.listen", "%s", cfg.Metrics.Listen)
	set("time.servers", "%s", strings.Join(cfg.Time.Servers, ", "))
	return list
}

func words[T fmt.Stringer](list []T) string {
	var all []string
	for _, one := range list {
		all = append(all, one.String())
	}
	return strings.Join(all, ", ")
}

func certificateOf(t config.TLS) string {
	switch {
	case t.SelfSigned:
		return "self-signed"
	case len(t.ACME.Domains) > 0:
		return "by ACME for " + strings.Join(t.ACME.Domains, ", ")
	}
	return t.Cert
}

// kindOf is what an export goes to. Its address may have a secret in it.
func kindOf(e config.Export) string {
	switch {
	case e.File != "":
		return "a file"
	case e.Syslog != "":
		return "syslog"
	case e.Webhook != "":
		return "a webhook"
	case e.OTLP != "":
		return "OpenTelemetry"
	}
	return "the database"
}
