package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// certificateLimit is what ssh waits for a certificate before it goes on with the person's own keys.
const certificateLimit = 5 * time.Second

// An identity is an SSH key that lives as long as one connection, and in memory only. Its certificate is asked for when
// ssh first wants to know the keys.
type identity struct {
	ctx  context.Context
	d    Dialer
	req  frame.OpenRequest
	once sync.Once
	key  ed25519.PrivateKey
	cert *ssh.Certificate // nil: there is none
}

// ServeIdentity is an SSH agent at a socket in a folder of its own. It has a key with a certificate for the target of a
// request, and passes on what the person's own agent has. stop ends it and removes the folder.
func ServeIdentity(ctx context.Context, d Dialer, req frame.OpenRequest, socket string) (stop func(), err error) {
	own := os.Getenv("SSH_AUTH_SOCK")
	if own == socket {
		own = ""
	}
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	// Others see the path in ssh's arguments, and may have been faster.
	if err := checkFolder(filepath.Dir(socket)); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	i := &identity{ctx: ctx, d: d, req: req}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				i.serve(c, own)
			})
		}
	})
	return func() {
		cancel()
		l.Close()
		wg.Wait()
		os.Remove(filepath.Dir(socket)) // which is empty
	}, nil
}

// serve answers one connection of ssh's.
func (i *identity) serve(c net.Conn, own string) {
	both := &agents{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent), identity: i}
	if own != "" {
		if up, err := net.Dial("unix", own); err == nil {
			defer up.Close()
			defer context.AfterFunc(i.ctx, func() { up.Close() })()
			both.ExtendedAgent = agent.NewClient(up)
		}
	}
	agent.ServeAgent(both, c)
}

// certificate is the certificate, nil where the appliance gives none.
func (i *identity) certificate() *ssh.Certificate {
	i.once.Do(func() {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return
		}
		i.key = private
		i.cert, _ = i.ask(public) // without one ssh goes on with what else there is
	})
	return i.cert
}

func (i *identity) ask(public ed25519.PublicKey) (*ssh.Certificate, error) {
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(i.ctx, certificateLimit)
	defer cancel()
	a := NewAPI(i.d)
	defer a.Close()
	answer, err := a.SSHCertificate(ctx, api.AskSSHCertificate{Target: i.req.Target, Port: i.req.Port, Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))})
	if err != nil {
		return nil, err
	}
	signed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(answer.Certificate))
	if err != nil {
		return nil, err
	}
	cert, ok := signed.(*ssh.Certificate)
	if !ok || !bytes.Equal(cert.Key.Marshal(), key.Marshal()) {
		return nil, fmt.Errorf("the appliance signed another key")
	}
	return cert, nil
}

// agents are the person's own agent, or an empty one, with the identity before its keys.
type agents struct {
	agent.ExtendedAgent
	*identity
}

// List implements agent.Agent.
func (a *agents) List() ([]*agent.Key, error) {
	keys, err := a.ExtendedAgent.List()
	if cert := a.certificate(); cert != nil {
		mine := &agent.Key{Format: cert.Type(), Blob: cert.Marshal(), Comment: "sallyport certificate for " + a.req.Target}
		return append([]*agent.Key{mine}, keys...), nil
	}
	return keys, err
}

// Sign implements agent.Agent.
func (a *agents) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return a.SignWithFlags(key, data, 0)
}

// SignWithFlags implements agent.ExtendedAgent.
func (a *agents) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	cert := a.certificate()
	if cert == nil || !bytes.Equal(key.Marshal(), cert.Marshal()) {
		return a.ExtendedAgent.SignWithFlags(key, data, flags)
	}
	signer, err := ssh.NewSignerFromKey(a.key)
	if err != nil {
		return nil, err
	}
	return signer.Sign(rand.Reader, data)
}
