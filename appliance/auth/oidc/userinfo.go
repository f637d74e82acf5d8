package oidc

import (
	"context"
	"fmt"
	"io"
	"net/http"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// complete adds what the ID token leaves out of a person's name and groups from the provider's userinfo: a provider that
// keeps to the letter has them there and nowhere else. What the ID token says stands, for it is signed.
func (p *Provider) complete(ctx context.Context, m *metadata, accessToken string, c claims) error {
	if m.UserInfo == "" || c.has(p.config.UserClaim) && c.has(p.config.GroupsClaim) {
		return nil
	}
	more, err := p.userInfo(ctx, m.UserInfo, accessToken)
	if err != nil {
		return err
	}
	subject, err := c.text("sub")
	if err != nil {
		return p.refuse("sub is %s", c.show("sub"))
	}
	if other, err := more.text("sub"); err != nil || other != subject {
		return p.refuse("the userinfo is of sub %s, the id token of %.80q", more.show("sub"), subject)
	}
	for _, name := range []string{p.config.UserClaim, "email_verified", p.config.GroupsClaim, "_claim_names", "hasgroups"} {
		if !c.has(name) && more.has(name) {
			c[name] = more[name]
		}
	}
	return nil
}

func (p *Provider) userInfo(ctx context.Context, address, accessToken string) (claims, error) {
	const doing = "ask for its userinfo"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, p.refuse("%s: %.200q is no URL", doing, address)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+accessToken)
	answer, err := p.http.Do(req)
	if err != nil {
		return nil, p.down(doing, err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode >= 500:
		return nil, p.down(doing, fmt.Errorf("it answers %s", answer.Status))
	case answer.StatusCode != http.StatusOK:
		return nil, p.refuse("%s: it answers %s", doing, answer.Status)
	}
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, p.down(doing, err)
	}
	var more claims
	if err := josejson.Unmarshal(data, &more); err != nil {
		return nil, p.refuse("%s: it is not a JSON object: %.200q", doing, err)
	}
	return more, nil
}
