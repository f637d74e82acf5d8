package hostkey

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// memory is a Store that can be away.
type memory struct {
	keys []Key
	away error
}

func (m *memory) HostKeys(context.Context) ([]Key, error) { return m.keys, m.away }

func (m *memory) find(k Key) int {
	for i, o := range m.keys {
		if o.Target == k.Target && o.Algorithm == k.Algorithm {
			return i
		}
	}
	return -1
}

func (m *memory) See(_ context.Context, k Key) (Key, error) {
	if m.away != nil {
		return Key{}, m.away
	}
	if i := m.find(k); i >= 0 {
		return m.keys[i], nil
	}
	m.keys = append(m.keys, k)
	return k, nil
}

func (m *memory) Put(_ context.Context, k Key) error {
	if i := m.find(k); i >= 0 {
		m.keys = append(m.keys[:i:i], m.keys[i+1:]...)
	}
	m.keys = append(m.keys, k)
	return m.away
}

func (m *memory) Forget(_ context.Context, target string) error {
	var left []Key
	for _, k := range m.keys {
		if k.Target != target {
			left = append(left, k)
		}
	}
	if len(left) == len(m.keys) {
		return ErrUnknown
	}
	m.keys = left
	return m.away
}

func TestPins(t *testing.T) {
	ctx, store := t.Context(), new(memory)
	p, err := Open(ctx, store, false, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newSigner(t).PublicKey(), newSigner(t).PublicKey()
	for range 2 {
		if err := p.Check(ctx, "db-1", a.Marshal()); err != nil {
			t.Fatal(err)
		}
	}
	store.away = errors.New("away")
	if err := p.Check(ctx, "db-1", a.Marshal()); err != nil {
		t.Errorf("a known key without the store: %v", err)
	}
	if err := p.Check(ctx, "db-2", a.Marshal()); !errors.Is(err, store.away) {
		t.Errorf("a first key without the store: %v", err)
	}
	store.away = nil
	var no *MismatchError
	if err := p.Check(ctx, "db-1", b.Marshal()); !errors.As(err, &no) || no.Shown != ssh.FingerprintSHA256(b) || no.Known[0] != ssh.FingerprintSHA256(a) {
		t.Errorf("another key: %v", err)
	}
	if err := p.Confirm(ctx, "db-1", "SHA256:no", "ann"); !errors.Is(err, ErrUnknown) {
		t.Errorf("confirmed a key that nobody has shown: %v", err)
	}
	if err := p.Confirm(ctx, "db-1", ssh.FingerprintSHA256(b), "ann"); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, "db-1", b.Marshal()); err != nil {
		t.Errorf("the confirmed key: %v", err)
	}
	if err := p.Check(ctx, "db-1", a.Marshal()); !errors.As(err, &no) {
		t.Errorf("the key whose place it took: %v", err)
	}
	if of := p.Of("db-1"); len(of) != 1 || of[0].By != "ann" || of[0].Line() != strings.TrimSpace(string(ssh.MarshalAuthorizedKey(b))) {
		t.Errorf("known by %+v", of)
	}
	if err := p.Forget(ctx, "db-1"); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, "db-1", a.Marshal()); err != nil {
		t.Errorf("a first key again: %v", err)
	}
	if err := p.Check(ctx, "db-1", []byte("nonsense")); !errors.Is(err, ErrUnread) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestFirstUseConfirmed(t *testing.T) {
	ctx := t.Context()
	p, err := Open(ctx, new(memory), true, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key := newSigner(t).PublicKey()
	for range 2 {
		if err := p.Check(ctx, "db-1", key.Marshal()); !errors.Is(err, ErrUnconfirmed) {
			t.Errorf("before: %v", err)
		}
	}
	if of := p.Of("db-1"); len(of) != 0 {
		t.Errorf("known by %+v", of)
	}
	if err := p.Confirm(ctx, "db-1", ssh.FingerprintSHA256(key), "ann"); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, "db-1", key.Marshal()); err != nil {
		t.Errorf("after: %v", err)
	}
}

func TestCheckFixed(t *testing.T) {
	ca, host, stranger := newSigner(t), newSigner(t), newSigner(t)
	line := func(s ssh.Signer) []string { return []string{string(ssh.MarshalAuthorizedKey(s.PublicKey()))} }
	certificate := func(by ssh.Signer, kind uint32, until uint64, names ...string) []byte {
		c := &ssh.Certificate{Key: host.PublicKey(), CertType: kind, ValidPrincipals: names, ValidBefore: until}
		if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		return c.Marshal()
	}
	good := certificate(ca, ssh.HostCert, ssh.CertTimeInfinity, "db-1")
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		blob               []byte
		keys, certificates []string
		good               bool
	}{
		"the key":                   {host.PublicKey().Marshal(), line(host), nil, true},
		"another":                   {stranger.PublicKey().Marshal(), line(host), nil, false},
		"a certificate":             {good, nil, line(ca), true},
		"its key alone":             {host.PublicKey().Marshal(), nil, line(ca), false},
		"by another":                {certificate(stranger, ssh.HostCert, ssh.CertTimeInfinity, "db-1"), nil, line(ca), false},
		"for another name":          {certificate(ca, ssh.HostCert, ssh.CertTimeInfinity, "db-2"), nil, line(ca), false},
		"for any name":              {certificate(ca, ssh.HostCert, ssh.CertTimeInfinity), nil, line(ca), false},
		"of a person":               {certificate(ca, ssh.UserCert, ssh.CertTimeInfinity, "db-1"), nil, line(ca), false},
		"expired":                   {certificate(ca, ssh.HostCert, 1, "db-1"), nil, line(ca), false},
		"forged":                    {forged, nil, line(ca), false},
		"whose key is known":        {certificate(stranger, ssh.HostCert, 1), line(host), line(ca), true},
		"no key at all":             {[]byte("x"), line(host), nil, false},
		"a key beside an authority": {host.PublicKey().Marshal(), line(host), line(ca), true},
	} {
		if err := CheckFixed("db-1", c.blob, c.keys, c.certificates); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
