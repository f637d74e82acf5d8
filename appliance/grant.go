package appliance

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"log/slog"
	"time"

	"sallyport/frame"
)

// Control is what the gateway needs of the database that a fleet shares. Policies, devices and locks are in memory, and are
// asked in any case; but what others have changed is not heard of while the database is away. So new flows are refused then,
// but for those whose person shows a grant: the appliance's own signature, a few minutes old, that the same was allowed to
// the same device while the database answered. A grant allows nothing by itself.
type Control struct {
	Down  func() error  // why the database does not answer, or nil; never waits
	Key   GrantKey      // without one there are no grants
	Cache time.Duration // how long a grant is good; default 5 minutes
}

// GrantKey signs grants. The appliances of a fleet have one key, so that one takes what another has signed.
type GrantKey interface {
	Sign(message []byte) []byte
	Public() ed25519.PublicKey
}

const (
	grantSkew  = 30 * time.Second // how far apart the clocks of a fleet may be
	grantFresh = time.Minute      // who shows one that is younger gets no other: not every flow costs a signature
)

var errControlDown = frame.Refuse("E_CONTROL_DOWN", "existing sessions continue; new ones are paused: the appliance's database does not answer",
	"try again in a moment")

// controlled says whether a flow that the policy allows may be opened now.
func (f *flow) controlled() error {
	c := f.gateway.Control
	if c == nil || c.Down() == nil {
		return nil
	}
	if !f.showsGrant(c, time.Now()) {
		return errControlDown
	}
	f.gateway.Metrics.grantUsed()
	f.log(slog.LevelInfo, "opened by a grant of before, since the database does not answer")
	return nil
}

// newGrant is what the client may show next time; none while the database is away, or a grant would renew itself.
func (f *flow) newGrant() []byte {
	c := f.gateway.Control
	if c == nil || c.Key == nil || c.Down() != nil {
		return nil
	}
	// What is shown is not verified here: whoever shows another's or a forged one has no good one for a minute.
	if len(f.open.Grant) == frame.GrantSize {
		if age := grantAge(f.open.Grant, f.begun); age >= 0 && age < min(grantFresh, c.cache()/2) {
			return nil
		}
	}
	grant := binary.BigEndian.AppendUint64(nil, uint64(f.begun.UnixMilli()))
	return append(grant, c.Key.Sign(f.grantMessage(grant))...)
}

// showsGrant says whether the grant that came with OPEN is for this flow, and still good.
func (f *flow) showsGrant(c *Control, now time.Time) bool {
	grant := f.open.Grant
	if len(grant) != frame.GrantSize || c.Key == nil {
		return false
	}
	if age := grantAge(grant, now); age < -grantSkew || age > c.cache() {
		return false
	}
	return ed25519.Verify(c.Key.Public(), f.grantMessage(grant[:8]), grant[8:])
}

func (c *Control) cache() time.Duration { return cmp.Or(c.Cache, 5*time.Minute) }

// grantAge is how long ago a grant says that it was given.
func grantAge(grant []byte, now time.Time) time.Duration {
	return now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(grant))))
}

// grantMessage is what a grant signs: who with which key, to where, as the policy of now has it, and when. A grant for
// anything else signs another message, so there is nothing in it to be read.
func (f *flow) grantMessage(when []byte) []byte {
	message := []byte("sallyport/1 grant\x00")
	for _, part := range []string{f.peer.User, f.peer.Device, string(f.peer.Key[:]), f.grant.Target, f.grant.VNet, f.grant.Host, f.grant.Protocol} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(part)))
		message = append(message, part...)
	}
	message = binary.BigEndian.AppendUint16(message, f.grant.Port)
	return append(message, when...)
}
