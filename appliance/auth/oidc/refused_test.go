package oidc

import (
	"crypto/x509"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestRefusedTokens has one token for each thing that can be wrong, and the line that the log has of it. In a synctest
// bubble it is midnight of 2000-01-01, 946684800.
func TestRefusedTokens(t *testing.T) {
	claim := func(name string, value any) func(*testing.T, map[string]any) string {
		return func(t *testing.T, c map[string]any) string {
			c[name] = value
			maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
			return sign(t, jose.ES256, "ec-1", ecKey, map[string]any{"typ": "JWT"}, encode(t, c))
		}
	}
	hand := func(header string, change func(payload string) string) func(*testing.T, map[string]any) string {
		return func(t *testing.T, c map[string]any) string { return byHand(header, change(string(encode(t, c)))) }
	}
	signed := func(alg jose.SignatureAlgorithm, id string, key any, headers map[string]any) func(*testing.T, map[string]any) string {
		return func(t *testing.T, c map[string]any) string { return sign(t, alg, id, key, headers, encode(t, c)) }
	}
	text := func(change func(raw string) string) func(*testing.T, map[string]any) string {
		return func(t *testing.T, c map[string]any) string {
			return change(sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, c)))
		}
	}
	same := func(payload string) string { return payload }
	const ed = `{"alg":"EdDSA","kid":"ed-1"}`
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}

	cases := []struct {
		what string
		make func(t *testing.T, good map[string]any) string
		line string
	}{
		{"another issuer", claim("iss", "https://evil.example"), `iss is "https://evil.example", not "https://id.example"`},
		{"the issuer with a slash", claim("iss", issuerURL+"/"), `iss is "https://id.example/", not "https://id.example"`},
		{"no issuer", claim("iss", nil), `iss is absent, not "https://id.example"`},
		{"an issuer that is a list", claim("iss", []string{issuerURL}), `iss is ["https://id.example"], not "https://id.example"`},
		{"another audience", claim("aud", "other"), `aud is "other", not "sallyport" alone`},
		{"another audience beside", claim("aud", []string{clientID, "other"}), `aud is ["sallyport","other"], not "sallyport" alone`},
		{"no audience", claim("aud", nil), `aud is absent, not "sallyport" alone`},
		{"an empty audience", claim("aud", []string{}), `aud is [], not "sallyport" alone`},
		{"an audience that is a number", claim("aud", 7), `aud is 7, not "sallyport" alone`},
		{"an audience of null", claim("aud", []any{nil}), `aud is [null], not "sallyport" alone`},
		{"another party", claim("azp", "other"), `azp is "other", not "sallyport"`},
		{"a party that is a list", claim("azp", []string{clientID}), `azp is ["sallyport"], not "sallyport"`},
		{"another nonce", claim("nonce", "x"), `nonce is not the one of this sign-in`},
		{"no nonce", claim("nonce", nil), `nonce is not the one of this sign-in`},
		{"a nonce that is a number", claim("nonce", 7), `nonce is not the one of this sign-in`},
		{"expired", claim("exp", 946684740), `the id token has expired: exp is 946684740, it is 946684800`},
		{"no expiry", claim("exp", nil), `exp is absent, not a time`},
		{"an expiry that is text", claim("exp", "946688400"), `exp is "946688400", not a time`},
		{"an expiry before time", claim("exp", -1), `exp is -1, not a time`},
		{"an expiry without end", claim("exp", 1e300), `exp is 1e+300, not a time`},
		{"not yet good", claim("nbf", 946684861), `nbf is in the future: 946684861, it is 946684800; compare the clocks`},
		{"not yet good, as text", claim("nbf", "soon"), `nbf is "soon", not a time`},
		{"from the future", claim("iat", 946684861), `the id token is from the future: iat is 946684861, it is 946684800; compare the clocks`},
		{"of no time", claim("iat", nil), `iat is absent, not a time`},
		{"signed in in the future", claim("auth_time", 946684861), `auth_time is in the future: 946684861, it is 946684800; compare the clocks`},
		{"signed in some day", claim("auth_time", "today"), `auth_time is "today", not a time`},
		{"nobody", claim("sub", nil), `sub is absent, not 1 to 255 characters of ASCII`},
		{"a person who is a number", claim("sub", 1), `sub is 1, not 1 to 255 characters of ASCII`},
		{"a person who is null", hand(ed, func(p string) string { return strings.Replace(p, `"sub":"0001"`, `"sub":null`, 1) }), `sub is null, not 1 to 255 characters of ASCII`},
		{"an empty person", claim("sub", ""), `sub is "", not 1 to 255 characters of ASCII`},
		{"a person with a long name", claim("sub", strings.Repeat("x", 256)), `sub is "` + strings.Repeat("x", 119) + `, not 1 to 255 characters of ASCII`},
		{"a person not in ASCII", claim("sub", "änn"), `sub is "änn", not 1 to 255 characters of ASCII`},
		{"a person in capitals", hand(ed, func(p string) string { return strings.Replace(p, `"sub"`, `"SUB"`, 1) }), `sub is absent, not 1 to 255 characters of ASCII`},
		{"two persons", hand(ed, func(p string) string { return strings.Replace(p, `"sub"`, `"sub":"0002","sub"`, 1) }), `the claims of the id token are not a JSON object: "json: duplicate key 'sub' in object"`},
		{"alg none", hand(`{"alg":"none"}`, same), `the id token is signed with "none", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"alg None and no signature", text(func(raw string) string {
			return b64.EncodeToString([]byte(`{"alg":"None"}`)) + "." + strings.Split(raw, ".")[1] + "."
		}), `the id token is signed with "None", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"no alg", hand(`{"kid":"ed-1"}`, same), `the id token is signed with "", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"HS256 with the public key", signed(jose.HS256, "rsa-1", rsaPublic, nil), `the id token is signed with "HS256", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"HS256 with the client's secret", signed(jose.HS256, "", []byte(secret+secret), nil), `the id token is signed with "HS256", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"RS512", signed(jose.RS512, "rsa-1", rsaKey, nil), `the id token is signed with "RS512", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"ES384", signed(jose.ES384, "ec-384", ec384, nil), `the id token is signed with "ES384", allowed are [RS256 PS256 ES256 EdDSA]`},
		{"an unknown key", signed(jose.EdDSA, "gone", edStranger, nil), `the provider has no key with the id "gone"`},
		{"another's key under a known id", signed(jose.EdDSA, "ed-1", edStranger, nil), `the signature of the id token does not verify with the provider's key "ed-1"`},
		{"the id of another key", signed(jose.EdDSA, "ed-2", edKey, nil), `the signature of the id token does not verify with the provider's key "ed-2"`},
		{"the id of a key of another kind", signed(jose.EdDSA, "rsa-1", edKey, nil), `the provider's key "rsa-1" is not for EdDSA`},
		{"a key for encryption", signed(jose.EdDSA, "ed-enc", edOther, nil), `the provider's key "ed-enc" is not for EdDSA`},
		{"a small RSA key", hand(`{"alg":"RS256","kid":"rsa-small"}`, same), `the provider's key "rsa-small" is not for RS256`},
		{"no key id, and two that fit", signed(jose.EdDSA, "", edKey, nil), `the id token names no key, and 2 of the provider's fit EdDSA`},
		{"a key that it brings along", signed(jose.EdDSA, "ed-1", edStranger, map[string]any{"jwk": jose.JSONWebKey{Key: edStrangerPub}}), `the signature of the id token does not verify with the provider's key "ed-1"`},
		{"an access token", signed(jose.EdDSA, "ed-1", edKey, map[string]any{"typ": "at+jwt"}), `the token is of type "at+jwt", not an id token`},
		{"critical headers", hand(`{"alg":"EdDSA","kid":"ed-1","crit":["b64"],"b64":false}`, same), `the id token has critical headers: ["b64"]`},
		{"two algorithms", hand(`{"alg":"EdDSA","alg":"none","kid":"ed-1"}`, same), `the header of the id token cannot be read: "json: duplicate key 'alg' in object"`},
		{"a header that is a list", hand(`[]`, same), `the header of the id token cannot be read: "json: cannot unmarshal array into Go value of type oidc.header"`},
		{"a header not in base64url", text(func(raw string) string { return "+" + raw[1:] }), `the header of the id token is not base64url`},
		{"claims not in base64url", text(func(raw string) string { return strings.Replace(raw, ".", ".=", 1) }), `the payload of the id token is not base64url`},
		{"claims that are a list", hand(ed, func(string) string { return `[]` }), `the claims of the id token are not a JSON object: "json: cannot unmarshal array into Go value of type oidc.claims"`},
		{"no claims", hand(ed, func(string) string { return `{}` }), `iss is absent, not "https://id.example"`},
		{"something after the claims", hand(ed, func(p string) string { return p + "{}" }), `the claims of the id token are not a JSON object: "invalid character '{' after top-level value"`},
		{"changed claims", text(func(raw string) string {
			parts := strings.Split(raw, ".")
			payload, _ := b64.DecodeString(parts[1])
			parts[1] = b64.EncodeToString([]byte(strings.Replace(string(payload), "0001", "0002", 1)))
			return strings.Join(parts, ".")
		}), `the signature of the id token does not verify with the provider's key "ed-1"`},
		{"no signature", text(func(raw string) string { return raw[:strings.LastIndex(raw, ".")+1] }), `the signature of the id token does not verify with the provider's key "ed-1"`},
		{"something after the signature", text(func(raw string) string { return raw + "AA" }), `the signature of the id token does not verify with the provider's key "ed-1"`},
		{"a line break after the signature", text(func(raw string) string { return raw + "\n" }), `the id token has line breaks in it`},
		{"a fourth part", text(func(raw string) string { return raw + ".AA" }), `the id token is not three parts with dots between, it has 4`},
		{"two signatures", func(t *testing.T, c map[string]any) string {
			s, err := jose.NewMultiSigner([]jose.SigningKey{{Algorithm: jose.EdDSA, Key: edStranger}, {Algorithm: jose.EdDSA, Key: edKey}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := s.Sign(encode(t, c))
			if err != nil {
				t.Fatal(err)
			}
			return signed.FullSerialize()
		}, `the id token is not three parts with dots between, it has 1`},
		{"nothing", func(*testing.T, map[string]any) string { return "" }, `the id token is not three parts with dots between, it has 1`},
		{"huge claims", claim("note", strings.Repeat("x", 48<<10)), `the id token has 65966 bytes, more than 65536`},
	}
	if len(cases) < 40 {
		t.Errorf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				p := newCorp(t, i)
				asked := begin(t, p, i)
				i.idToken = c.make(t, i.claims(asked.Get("nonce")))
				_, err := p.Finish(t.Context(), browser, answerOf(asked))
				refused(t, err, "corp: "+c.line)
			})
		})
	}
}

