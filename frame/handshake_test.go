package frame

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return PrivateKey(k)
}

func serverKey(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:]
}

// A meeting is a handshake to try: what each side knows, and what happens on the way.
type meeting struct {
	client, appliance Channel
	hello             Hello
	admit             func(*Hello) (*Welcome, error)
	swap              func(h Header, p []byte) []byte // changes a frame to the client; nil: leave it
}

func good() meeting {
	exporter := bytes.Repeat([]byte{7}, 32)
	keys := [][]byte{serverKey("ours")}
	return meeting{
		client:    Channel{Exporter: exporter, ServerKeys: keys},
		appliance: Channel{Exporter: exporter, ServerKeys: keys},
		admit:     func(*Hello) (*Welcome, error) { return &Welcome{User: "ann"}, nil },
	}
}

// meet runs m and returns what each side learnt.
func (m meeting) meet(t *testing.T) (w *Welcome, clientErr error, h *Hello, applianceErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	g := &Greeter{Identity: newKey(t), Admit: m.admit, Software: "sallyportd test"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h, _, applianceErr = g.Greet(b, m.appliance)
		b.Close()
	}()
	in, frame, err := Introduce(m.hello, newKey(t), m.client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write(frame); err != nil {
		t.Fatal(err)
	}
	var rw io.ReadWriter = a
	if m.swap != nil {
		rw = &swapper{ReadWriter: a, swap: m.swap}
	}
	w, clientErr = in.ReadWelcome(rw)
	a.Close()
	<-done
	return
}

// A swapper changes whole frames on their way to the reader.
type swapper struct {
	io.ReadWriter
	swap func(Header, []byte) []byte
	rest []byte
}

func (s *swapper) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		h, b, err := ReadFrame(s.ReadWriter)
		if err != nil {
			return 0, err
		}
		s.rest = s.swap(h, b)
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestHandshake(t *testing.T) {
	for name, channel := range map[string]func(m *meeting){
		"Exporter":           func(*meeting) {},
		"Challenge":          func(m *meeting) { m.client.Exporter, m.appliance.Exporter = nil, nil },
		"ClientHasExporter":  func(m *meeting) { m.appliance.Exporter = nil },
		"OnlyApplianceHasIt": func(m *meeting) { m.client.Exporter = nil },
		"TwoCertificates": func(m *meeting) {
			m.appliance.ServerKeys = [][]byte{serverKey("next"), serverKey("ours")}
		},
		"Browser": func(m *meeting) { m.client, m.appliance = Channel{}, Channel{Blind: true} },
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			m.hello.Token, m.hello.Name = []byte("a token"), "laptop"
			channel(&m)
			w, err, h, applianceErr := m.meet(t)
			if err != nil || applianceErr != nil {
				t.Fatalf("client %v, appliance %v", err, applianceErr)
			}
			if w.User != "ann" || w.Version != Version || w.Software != "sallyportd test" || string(h.Token) != "a token" {
				t.Errorf("welcome %+v to %+v", w, h)
			}
		})
	}
}

func TestHandshakeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *meeting)
		code   Code
		says   string
	}{
		"OtherExporter": {func(m *meeting) { m.client.Exporter = bytes.Repeat([]byte{8}, 32) }, Auth, "proof"},
		"OtherServerKey": {func(m *meeting) {
			m.client.ServerKeys = [][]byte{serverKey("a proxy's")}
		}, Inspected, "TLS does not end"},
		"OtherServerKeyAndExporter": {func(m *meeting) {
			m.client = Channel{Exporter: make([]byte, 32), ServerKeys: [][]byte{serverKey("a proxy's")}}
		}, Inspected, "TLS does not end"},
		"ChallengeOtherServerKey": {func(m *meeting) {
			m.client = Channel{ServerKeys: [][]byte{serverKey("a proxy's")}}
		}, Inspected, "TLS does not end"},
		"ChallengeNoServerKey": {func(m *meeting) { m.client = Channel{} }, Inspected, ""},
		"BrowserWithServerKey": {func(m *meeting) {
			m.client = Channel{ServerKeys: [][]byte{serverKey("a proxy's")}}
			m.appliance = Channel{Blind: true, ServerKeys: [][]byte{serverKey("ours")}}
		}, Inspected, ""},
		"Admit": {func(m *meeting) {
			m.admit = func(*Hello) (*Welcome, error) { return nil, Refuse("E_CODE_USED", "this code was used", "") }
		}, "E_CODE_USED", "used"},
		"AdmitFails": {func(m *meeting) {
			m.admit = func(*Hello) (*Welcome, error) { return nil, errors.New("secret: disk on fire") }
		}, Auth, "did not accept"},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			c.change(&m)
			_, err, _, applianceErr := m.meet(t)
			r, ok := ReasonOf(err)
			var session *SessionError
			if !ok || !errors.As(err, &session) || !session.Remote || r.Code != c.code || !strings.Contains(r.Sentence, c.says) {
				t.Errorf("the client learnt %v (%s)", err, r.Code)
			}
			if strings.Contains(r.Sentence, "secret") {
				t.Errorf("a stranger learnt %q", r.Sentence)
			}
			if applianceErr == nil {
				t.Error("the appliance saw no error")
			}
		})
	}
}

// TestHandshakeReplay plays one client's HELLO on another connection.
func TestHandshakeReplay(t *testing.T) {
	m := good()
	_, frame, err := Introduce(Hello{}, newKey(t), m.client)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	g := &Greeter{Identity: newKey(t), Admit: m.admit}
	rw := struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(frame), &out}
	_, _, err = g.Greet(rw, Channel{Exporter: bytes.Repeat([]byte{9}, 32), ServerKeys: m.appliance.ServerKeys})
	if r, _ := ReasonOf(err); r.Code != Auth {
		t.Errorf("the appliance says %v", err)
	}
	if h, _, err := ReadFrame(&out); h.Type != TypeRefused || err != nil {
		t.Errorf("the client gets %v, %v", h.Type, err)
	}
}

// TestHandshakeReplayedAnswer answers a CHALLENGE with the answer to another.
func TestHandshakeReplayedAnswer(t *testing.T) {
	in, bare, err := Introduce(Hello{}, newKey(t), Channel{ServerKeys: good().client.ServerKeys})
	if err != nil {
		t.Fatal(err)
	}
	var old bytes.Buffer
	c := Challenge{Nonce: make([]byte, 32), Share: bytes.Repeat([]byte{9}, 32)}
	if err := in.answer(&old, Append(nil, TypeChallenge, &c)[HeaderSize:]); err != nil {
		t.Fatal(err)
	}
	g := &Greeter{Identity: newKey(t), Admit: good().admit}
	rw := struct {
		io.Reader
		io.Writer
	}{io.MultiReader(bytes.NewReader(bare), &old), io.Discard}
	if _, _, err := g.Greet(rw, Channel{ServerKeys: good().appliance.ServerKeys}); err == nil || codeOf(err) != Auth {
		t.Errorf("the appliance says %v", err)
	}
}

func codeOf(err error) Code { r, _ := ReasonOf(err); return r.Code }

