// Package sshlogin signs a person in to an SSH server for whom the appliance is the client: by a certificate of the
// appliance, by what the person types, or by a key that does not leave their browser.
//
//	client, err := sshlogin.Open(ctx, session, link)
//
// # Messages
//
// The first message of a flow, person → appliance, is Start. While the sign-in lasts the appliance may send
//
//	0  {"state": "connecting", "banner": "text of the server's, of several lines"}
//	2  {"name": "", "instruction": "", "questions": [{"text": "Password: ", "echo": false}]}
//	3  {"algorithm": "rsa-sha2-512", "data": "base64 of what is to be signed"}
//
// and waits for the answer to 2 or 3:
//
//	3  {"answers": ["…"]}            as many as there were questions; without any: the person has given up
//	4  {"format": "rsa-sha2-512", "blob": "base64 of the signature as SSH has it"}
//
// The signature of ssh-ed25519 is 64 bytes, of ecdsa two mpints, of rsa-sha2-256 and rsa-sha2-512 the plain PKCS #1 one.
// Other messages that come meanwhile are left out.
package sshlogin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance"
	"sallyport/appliance/message"
	"sallyport/frame"
)

// The kinds of messages: from the person, and to them.
const (
	KindStart, KindAnswer, KindSignature = 0, 3, 4

	KindState, KindPrompt, KindSign = 0, 2, 3
)

// Start is the first message of a flow.
type Start struct {
	User string `json:"user"`          // on the target
	Auth string `json:"auth"`          // certificate, password or key
	Key  string `json:"key,omitempty"` // of auth key: the public one, as authorized_keys has it
	Term string `json:"term,omitempty"`
	Cols int    `json:"cols,omitempty"`
	Rows int    `json:"rows,omitempty"`
}

// What a person is asked, and what they answer, is bounded.
const (
	patience     = 3 * time.Minute // for the whole sign-in
	maxUser      = 255
	maxKey       = 16 << 10
	maxQuestions = 16
	maxText      = 4 << 10 // of an instruction, a question, a banner
	attempts     = 3       // with a password
)

// A Link is the person who signs in.
type Link struct {
	Side   *appliance.Side
	Reader *message.Reader
}

type prompt struct {
	Name        string     `json:"name"`
	Instruction string     `json:"instruction"`
	Questions   []question `json:"questions"`
}

type question struct {
	Text string `json:"text"`
	Echo bool   `json:"echo"`
}

// ParseStart reads a start message.
func ParseStart(body []byte) (Start, error) {
	var s Start
	if err := json.Unmarshal(body, &s); err != nil {
		return s, frame.Refuse("E_USAGE", "the start message does not decode", "reload the page")
	}
	if s.User == "" || s.User != frame.Clip(s.User, maxUser) || len(s.Key) > maxKey || !slices.Contains([]string{"certificate", "password", "key"}, s.Auth) {
		return s, frame.Refuse("E_USAGE", "a user name on the target is needed, and a way to sign in: certificate, password or key", "")
	}
	return s, nil
}

// A login is one that is under way.
type login struct {
	session *appliance.Session
	link    Link
	start   Start
	known   bool  // the host key is the right one
	refusal error // that says better than SSH why it came to nothing
}

// Open signs in over the session's connection. Its errors are for people. What the person typed is not kept.
func Open(ctx context.Context, s *appliance.Session, link Link, start Start) (*ssh.Client, error) {
	l := &login{session: s, link: link, start: start}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Far.Close() })
	defer stop()
	methods, err := l.methods()
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(s.Far, s.Target, &ssh.ClientConfig{
		User: start.User, Auth: methods, HostKeyCallback: l.checkHostKey, HostKeyAlgorithms: l.hostKeyAlgorithms(), BannerCallback: l.banner,
		ClientVersion: "SSH-2.0-Sallyport",
	})
	if err != nil {
		return nil, l.explain(ctx, err)
	}
	return ssh.NewClient(conn, channels, requests), nil
}

func (l *login) explain(ctx context.Context, err error) error {
	var network net.Error
	switch {
	case l.refusal != nil:
		return l.refusal
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return frame.Refuse("E_TIMEOUT", fmt.Sprintf("nobody has signed in to %s in %v", l.session.Target, patience), "connect again")
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !l.known:
		return frame.Refuse("E_NO_BANNER", fmt.Sprintf("%s and the appliance have not agreed on a connection by SSH: %s", l.session.Target, frame.Clip(err.Error(), 200)), "an administrator must look at the target's sshd")
	case errors.Is(err, io.EOF), errors.As(err, &network):
		return frame.Refuse("E_TARGET_RESET", l.session.Target+" closed the connection while you signed in", "connect again")
	}
	what := map[string]string{"certificate": "the appliance's certificate", "password": "this password", "key": "this key"}[l.start.Auth]
	return frame.Refuse("E_TARGET_AUTH", fmt.Sprintf("%s does not accept %s for %s", l.session.Target, what, l.start.User), "check the user name, or sign in another way")
}

