package oidc

import (
	"fmt"
	"strings"
	"unicode"

	"sallyport/appliance/auth"
)

// The errors of this package that a person sees. Compare with errors.Is.
var (
	ErrRefused = &auth.Error{Code: "E_LOGIN", Sentence: "signing in did not work", Hint: "start again; if it keeps failing, an administrator finds the reason in the log"}
	ErrDown    = &auth.Error{Code: "E_LOGIN_PROVIDER", Sentence: "the identity provider does not answer", Hint: "try again in a minute"}
	ErrGroups  = &auth.Error{Code: "E_LOGIN_GROUPS", Sentence: "you are in more groups than the identity provider hands on", Hint: "an administrator can have it send only the groups of this application"}
	ErrEnded   = &auth.Error{Code: "E_LOGIN_ENDED", Sentence: "your sign-in has ended", Hint: "run sallyport login"}
)

// A Detail says exactly what went wrong, for the log. What came from outside is quoted and cut.
type Detail struct {
	Provider string
	Reason   string
	Err      error // what it was caused by; may be nil
}

func (d *Detail) Error() string { return d.Provider + ": " + d.Reason }
func (d *Detail) Unwrap() error { return d.Err }

// An outcome reads as what the person is told and has the Detail for the log.
type outcome struct {
	told   *auth.Error
	detail *Detail
}

func (o *outcome) Error() string   { return o.told.Error() }
func (o *outcome) Unwrap() []error { return []error{o.told, o.detail} }

func (p *Provider) refuse(format string, args ...any) error {
	return &outcome{ErrRefused, &Detail{Provider: p.config.Name, Reason: fmt.Sprintf(format, args...)}}
}

// down says that a request was not answered. The errors of net/http name the URL, which holds no secret here.
func (p *Provider) down(doing string, err error) error {
	return &outcome{ErrDown, &Detail{Provider: p.config.Name, Reason: doing + ": " + clip(err.Error()), Err: err}}
}

// clip makes one line of bounded length out of what may hold a provider's answer.
func clip(text string) string {
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	return strings.Map(printable, text[:min(len(text), 300)])
}
