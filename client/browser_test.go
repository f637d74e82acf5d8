package client_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/appliance/auth/signin"
	"sallyport/client"
	"sallyport/client/clienttest"
	"sallyport/frame"
)

func TestLoginByBrowser(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{SignIn: true})
	home, err := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	var url, code string
	o := client.LoginOptions{URL: a.Address, CAFile: a.CAFile, Device: "laptop", Browse: func(u, c string) { url, code = u, c }}
	p, err := client.Login(t.Context(), home, o)
	if err != nil {
		t.Fatal(err)
	}
	if url != "https://"+a.Address+"/login#BCDF-GHJK" || code != "BCDF-GHJK" || p.User != clienttest.User {
		t.Errorf("%s, %s, %+v", url, code, p)
	}
	// The token of the first connection goes along with the next ones.
	token := filepath.Join(home.Dir(), p.Name+".token")
	for range 2 {
		d, err := client.NewDirect(home, p, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.NewAPI(d).Me(t.Context()); err != nil {
			t.Error(err)
		}
		d.Close()
	}
	kept, err := os.ReadFile(token)
	hellos := a.Hellos()
	if last := hellos[len(hellos)-1]; err != nil || string(kept) != "token of "+p.Device || !bytes.Equal(last.Token, kept) {
		t.Errorf("kept %q, %v; sent %q", kept, err, last.Token)
	}

	o.Device = "denied"
	_, err = client.Login(t.Context(), home, o)
	if f := client.Explain(err); f.Code != "E_LOGIN_DENIED" || f.Exit() != 10 {
		t.Errorf("%+v", f)
	}
	if again, err := home.Profile(""); err != nil || again.Device != p.Device {
		t.Errorf("a login that was denied has replaced the one before: %+v, %v", again, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Browse = func(string, string) { cancel() }
	if _, err := client.Login(ctx, home, o); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if err := home.Forget(p.Name); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(home.Dir(), p.Name+".*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// A poll that is lost does not end a login, whatever the two clocks say.
func TestLoginSurvivesACut(t *testing.T) {
	for _, ahead := range []time.Duration{0, -30 * time.Minute, 30 * time.Minute} {
		a := clienttest.Start(t, clienttest.Config{SignIn: true, Ahead: ahead})
		home, err := client.OpenHome(filepath.Join(t.TempDir(), "home"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Login(t.Context(), home, client.LoginOptions{URL: a.Address, CAFile: a.CAFile, Device: "cut"}); err != nil {
			t.Errorf("the appliance's clock differs by %v: %v", ahead, err)
		}
	}
}

func TestLoginWithoutSignIn(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	home, err := client.OpenHome(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	o := client.LoginOptions{URL: a.Address, CAFile: a.CAFile}
	if _, err := client.Login(t.Context(), home, o); !errors.Is(err, client.ErrNoSignIn) {
		t.Errorf("%v", err)
	}
	o.CAFile = ""
	_, err = client.Login(t.Context(), home, o)
	if r, _ := frame.ReasonOf(err); r.Code != "E_APPLIANCE_CERT" {
		t.Errorf("a certificate that is not known: %v", err)
	}
	a.Stop()
	_, err = client.Login(t.Context(), home, o)
	if f := client.Explain(err); f.Code != "E_NO_PATH" || f.Exit() != 14 || len(f.Tried) != 1 {
		t.Errorf("nobody there: %+v", f)
	}
}

// What a device signs is what the appliance verifies.
func TestPollMessage(t *testing.T) {
	if got, want := client.PollMessage("an id", 7), signin.PollMessage("an id", 7); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