func TestHandshakeForgedWelcome(t *testing.T) {
	forge := func(change func(w *Welcome)) func(Header, []byte) []byte {
		return func(h Header, p []byte) []byte {
			if h.Type != TypeWelcome {
				return append(h.Append(nil), p...)
			}
			var w Welcome
			if err := Parse(h.Type, p, &w); err != nil {
				panic(err)
			}
			change(&w)
			return Append(nil, h.Type, &w)
		}
	}
	for name, c := range map[string]struct {
		change func(w *Welcome)
		code   Code
	}{
		"Signature": {func(w *Welcome) { w.Signature[5] ^= 1 }, Auth},
		"Identity":  {func(w *Welcome) { rand.Read(w.Identity[0]) }, Auth},
		"User":      {func(w *Welcome) { w.User = "bob" }, Auth},
		"Successor": {func(w *Welcome) { w.Identity = append(w.Identity, make([]byte, 32)) }, Auth},
		"Version":   {func(w *Welcome) { w.Version = 2 }, VersionSkew},
	} {
		for _, form := range []string{"Exporter", "Challenge"} {
			t.Run(name+form, func(t *testing.T) {
				m := good()
				if form == "Challenge" {
					m.client.Exporter = nil
				}
				m.swap = forge(c.change)
				if w, err, _, _ := m.meet(t); w != nil || codeOf(err) != c.code {
					t.Errorf("the client learnt %+v, %v", w, err)
				}
			})
		}
	}

	// An appliance must not be able to skip the proof.
	t.Run("WelcomeToBareHello", func(t *testing.T) {
		in, _, _ := Introduce(Hello{}, newKey(t), Channel{})
		w := &Welcome{Version: 1}
		if err := (&Greeter{Identity: newKey(t)}).sign(nil, in.sent, w); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadWelcome(&readWriter{Reader: bytes.NewReader(Append(nil, TypeWelcome, w))}); codeOf(err) != FrameType {
			t.Errorf("the client says %v", err)
		}
	})
	t.Run("TwoChallenges", func(t *testing.T) {
		in, _, _ := Introduce(Hello{}, newKey(t), Channel{})
		c := Append(nil, TypeChallenge, &Challenge{Nonce: make([]byte, 32), Share: bytes.Repeat([]byte{9}, 32)})
		if _, err := in.ReadWelcome(&readWriter{Reader: bytes.NewReader(append(c, c...))}); codeOf(err) != FrameType {
			t.Errorf("the client says %v", err)
		}
	})
}

type readWriter struct{ io.Reader }

func (*readWriter) Write(p []byte) (int, error) { return len(p), nil }

func TestHandshakeVersion(t *testing.T) {
	var out bytes.Buffer
	g := &Greeter{Identity: newKey(t), Admit: good().admit}
	hello := Append(nil, TypeHello, &Hello{Versions: []uint8{2, 3}, Software: "sallyport 9\n\x1b[31m"})
	_, _, err := g.Greet(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(hello), &out}, good().appliance)
	if r, _ := ReasonOf(err); r.Code != VersionSkew || !strings.Contains(r.Sentence, "version 2, 3, this") || !strings.Contains(r.Sentence, "speaks 1") {
		t.Errorf("the appliance says %v", err)
	}
	h, p, err := ReadFrame(&out)
	var r Reason
	if err != nil || h.Type != TypeRefused || Parse(h.Type, p, &r) != nil || r.Code != VersionSkew {
		t.Errorf("the client gets %v, %v", Describe(h, p), err)
	}
	if strings.ContainsAny(r.Sentence, "\n\x1b") {
		t.Errorf("control characters in %q", r.Sentence)
	}
}

func TestHandshakeTooLong(t *testing.T) {
	for _, h := range []Hello{{Token: make([]byte, maxToken+1)}, {User: strings.Repeat("x", maxName+1)}} {
		if _, _, err := Introduce(h, newKey(t), good().client); err == nil {
			t.Errorf("no error for %d bytes of token, %d of user", len(h.Token), len(h.User))
		}
	}
	full := Hello{Token: make([]byte, maxToken), Software: strings.Repeat("x", maxName), Name: strings.Repeat("x", maxName),
		User: strings.Repeat("x", maxName), Code: strings.Repeat("x", maxName)}
	m := good()
	m.hello, m.client.Exporter = full, nil
	if _, err, _, _ := m.meet(t); err != nil {
		t.Errorf("the longest HELLO: %v", err)
	}
}

// FuzzHandshake greets arbitrary bytes, and lets an introduction read them.
func FuzzHandshake(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.frame)
	}
	_, private, _ := ed25519.GenerateKey(nil)
	key := PrivateKey(private)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ch := range []Channel{{}, good().appliance} {
			g := &Greeter{Identity: key, Admit: func(*Hello) (*Welcome, error) {
				t.Error("admitted")
				return &Welcome{}, nil
			}}
			if _, _, err := g.Greet(&readWriter{bytes.NewReader(b)}, ch); err == nil {
				t.Error("greeted without error")
			}
			in, _, err := Introduce(Hello{}, key, ch)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.ReadWelcome(&readWriter{bytes.NewReader(b)}); err == nil {
				t.Error("welcomed without error")
			}
		}
	})
}