// What the cases above are made of is good before anything is wrong with it, with each algorithm and up to a minute
// between the clocks.
func TestAcceptedTokens(t *testing.T) {
	for what, c := range map[string]struct {
		alg jose.SignatureAlgorithm
		id  string
		key any
	}{
		"RS256":            {jose.RS256, "rsa-1", rsaKey},
		"PS256":            {jose.PS256, "rsa-1", rsaKey},
		"ES256":            {jose.ES256, "ec-1", ecKey},
		"EdDSA":            {jose.EdDSA, "ed-1", edKey},
		"without a key id": {jose.ES256, "", ecKey},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				p := newCorp(t, i)
				for _, times := range []map[string]any{
					nil,
					{"exp": time.Now().Unix() - 59},
					{"iat": time.Now().Unix() + 60, "nbf": time.Now().Unix() + 60},
					{"aud": []string{clientID}, "azp": clientID},
					{"exp": float64(time.Now().Unix()) + 1.5},
				} {
					asked := begin(t, p, i)
					good := i.claims(asked.Get("nonce"))
					maps.Copy(good, times)
					i.idToken = sign(t, c.alg, c.id, c.key, map[string]any{"typ": "jwt"}, encode(t, good))
					who, err := p.Finish(t.Context(), browser, answerOf(asked))
					if err != nil || show(who) != "ann 0001 https://id.example [dev ops]" {
						t.Errorf("%v: %s, %v %s", times, show(who), err, reason(err))
					}
				}
			})
		})
	}
}

