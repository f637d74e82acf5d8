package signin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sallyport/appliance/auth"
)

// A Start is a device that wants to be enrolled for whoever signs in.
type Start struct {
	Key      ed25519.PublicKey
	Name     string // what the person calls it
	Platform string // such as linux/amd64
	Source   netip.Addr
}

// Started is what the device shows and goes on with.
type Started struct {
	ID       string // secret, to poll by
	Code     string // ABCD-EFGH, to compare and to type
	Path     string // of the page, with the code in its fragment: that part reaches no server and no log
	Interval time.Duration
	Expires  time.Time
}

// Start begins a login.
func (s *Service) Start(ctx context.Context, in Start) (Started, error) {
	if len(in.Key) != ed25519.PublicKeySize {
		return Started{}, fmt.Errorf("a device key has %d bytes, not %d", ed25519.PublicKeySize, len(in.Key))
	}
	if err := errors.Join(auth.CheckLabel("device name", in.Name), auth.CheckLabel("platform", in.Platform)); err != nil {
		return Started{}, err
	}
	now := s.Clock()
	l := Login{
		ID: rand.Text(), Key: slices.Clone(in.Key), Name: in.Name, Platform: in.Platform, Source: in.Source,
		Started: now, Expires: now.Add(loginTime),
	}
	for {
		l.Code = newCode()
		err := s.Logins.Add(ctx, l)
		if errors.Is(err, ErrCodeInUse) {
			continue // once in a million logins
		}
		if err != nil {
			return Started{}, err
		}
		code := showCode(l.Code)
		return Started{ID: l.ID, Code: code, Path: "/login#" + code, Interval: pollInterval, Expires: l.Expires}, nil
	}
}

// A Poll asks whether a login is confirmed.
type Poll struct {
	ID        string
	Counter   uint64 // above that of every poll before
	Signature []byte // of the device key, over PollMessage
}

// PollMessage returns what a device signs to poll.
func PollMessage(id string, counter uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("sallyport sign-in poll v1\x00"+id+"\x00"), counter)
}

// Poll returns the enrolment of a confirmed login, once, and nil while it waits. If the answer is lost on its way the
// device is enrolled all the same, and connects; a further poll gets ErrTaken.
func (s *Service) Poll(ctx context.Context, in Poll) (*Enrolment, error) {
	now := s.Clock()
	var slow bool
	var taken *Enrolment
	_, err := s.Logins.Update(ctx, in.ID, func(l *Login) error {
		slow, taken = false, nil // a store may run this more than once
		if !ed25519.Verify(l.Key, PollMessage(l.ID, in.Counter), in.Signature) {
			return ErrProof
		}
		if in.Counter <= l.Counter {
			return ErrReplayed
		}
		slow = !l.Polled.IsZero() && now.Sub(l.Polled) < pollInterval/2
		l.Counter, l.Polled = in.Counter, now // of a poll that came too soon as well: it is not good again
		if slow {
			return nil
		}
		switch l.State {
		case Denied:
			return ErrDenied
		case Taken:
			return ErrTaken
		case Confirmed:
			l.State = Taken
			taken = &Enrolment{SignIn: l.SignIn, Key: l.Key, Name: l.Name, Platform: l.Platform, Source: l.Source, Person: l.Person}
			l.Person.Session.Refresh = "" // it is the enrolment's now
		}
		return nil
	})
	if err == nil && slow {
		err = ErrSlow
	}
	if err != nil {
		return nil, err
	}
	return taken, nil
}