// methods are the ways to sign in that the person has chosen. A server that asks questions beside may.
func (l *login) methods() ([]ssh.AuthMethod, error) {
	questions := ssh.RetryableAuthMethod(ssh.KeyboardInteractive(l.ask), attempts)
	switch l.start.Auth {
	case "certificate":
		signer, err := l.certificate()
		if err != nil {
			return nil, err
		}
		return []ssh.AuthMethod{ssh.PublicKeys(signer), questions}, nil
	case "key":
		signer, err := l.remoteKey()
		if err != nil {
			return nil, err
		}
		return []ssh.AuthMethod{ssh.PublicKeys(signer), questions}, nil
	}
	return []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(l.password), attempts), questions}, nil
}

// certificate is a key of this sign-in alone, which the appliance's authority has signed.
func (l *login) certificate() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return nil, err
	}
	cert, err := l.session.Certificate(signer.PublicKey())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(cert.ValidPrincipals, l.start.User) {
		return nil, frame.Refuse("E_DENIED", fmt.Sprintf("your certificate is for %s on %s, and not for %s", strings.Join(cert.ValidPrincipals, " or "), l.session.Target, l.start.User), "sign in as one of these, or another way")
	}
	return ssh.NewCertSigner(cert, signer)
}

func (l *login) password() (string, error) {
	answers, err := l.ask("", "", []string{fmt.Sprintf("Password of %s on %s: ", l.start.User, l.session.Target)}, []bool{false})
	if err != nil {
		return "", err
	}
	return answers[0], nil
}

// ask asks the person, and is an ssh.KeyboardInteractiveChallenge.
func (l *login) ask(name, instruction string, questions []string, echos []bool) ([]string, error) {
	if len(questions) == 0 && name == "" && instruction == "" {
		return nil, nil
	}
	if len(questions) > maxQuestions {
		return nil, l.fail(frame.Refuse("E_PROTOCOL", fmt.Sprintf("%s asks %d questions at once", l.session.Target, len(questions)), ""))
	}
	p := prompt{Name: text(name), Instruction: text(instruction), Questions: []question{}}
	for i, q := range questions {
		p.Questions = append(p.Questions, question{text(q), echos[i]})
	}
	if err := message.WriteJSON(l.link.Side, KindPrompt, p); err != nil || len(questions) == 0 {
		return nil, err
	}
	body, err := l.await(KindAnswer)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Answers []string `json:"answers"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Answers) != len(questions) {
		return nil, l.fail(frame.Refuse("E_TARGET_AUTH", "you have not signed in to "+l.session.Target, "connect again"))
	}
	return answer.Answers, nil
}

// await leaves out messages until one of a kind comes.
func (l *login) await(kind byte) ([]byte, error) {
	for {
		got, body, err := l.link.Reader.Next()
		if err != nil {
			return nil, l.fail(err)
		}
		if got == kind {
			return body, nil
		}
	}
}

func (l *login) fail(why error) error {
	l.refusal = why
	return why
}

func (l *login) banner(s string) error {
	if s == "" {
		return nil
	}
	return message.WriteJSON(l.link.Side, KindState, map[string]string{"state": "connecting", "banner": text(s)})
}

// text is what a server says, without what a terminal would obey, and bounded.
func text(s string) string {
	lines := strings.Split(strings.ReplaceAll(s[:min(len(s), maxText)], "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = frame.Clip(line, maxText)
	}
	return strings.Join(lines, "\n")
}

func (l *login) checkHostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	if err := l.session.CheckHostKey(key.Marshal()); err != nil {
		return l.fail(err)
	}
	l.known = true
	return nil
}

// hostKeyAlgorithms prefers those of the keys that the target is known by: a server has several, and shows one.
func (l *login) hostKeyAlgorithms() []string {
	all := ssh.SupportedAlgorithms().HostKeys
	lines, certified := l.session.HostKeys()
	known := map[string]bool{}
	for _, line := range lines {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			known[key.Type()] = true
		}
	}
	rank := func(algorithm string) int {
		certificate := strings.Contains(algorithm, "-cert-")
		switch {
		case certificate && certified:
			return 0
		case known[keyType(algorithm)]:
			return 1
		case certificate:
			return 3
		}
		return 2
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b string) int { return rank(a) - rank(b) })
	return all
}

// keyType is the type of the key that an algorithm signs with.
func keyType(algorithm string) string {
	if strings.HasPrefix(algorithm, "rsa-sha2-") {
		return ssh.KeyAlgoRSA
	}
	return algorithm
}
