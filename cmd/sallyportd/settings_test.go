package main

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport/appliance/config"
)

// TestSettings: whatever text a configuration has in it, that of fields which hold secrets, or the way to them, is not shown.
func TestSettings(t *testing.T) {
	cfg := &config.Config{VNets: map[string]config.VNet{"hub": {}}, Identity: config.Identity{Providers: []config.Provider{{Name: "corp"}}},
		Audit: config.Audit{Export: []config.Export{{Name: "all"}, {Name: "siem", Webhook: "https://siem.example/secret-in-path"}}}}
	secret := []*string{&cfg.Store.URL, &cfg.Store.PasswordFile, &cfg.IdentityKey, &cfg.TLS.Key, &cfg.Identity.Providers[0].ClientSecretFile,
		&cfg.Identity.Providers[0].ClientID, &cfg.Audit.Export[0].TokenFile, &cfg.Audit.Export[0].Webhook, &cfg.Audit.Export[0].OTLP}
	for _, s := range secret {
		*s = "secret-in-path"
	}
	cfg.Name, cfg.Banner = "bastion", "be kind"
	text, err := json.Marshal(settings(cfg))
	if err != nil || strings.Contains(string(text), "secret-in-path") {
		t.Errorf("%s, %v", text, err)
	}
	for _, says := range []string{`"key":"name","value":"bastion"`, `"be kind"`, `"audit.export.siem","value":"a webhook"`} {
		if !strings.Contains(string(text), says) {
			t.Errorf("%s does not say %s", text, says)
		}
	}
}