func TestRefusedAnswers(t *testing.T) {
	for what, c := range map[string]struct {
		change  func(answer map[string][]string)
		browser string
		line    string
	}{
		"another browser":      {nil, "browser-2", "the answer came in another browser than the one that began"},
		"no browser":           {nil, "", "the answer came in another browser than the one that began"},
		"an unknown state":     {func(a map[string][]string) { a["state"] = []string{"x"} }, browser, "the state of the answer is none that waits: it has expired, was used, or is not from here"},
		"no state":             {func(a map[string][]string) { delete(a, "state") }, browser, "the state of the answer is none that waits: it has expired, was used, or is not from here"},
		"two states":           {func(a map[string][]string) { a["state"] = append(a["state"], "x") }, browser, "the answer has state more than once, or over 8192 bytes of it"},
		"two codes":            {func(a map[string][]string) { a["code"] = append(a["code"], "x") }, browser, "the answer has code more than once, or over 8192 bytes of it"},
		"a long code":          {func(a map[string][]string) { a["code"] = []string{strings.Repeat("x", 8193)} }, browser, "the answer has code more than once, or over 8192 bytes of it"},
		"another issuer":       {func(a map[string][]string) { a["iss"] = []string{"https://evil.example"} }, browser, `the answer's iss is "https://evil.example", not "https://id.example"`},
		"no issuer":            {func(a map[string][]string) { delete(a, "iss") }, browser, `the answer's iss is "", not "https://id.example"`},
		"cancelled":            {func(a map[string][]string) { delete(a, "code"); a["error"] = []string{"access_denied"} }, browser, `the provider answered "access_denied", ""`},
		"an error that jumps":  {func(a map[string][]string) { a["error"] = []string{"x\ny"}; a["error_description"] = []string{"<b>"} }, browser, `the provider answered "x\ny", "<b>"`},
		"neither code nor err": {func(a map[string][]string) { delete(a, "code") }, browser, "the answer has neither a code nor an error"},
		"a code of its own":    {func(a map[string][]string) { a["code"] = []string{"stolen"} }, browser, `exchange the code: the provider answered 400 Bad Request, "invalid_grant", "no"`},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				p := newCorp(t, i)
				asked := begin(t, p, i)
				i.idToken = sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, i.claims(asked.Get("nonce"))))
				answer := answerOf(asked)
				if c.change != nil {
					c.change(answer)
				}
				_, err := p.Finish(t.Context(), c.browser, answer)
				refused(t, err, "corp: "+c.line)
				if i.count("/token") > 0 && what != "a code of its own" {
					t.Error("the provider was asked all the same")
				}
			})
		})
	}
}

func TestAnAnswerIsGoodOnceAndForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		asked := begin(t, p, i)
		i.idToken = sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, i.claims(asked.Get("nonce"))))
		if _, err := p.Finish(t.Context(), browser, answerOf(asked)); err != nil {
			t.Fatal(err, reason(err))
		}
		const line = "corp: the state of the answer is none that waits: it has expired, was used, or is not from here"
		_, err := p.Finish(t.Context(), browser, answerOf(asked))
		refused(t, err, line)

		// The token of the one sign-in is not the other's.
		stolen := i.idToken
		asked = begin(t, p, i)
		i.idToken = stolen
		_, err = p.Finish(t.Context(), browser, answerOf(asked))
		refused(t, err, "corp: nonce is not the one of this sign-in")

		asked = begin(t, p, i)
		time.Sleep(signInTime)
		_, err = p.Finish(t.Context(), browser, answerOf(asked))
		refused(t, err, line)
	})
}

// FuzzVerify hands any text and any signed claims to the verifier.
func FuzzVerify(f *testing.F) {
	f.Add("a.b.c", `{}`)
	f.Add(byHand(`{"alg":"none"}`, `{}`), `{"iss":"https://id.example","aud":"sallyport","sub":"1","exp":1e12,"iat":0,"nonce":"n"}`)
	f.Add("{}", `{"iss":"https://id.example","aud":["sallyport"],"sub":"1","exp":99999999999,"iat":1.5,"nonce":"n","preferred_username":"ann","groups":["a"]}`)
	p := newCorp(f, newIssuer(f))
	m, err := p.discover(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw, payload string) {
		if c, err := p.verify(t.Context(), m, raw, expected{nonce: "n"}); err == nil {
			t.Errorf("%q is accepted as %v", raw, c)
		}
		c, err := p.verify(t.Context(), m, byHand(`{"alg":"EdDSA","kid":"ed-1"}`, payload), expected{nonce: "n"})
		if err != nil {
			return
		}
		who, err := p.identity(c, "", Session{})
		if err == nil && (who.Subject == "" || who.User == "" || who.User != strings.ToLower(who.User) || len(who.Groups) > maxGroups) {
			t.Errorf("%q is %s", payload, fmt.Sprint(who))
		}
	})
}
