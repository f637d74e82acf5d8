package people

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/pending"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/auth/totp"
	"sallyport/appliance/store"
)

var (
	box  = NewBox([32]byte{1})
	desk = netip.MustParseAddr("192.0.2.10")
)

// two opens one database twice, as two appliances do.
func two(t *testing.T) (a, b *store.Store, dir string) {
	t.Helper()
	dir = t.TempDir()
	open := func() *store.Store {
		s, err := store.Open(t.Context(), store.Config{Dir: dir, Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	return open(), open(), dir
}

func login(code string) signin.Login {
	now := time.Now()
	return signin.Login{ID: "id of " + code, Code: code, Key: bytes.Repeat([]byte{7}, 32), Name: "laptop", Platform: "linux/amd64", Source: desk,
		Started: now, Expires: now.Add(10 * time.Minute)}
}

// TestLoginsOfAFleet: a login that one appliance has begun is another's too, and each change of it is one step.
func TestLoginsOfAFleet(t *testing.T) {
	a, b, dir := two(t)
	here, there := &Logins{Store: a, Box: box}, &Logins{Store: b, Box: box}
	n := login("BCDFGHJK")
	if err := here.Add(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	again := login("BCDFGHJK")
	again.ID = "another"
	if err := there.Add(t.Context(), again); !errors.Is(err, signin.ErrCodeInUse) {
		t.Errorf("a code for two: %v", err)
	}
	got, known, err := there.ByCode(t.Context(), n.Code)
	if err != nil || !known || got.ID != n.ID || !bytes.Equal(got.Key, n.Key) || got.Source != desk || !got.Expires.Equal(n.Expires) {
		t.Fatalf("%+v, %v, %v", got, known, err)
	}
	if _, known, err := there.ByCode(t.Context(), "ZZZZZZZZ"); known || err != nil {
		t.Errorf("a code of nobody: %v, %v", known, err)
	}
	if _, err := there.Update(t.Context(), "nobody", func(*signin.Login) error { return nil }); !errors.Is(err, signin.ErrUnknownLogin) {
		t.Errorf("an id of nobody: %v", err)
	}
	no := errors.New("no")
	if _, err := there.Update(t.Context(), n.ID, func(l *signin.Login) error { l.Counter = 9; return no }); !errors.Is(err, no) {
		t.Errorf("a change that does not want to be: %v", err)
	}

	// Of a hundred who take it at once, at two appliances, one gets it.
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			var mine bool
			_, err := []*Logins{here, there}[i%2].Update(t.Context(), n.ID, func(l *signin.Login) error {
				mine = l.State == signin.Waiting
				l.State = signin.Taken
				l.Counter++
				return nil
			})
			if err != nil {
				t.Error(err)
			} else if mine {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if got, _, _ := here.ByCode(t.Context(), n.Code); taken.Load() != 1 || got.Counter != 100 {
		t.Errorf("taken %d times, changed %d times", taken.Load(), got.Counter)
	}
	inNoFile(t, dir, "id of BCDFGHJK", "linux/amd64", "BCDFGHJK")
}

// TestOneSourceHasFewLogins: who begins logins without end gets no further, and others do.
func TestOneSourceHasFewLogins(t *testing.T) {
	a, _, _ := two(t)
	l := &Logins{Store: a, Box: box, PerSource: 3}
	for i := range 3 {
		if err := l.Add(t.Context(), login(fmt.Sprintf("BCDFGHJ%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	n := login("BCDFGHJK")
	if err := l.Add(t.Context(), n); !errors.Is(err, signin.ErrManyLogins) {
		t.Errorf("one too many: %v", err)
	}
	n.Source = netip.MustParseAddr("198.51.100.7")
	if err := l.Add(t.Context(), n); err != nil {
		t.Errorf("of another source: %v", err)
	}
	later := login("BCDFGHJL")
	later.Started = time.Now().Add(11 * time.Minute)
	if err := l.Add(t.Context(), later); err != nil {
		t.Errorf("when those before have expired: %v", err)
	}
}

// TestWaitingOfAFleet: what waits is found at each appliance, taken once, and sealed.
func TestWaitingOfAFleet(t *testing.T) {
	a, b, dir := two(t)
	here, there := &Waiting{Store: a, Box: box, Max: 2}, &Waiting{Store: b, Box: box}
	const secret = "the verifier of a sign-in"
	if err := here.Put(t.Context(), "state-1", []byte(secret), time.Minute); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v, err := there.Look(t.Context(), "state-1"); err != nil || string(v) != secret {
			t.Errorf("%q, %v", v, err)
		}
	}
	inNoFile(t, dir, secret, "state-1")
	var took atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := []*Waiting{here, there}[i%2].Take(t.Context(), "state-1"); err == nil {
				took.Add(1)
			} else if !errors.Is(err, pending.ErrUnknown) {
				t.Error(err)
			}
		})
	}
	if wg.Wait(); took.Load() != 1 {
		t.Errorf("taken %d times", took.Load())
	}
	for _, key := range []string{"state-2", "state-3"} {
		if err := here.Put(t.Context(), key, []byte(secret), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.Put(t.Context(), "state-4", []byte(secret), time.Minute); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]error{"state-2": pending.ErrUnknown, "state-3": nil, "state-4": nil} {
		if _, err := there.Look(t.Context(), key); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
	}
	if err := here.Put(t.Context(), "state-5", []byte(secret), -time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Look(t.Context(), "state-5"); !errors.Is(err, pending.ErrUnknown) {
		t.Errorf("what has expired: %v", err)
	}
}

// inNoFile looks for secrets in the files of a database.
func inNoFile(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has %q in the clear", file, secret)
			}
		}
	}
}

// newAccount makes a local account, as an administrator does, and returns its set-up code.
func newAccount(t *testing.T, s *store.Store, user string) string {
	t.Helper()
	now, code := time.Now(), rand.Text()
	err := s.AddAccount(t.Context(), store.Account{Name: user, Source: store.Local, Subject: handles.EncodeToString(passkey.NewHandle()), Created: now})
	if err == nil {
		err = s.Keep(t.Context(), store.OneTime{Kind: store.SetUp, Hash: hashOf(code), Data: []byte(user), Expires: now.Add(time.Hour)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestAccounts: an account is made, set up once, and uses up its one-time and recovery codes once, at whichever appliance.
func TestAccounts(t *testing.T) {
	a, b, dir := two(t)
	here, there := &Accounts{Store: a, Box: box}, &Accounts{Store: b, Box: box}
	ctx := t.Context()
	code := newAccount(t, a, "ann")
	if user, err := there.SetupOf(ctx, code); err != nil || user != "ann" {
		t.Errorf("%q, %v", user, err)
	}
	secret, err := totp.New("Sallyport", "ann")
	if err != nil {
		t.Fatal(err)
	}
	_, recovery := totp.NewRecoveryCodes()
	set := Setup{Password: "$argon2id$of a test", TOTP: secret.Text, Counter: 10, Recovery: recovery, Passkey: &passkey.Credential{ID: []byte("key"), Record: []byte(`{"n":1}`)}}
	if user, err := there.SetUp(ctx, code, set); err != nil || user != "ann" {
		t.Fatalf("%q, %v", user, err)
	}
	if _, err := here.SetUp(ctx, code, set); !errors.Is(err, ErrSetup) {
		t.Errorf("a set-up code again: %v", err)
	}
	inNoFile(t, dir, secret.Text, code)

	ann, known, err := here.Account(ctx, "ann")
	if err != nil || !known || ann.Password != set.Password || ann.TOTP != secret.Text || len(ann.Recovery) != len(recovery) || len(ann.Passkeys) != 1 {
		t.Fatalf("%+v, %v, %v", ann, known, err)
	}
	if found, known, err := there.AccountByHandle(ctx, ann.Handle); err != nil || !known || found.User != "ann" {
		t.Errorf("by her handle: %+v, %v, %v", found, known, err)
	}
	for counter, want := range map[uint64]bool{10: false, 9: false} { // the setup took it
		if ok, err := here.UseTOTP(ctx, "ann", counter); ok != want || err != nil {
			t.Errorf("counter %d: %v, %v", counter, ok, err)
		}
	}
	onlyOnce(t, "a one-time code", func(i int) (bool, error) { return []*Accounts{here, there}[i%2].UseTOTP(ctx, "ann", 11) })
	onlyOnce(t, "a recovery code", func(i int) (bool, error) {
		return []*Accounts{here, there}[i%2].UseRecovery(ctx, "ann", recovery[4])
	})
	if ann, _, _ = here.Account(ctx, "ann"); len(ann.Recovery) != len(recovery)-1 {
		t.Errorf("%d recovery codes are left", len(ann.Recovery))
	}
	if err := here.SetPassword(ctx, "ann", set.Password, "$argon2id$anew"); err != nil {
		t.Error(err)
	}
	if err := there.SetPassword(ctx, "ann", set.Password, "$argon2id$too late"); err != nil {
		t.Error(err)
	}
	if err := there.SetPasskey(ctx, "ann", passkey.Credential{ID: []byte("key"), Record: []byte(`{"n":2}`)}); err != nil {
		t.Error(err)
	}
	if ann, _, _ = here.Account(ctx, "ann"); ann.Password != "$argon2id$anew" || string(ann.Passkeys[0].Record) != `{"n":2}` {
		t.Errorf("%+v", ann)
	}

	changes(t, here, there, "$argon2id$anew")

	// Names belong to whoever had them first.
	corp := oidc.Identity{Issuer: "https://id.example", Subject: "1", User: "bob"}
	for range 2 {
		if err := there.Bind(ctx, corp); err != nil {
			t.Error(err)
		}
	}
	for _, who := range []oidc.Identity{{Issuer: "https://id.example", Subject: "2", User: "bob"}, {Issuer: "https://other.example", Subject: "1", User: "bob"},
		{Issuer: "https://id.example", Subject: "1", User: "robert"}, {Issuer: "https://id.example", Subject: "3", User: "ann"}} {
		if err := here.Bind(ctx, who); !errors.Is(err, signin.ErrNameTaken) {
			t.Errorf("%+v: %v", who, err)
		}
	}
	if _, known, err := here.Account(ctx, "bob"); known || err != nil {
		t.Errorf("bob has no account here: %v, %v", known, err)
	}
	if err := a.DisableAccount(ctx, "bob", time.Now()); err != nil {
		t.Error(err)
	}
	if err := there.Bind(ctx, corp); !errors.Is(err, signin.ErrLocked) {
		t.Errorf("a barred bob: %v", err)
	}
}

// onlyOnce has fifty do at once what is good once.
func onlyOnce(t *testing.T, what string, use func(int) (bool, error)) {
	t.Helper()
	var used atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ok, err := use(i)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			} else if ok {
				used.Add(1)
			}
		})
	}
	if wg.Wait(); used.Load() != 1 {
		t.Errorf("%s was used %d times", what, used.Load())
	}
}

// provider says what the test has it say.
type provider func(oidc.Session) (oidc.Identity, error)

func (p provider) Refresh(_ context.Context, s oidc.Session) (oidc.Identity, error) { return p(s) }

// TestRefresh: what a provider says anew counts; one that is away changes nothing; one that refuses ends the sign-in.
func TestRefresh(t *testing.T) {
	a, _, dir := two(t)
	s := SignIns{Store: a, Box: box}
	if err := (&Accounts{Store: a, Box: box}).Bind(t.Context(), oidc.Identity{Issuer: "https://id.example", Subject: "1", User: "ann"}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	n, err := s.Add(t.Context(), signin.Enrolment{SignIn: "one", Key: ed25519.PublicKey(bytes.Repeat([]byte{7}, 32)), Person: signin.Person{User: "ann",
		Groups: []string{"dev"}, MFA: now, Issuer: "https://id.example", Session: oidc.Session{Provider: "corp", Subject: "1", Refresh: "refresh canary 1"}}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	inNoFile(t, dir, "refresh canary 1")
	var ended []string
	var say provider
	r := &Refresher{SignIns: s, Providers: provider(func(s oidc.Session) (oidc.Identity, error) { return say(s) }), Every: time.Minute,
		Log: slog.New(slog.DiscardHandler), Ended: func(id string) { ended = append(ended, id) }}
	refresh := func() (auth.SignIn, error) {
		t.Helper()
		row, err := a.SignIn(t.Context(), n.ID)
		if err != nil {
			t.Fatal(err)
		}
		failed := r.refresh(t.Context(), row)
		is, err := s.SignIn(t.Context(), n.ID)
		if err != nil {
			t.Fatal(err)
		}
		return is, failed
	}

	say = func(s oidc.Session) (oidc.Identity, error) {
		if s.Refresh != "refresh canary 1" {
			t.Errorf("it is asked with %q", s.Refresh)
		}
		s.Refresh = "refresh canary 2"
		return oidc.Identity{Groups: []string{"ops"}, Session: s}, nil
	}
	if is, err := refresh(); err != nil || len(is.Groups) != 1 || is.Groups[0] != "ops" || !is.MFA.Equal(n.MFA) {
		t.Errorf("%+v, %v", is, err)
	}
	inNoFile(t, dir, "refresh canary 2")
	say = func(s oidc.Session) (oidc.Identity, error) {
		if s.Refresh != "refresh canary 2" {
			t.Errorf("it is asked with %q", s.Refresh)
		}
		return oidc.Identity{}, oidc.ErrDown
	}
	if is, err := refresh(); !errors.Is(err, oidc.ErrDown) || !is.Ended.IsZero() || is.Groups[0] != "ops" || len(ended) != 0 {
		t.Errorf("%+v, %v, ended %v", is, err, ended)
	}
	say = func(oidc.Session) (oidc.Identity, error) { return oidc.Identity{}, oidc.ErrEnded }
	if _, err := refresh(); !errors.Is(err, oidc.ErrEnded) || len(ended) != 1 {
		t.Errorf("%v, ended %v", err, ended)
	}
}

// TestBarredMeanwhile: who is barred between signing in and confirming their device gets nothing that lasts.
func TestBarredMeanwhile(t *testing.T) {
	a, _, _ := two(t)
	s := SignIns{Store: a, Box: box}
	for user, bar := range map[string]func(context.Context, string, time.Time) error{"ann": a.DisableAccount, "bob": a.RemoveAccount} {
		newAccount(t, a, user)
		if err := bar(t.Context(), user, time.Now()); err != nil {
			t.Fatal(err)
		}
		_, err := s.Add(t.Context(), signin.Enrolment{SignIn: "of " + user, Key: ed25519.PublicKey(bytes.Repeat([]byte{7}, 32)), Person: signin.Person{User: user}}, time.Hour)
		if !errors.Is(err, signin.ErrLocked) {
			t.Errorf("%s: %v", user, err)
		}
	}
	if lasting, err := s.SignIns(t.Context()); err != nil || len(lasting) != 0 {
		t.Errorf("%+v, %v", lasting, err)
	}
}

// TestSignInAtTwoAppliances: the command talks to one appliance, the browser to another.
func TestSignInAtTwoAppliances(t *testing.T) {
	a, b, _ := two(t)
	clock := time.Now()
	service := func(s *store.Store) *signin.Service {
		return signin.New(signin.Config{Accounts: &Accounts{Store: s, Box: box}, Cookies: lockout.NewCookies([32]byte{2}, time.Now), PasswordAlone: true,
			Logins: &Logins{Store: s, Box: box}, Visits: &Waiting{Store: s, Box: box}, Clock: func() time.Time { return clock }})
	}
	here, there := service(a), service(b)
	accounts := &Accounts{Store: a, Box: box}
	code := newAccount(t, a, "ann")
	hash, err := here.Passwords.Hash(t.Context(), "four words and a half")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.SetUp(t.Context(), code, Setup{Password: hash}); err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	started, err := here.Start(t.Context(), signin.Start{Key: key.Public().(ed25519.PublicKey), Name: "laptop", Source: desk})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(s *signin.Service, counter uint64) (*signin.Enrolment, error) {
		clock = clock.Add(3 * time.Second)
		return s.Poll(t.Context(), signin.Poll{ID: started.ID, Counter: counter, Signature: ed25519.Sign(key, signin.PollMessage(started.ID, counter))})
	}
	if e, err := poll(here, 1); e != nil || err != nil {
		t.Fatalf("%+v, %v", e, err)
	}
	visit, err := there.Password(t.Context(), "ann", "four words and a half", signin.From{Source: desk})
	if err != nil || !visit.SignedIn {
		t.Fatalf("%+v, %v", visit, err)
	}
	if _, err := here.Confirm(t.Context(), visit.Secret, started.Code, desk); err != nil {
		t.Fatal(err)
	}
	if _, err := poll(there, 1); !errors.Is(err, signin.ErrReplayed) {
		t.Errorf("a poll again, at the other one: %v", err)
	}
	e, err := poll(there, 2)
	if err != nil || e == nil || e.Person.User != "ann" || !e.Key.Equal(key.Public()) {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := poll(here, 3); !errors.Is(err, signin.ErrTaken) {
		t.Errorf("taken again: %v", err)
	}
}
