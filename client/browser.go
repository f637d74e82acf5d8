package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/transport"
)

// ErrNoSignIn is the answer of an appliance at which nobody signs in: it enrols devices with codes.
var ErrNoSignIn = errors.New("this appliance enrols devices with codes")

// maxLoginAnswer bounds what an appliance says about a login.
const maxLoginAnswer = 64 << 10

// loginPatience is for how long a login outlives that its appliance is not reached: a minute more than it lasts there. It is
// measured here, because the two clocks may differ.
const loginPatience = 11 * time.Minute

// PollMessage is what a device signs to ask whether its login is confirmed.
func PollMessage(id string, counter uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("sallyport sign-in poll v1\x00"+id+"\x00"), counter)
}

// byBrowser waits until a person has signed in and confirmed that the device is theirs. Short outages of the network do not
// end it.
func (o *LoginOptions) byBrowser(ctx context.Context, p *Profile, key ed25519.PrivateKey) error {
	ask := asker{profile: p, http: &http.Client{Timeout: 15 * time.Second, CheckRedirect: stay, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: p.Trust.config(p.Address), TLSHandshakeTimeout: 10 * time.Second}}}
	ask.http.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS13
	defer ask.http.CloseIdleConnections()
	b64 := base64.RawURLEncoding
	var started api.LoginStarted
	if err := ask.post(ctx, "/api/v1/login", api.LoginStart{Key: b64.EncodeToString(key.Public().(ed25519.PublicKey)), Name: frame.Clip(o.device(), 64),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}, &started); err != nil {
		return err
	}
	if !strings.HasPrefix(started.Path, "/login#") {
		return frame.Refuse(frame.Internal, "the appliance names a page that is none of its own", "")
	}
	if o.Browse != nil {
		o.Browse("https://"+p.Address+frame.Clip(started.Path, 64), frame.Clip(started.Code, 16))
	}
	begun := time.Now()
	every := time.Duration(min(max(started.Interval, 1), 60)) * time.Second
	for counter := uint64(1); ; counter++ {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var state api.LoginState
		err := ask.post(ctx, "/api/v1/login/poll", api.LoginPoll{ID: started.ID, Counter: counter,
			Signature: b64.EncodeToString(ed25519.Sign(key, PollMessage(started.ID, counter)))}, &state)
		r, said := frame.ReasonOf(err)
		switch {
		case err == nil && state.State == "enrolled":
			return nil
		case said && r.Code == "E_LOGIN_USED": // by us: the answer was lost on its way
			return nil
		case said && r.Code == "E_LOGIN_SLOW", said && r.Code == "E_CONTROL_DOWN":
		case err != nil && (said || ctx.Err() != nil):
			return err
		case err != nil && time.Since(begun) > loginPatience:
			return err
		}
	}
}

// stay follows no redirect: what a login says is for this appliance alone.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// An asker asks an appliance over plain HTTPS.
type asker struct {
	profile *Profile
	http    *http.Client
}

// post asks, and reads the answer. What the appliance says against it is a Reason; that it was not reached is not.
func (a asker) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.profile.Address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	resp, err := a.http.Do(req)
	if err != nil {
		if told := a.profile.Trust.explain(ctx, a.profile.Address, err); told != err {
			return told
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &transport.PathError{Attempts: []transport.Attempt{{Transport: "https", Address: a.profile.Address, Err: errors.Unwrap(err), Took: time.Since(begun)}}}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLoginAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 300 {
		return json.Unmarshal(text, out)
	}
	var no api.Failure
	if json.Unmarshal(text, &no) != nil || no.Code == "" {
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			return ErrNoSignIn // of an older version
		}
		return fmt.Errorf("%s answers %s", a.profile.Address, resp.Status)
	}
	if no.Code == "E_NO_SIGN_IN" {
		return ErrNoSignIn
	}
	return frame.Refuse(frame.Code(frame.Clip(no.Code, 32)), frame.Clip(no.Sentence, 600), frame.Clip(no.Hint, 600))
}
