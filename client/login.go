package client

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"

	"sallyport/frame"
	"sallyport/transport"
)

// LoginOptions say how to enrol this device.
type LoginOptions struct {
	URL     string // of the appliance
	Code    string // the enrolment code; empty: the person signs in in a browser
	User    string // whom the code is for; may be empty
	Device  string // what the person calls this device; default: the host's name
	Profile string // what the appliance is called here; default: its host

	CAFile      string // PEM certificates to verify the appliance by
	Fingerprint string // or SHA-256 of its public key; default: the system's roots

	// KeyStore is where the device key is kept: KeyAuto, KeyKeychain or KeyFile, the default.
	KeyStore string

	// Browse is told of the page that the person opens, in a browser of any machine, and of the code to compare.
	Browse func(url, code string)

	Options
}

// Login makes a device key and enrols it, with a code or by a browser. The key, and what is to be known of the appliance, are kept only
// when that has succeeded; the appliance becomes the default one.
func Login(ctx context.Context, h Home, o LoginOptions) (*Profile, error) {
	p, err := o.profile()
	if err != nil {
		return nil, err
	}
	all, err := h.Profiles() // before the code is used up
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	kept, err := h.stageKey(ctx, p, o.KeyStore, key) // now: a code is not to be used up for a key that cannot be kept
	if err != nil {
		return nil, err
	}
	if o.Code == "" {
		if err := o.byBrowser(ctx, p, key); err != nil {
			kept.discard()
			return nil, err
		}
	}
	d := newDirect(p, frame.PrivateKey(key), frame.Hello{Code: o.Code, User: o.User, Name: frame.Clip(o.device(), 64)}, o.Options)
	defer d.Close()
	s, err := d.Session(ctx)
	if r, _ := frame.ReasonOf(err); err != nil && r.Code == "E_CODE_USED" {
		// Perhaps by ourselves, where the answer came late or not at all and another transport was tried: then this key,
		// which is new, is enrolled.
		d.dial.Hello.Code = ""
		if again, unknown := d.Session(ctx); unknown == nil {
			s, err = again, nil
		}
	}
	if err != nil {
		kept.discard()
		return nil, err
	}
	p.User, p.Device, p.Identity = s.Welcome.User, s.Welcome.Device, s.Welcome.Identity
	if err := kept.commit(); err != nil {
		return nil, err
	}
	h.dropToken(p.Name) // of the device before
	if err := h.put(*p, true); err != nil {
		return nil, err
	}
	if i := all.index(p.Name); i >= 0 && all.Appliances[i].KeyStore != p.KeyStore {
		if err := h.dropKey(p.Name, all.Appliances[i].KeyStore); err != nil && o.Notice != nil {
			f := Explain(err)
			o.Notice("of the sign-in before: " + f.Sentence + "; " + f.Hint)
		}
	}
	return p, nil
}

func (o *LoginOptions) device() string {
	host, _ := os.Hostname()
	return cmp.Or(o.Device, host, "device")
}

// profile is what is known of the appliance before it has answered.
func (o *LoginOptions) profile() (*Profile, error) {
	address, err := ParseAppliance(o.URL)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p := &Profile{Name: cmp.Or(o.Profile, profileName(host, port)), Address: address, Trust: Trust{Kind: TrustSystem}}
	if err := checkProfileName(p.Name); err != nil {
		return nil, err
	}
	switch o.KeyStore {
	case "", KeyAuto, KeyKeychain, KeyFile:
	default:
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("%q is no place for the device key", frame.Clip(o.KeyStore, 64)), "use --key-store auto, keychain or file")
	}
	switch {
	case o.CAFile != "" && o.Fingerprint != "":
		return nil, frame.Refuse("E_USAGE", "--ca and --fingerprint exclude each other", "")
	case o.CAFile != "":
		b, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, frame.Refuse("E_USAGE", "the file of --ca cannot be read: "+err.Error(), "")
		}
		p.Trust = Trust{Kind: TrustCA, CA: string(b)}
		if p.Trust.check() != nil {
			return nil, frame.Refuse("E_USAGE", o.CAFile+" holds no certificate", "--ca wants PEM: -----BEGIN CERTIFICATE-----")
		}
	case o.Fingerprint != "":
		pin, err := ParseFingerprint(o.Fingerprint)
		if err != nil {
			return nil, err
		}
		p.Trust = Trust{Kind: TrustPin, Pin: pin}
	}
	if _, err := transport.ParseMode(string(o.Transport)); err != nil {
		return nil, frame.Refuse("E_USAGE", err.Error(), "")
	}
	return p, nil
}
