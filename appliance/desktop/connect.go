package desktop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/appliance"
	"sallyport/appliance/credssp"
	"sallyport/appliance/policy"
	"sallyport/appliance/rdp"
	"sallyport/appliance/rdp/der"
	"sallyport/frame"
)

// A desk is one connection to the target, for one side.
type desk struct {
	program *Program
	session *appliance.Session
	side    *appliance.Side
	keep    *vault
	client  *stream
	sink    sink
	clips   *rate.Limiter
	end     context.CancelCauseFunc

	finished sync.Once
	relays   sync.WaitGroup

	mu     sync.Mutex
	far    net.Conn // nil: dial
	closed bool
}

// say tells the person something, if they still listen.
func (d *desk) say(m stateMessage) { d.sink.json(kindState, m) }

// refuse tells the person why there is no desktop, in words.
func (d *desk) refuse(err error) {
	reason, known := frame.ReasonOf(err)
	if !known {
		d.session.Log.Warn("desktop failed", "cause", err)
		reason = frame.Reason{Code: frame.Internal, Sentence: "the appliance could not do this", Hint: "the appliance's log says why"}
	}
	d.session.Log.Info("desktop ended", "cause", string(reason.Code), "why", reason.Sentence)
	d.sink.json(kindNotice, noticeMessage{reason.Code, reason.Sentence, reason.Hint})
}

// close ends the connection to the target.
func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.far != nil {
		d.far.Close()
	}
}

// reach is the connection to the target: the one that the session has begun with, or another.
func (d *desk) reach(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	far := d.far
	d.mu.Unlock()
	if far != nil {
		return far, nil
	}
	far, err := d.session.Dial(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.far = far; d.closed {
		far.Close()
	}
	return far, nil
}

// A user is who logs on to the target. The password is UTF-16, or nil.
type user struct {
	name, domain string
	password     []byte
}

// An outcome is what the connection has come to.
type outcome struct {
	conn    *tls.Conn
	confirm rdp.Confirm
	who     user
	credssp string // who did it
}

// serve connects, answers the browser's client and relays.
func (d *desk) serve(ctx context.Context) error {
	d.sink.w, d.client = d.side, &stream{r: d.side}
	limit := d.program.Handshake
	if limit == 0 {
		limit = 30 * time.Second
	}
	late := time.AfterFunc(limit, func() { // until there is a desktop
		d.end(frame.Refuse("E_TIMEOUT", fmt.Sprintf("there is no desktop after %v", limit), "the target is busy, or does not answer in RDP; try again"))
	})
	defer late.Stop()
	begin, err := readStart(d.side)
	if err != nil {
		return d.closing(err)
	}
	d.say(stateMessage{State: "connecting"})
	request, err := readCleanPath(d.client)
	if err != nil {
		return d.closing(err)
	}
	o, err := d.connect(ctx, begin, request)
	defer clear(o.who.password)
	if err != nil {
		d.sink.message(kindPDU, cleanPathError(err, o.confirm).Append(nil))
		return err
	}
	shown := o.confirm.PDU
	if o.credssp != policy.CredSSPBrowser {
		shown = o.confirm.Saying(rdp.TLS)
	}
	certificate := o.conn.ConnectionState().PeerCertificates[0].Raw
	if err := d.sink.message(kindPDU, rdp.AppendCleanPathAnswer(nil, shown, certificate, d.session.Target)); err != nil {
		return err
	}
	d.say(stateMessage{State: "open", CredSSP: o.credssp, In: d.side.May(policy.ClipboardIn), Out: d.side.May(policy.ClipboardOut), Resize: d.side.Grant.Desktop.DisplayControl})
	return d.relay(o, begin, func() { late.Stop() })
}

// closing is nil for a person who has gone.
func (d *desk) closing(err error) error {
	if gone(err) {
		return nil
	}
	if _, known := frame.ReasonOf(err); known {
		return err
	}
	d.session.Log.Debug("desktop's page", "cause", err)
	return errMessage
}

// readCleanPath reads the request that the browser's client begins with.
func readCleanPath(r io.Reader) (rdp.CleanPathRequest, error) {
	b := make([]byte, 2, 512)
	if _, err := io.ReadFull(r, b); err != nil {
		return rdp.CleanPathRequest{}, err
	}
	_, head, length, err := der.Head(b)
	for errors.Is(err, der.ErrShort) {
		b = append(b, 0)
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return rdp.CleanPathRequest{}, err
		}
		_, head, length, err = der.Head(b)
	}
	if err != nil {
		return rdp.CleanPathRequest{}, err
	}
	if head+length > rdp.MaxCleanPath {
		return rdp.CleanPathRequest{}, errMessage
	}
	at := len(b)
	b = append(b, make([]byte, max(0, head+length-at))...)
	if _, err := io.ReadFull(r, b[at:]); err != nil {
		return rdp.CleanPathRequest{}, err
	}
	return rdp.ParseCleanPathRequest(b)
}

// logon is who logs on, by what the person says and what is kept.
func (d *desk) logon(begin start, browser bool) (user, error) {
	who := user{name: begin.User, domain: begin.Domain}
	switch {
	case browser && begin.Password != nil:
		clear(*begin.Password)
		return who, frame.Refuse("E_USAGE", "the browser proves the password itself, and the appliance is not given it", "reload the page")
	case browser:
		return who, nil
	case begin.Password != nil:
		who.password = *begin.Password
		d.keep.keep(who.name, who.domain, who.password)
		return who, nil
	}
	if name, domain, password, ok := d.keep.kept(); ok && (begin.User == "" || begin.User == name && begin.Domain == domain) {
		return user{name, domain, password}, nil
	}
	return who, nil
}

// connect makes the connection as far as RDP begins.
func (d *desk) connect(ctx context.Context, begin start, request rdp.CleanPathRequest) (o outcome, err error) {
	wanted := d.side.Grant.Desktop.CredSSP
	browser := wanted == policy.CredSSPBrowser || wanted == policy.CredSSPAppliance && begin.CredSSP == policy.CredSSPBrowser
	if o.who, err = d.logon(begin, browser); err != nil {
		return o, err
	}
	protocols, err := rdp.CheckConnectionRequest(request.X224)
	if err != nil {
		return o, errMessage
	}
	switch {
	case browser:
		protocols &= rdp.TLS | rdp.CredSSP | rdp.CredSSPEx
	case wanted == policy.CredSSPOff:
		protocols = rdp.TLS
	default:
		protocols = rdp.TLS | rdp.CredSSP | rdp.CredSSPEx
	}
	far, err := d.reach(ctx)
	if err != nil {
		return o, err
	}
	if o.confirm, err = d.negotiate(far, protocols, browser); err != nil {
		return o, err
	}
	first := !d.session.KnowsCertificate()
	if o.conn, err = d.secure(ctx, far); err != nil {
		return o, err
	}
	// Before anybody logs on: it is expected from now on also if the password is wrong.
	d.say(stateMessage{State: "connecting", Certificate: fingerprint(o.conn.ConnectionState().PeerCertificates[0]), First: first})
	o.credssp = policy.CredSSPOff
	if o.confirm.Selected == rdp.TLS {
		return o, nil
	}
	if o.credssp = policy.CredSSPBrowser; browser {
		return o, nil
	}
	o.credssp = "appliance"
	return o, d.authenticate(o)
}

// negotiate asks the target for TLS in one of its forms.
func (d *desk) negotiate(far net.Conn, protocols uint32, browser bool) (c rdp.Confirm, err error) {
	target := d.session.Target
	if _, err := far.Write(rdp.AppendConnectionRequest(nil, protocols)); err != nil {
		return c, d.lost(err)
	}
	b := make([]byte, 4, rdp.MaxX224)
	if _, err := io.ReadFull(far, b); err != nil {
		return c, d.lost(err)
	}
	length := int(b[2])<<8 | int(b[3])
	if b[0] != 3 || length < 11 || length > rdp.MaxX224 {
		return c, frame.Refuse("E_PROTOCOL", target+" does not speak RDP on this port", "check the port; an administrator can correct it in the access file")
	}
	b = b[:length]
	if _, err := io.ReadFull(far, b[4:]); err != nil {
		return c, d.lost(err)
	}
	c, err = rdp.ParseConfirm(b)
	switch {
	case err != nil:
		return c, frame.Refuse("E_PROTOCOL", fmt.Sprintf("%s: %v", target, err), "check the port and the RDP service there")
	case c.Failure == 2 || c.Failure == 0 && c.Selected == rdp.Standard:
		return c, frame.Refuse("E_RDP_SECURITY", target+" only has RDP's own encryption, which anybody in between can read", "turn on TLS in its RDP service: in xrdp.ini security_layer=negotiate, in Windows the security layer SSL")
	case c.Failure == 5 && browser:
		return c, frame.Refuse("E_RDP_SECURITY", target+" wants network level authentication, which the browser has not offered", "reload the page")
	case c.Failure == 5:
		return c, frame.Refuse("E_RDP_SECURITY", target+" wants network level authentication", "an administrator corrects rdp.credssp in the access file")
	case c.Failure != 0:
		return c, frame.Refuse("E_RDP_SECURITY", fmt.Sprintf("%s refuses the connection: %s", target, c.Why()), "look at the security settings of its RDP service")
	case c.Selected != rdp.TLS && c.Selected != rdp.CredSSP && c.Selected != rdp.CredSSPEx, c.Selected&protocols == 0:
		return c, frame.Refuse("E_PROTOCOL", fmt.Sprintf("%s selects security %#x, which it was not asked for", target, c.Selected), "look at the security settings of its RDP service")
	case browser && c.Selected == rdp.TLS:
		return c, frame.Refuse("E_RDP_SECURITY", target+" does no network level authentication, so the browser cannot keep the password from the appliance", "let the appliance log on, or turn on network level authentication there")
	}
	return c, nil
}

// secure makes the TLS connection to the target, whose certificate is compared before anything passes. The browser does
// not compare it.
func (d *desk) secure(ctx context.Context, far net.Conn) (*tls.Conn, error) {
	conn := tls.Client(far, &tls.Config{InsecureSkipVerify: true}) // by the rules of the web; those of the target are below
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, frame.Refuse("E_TARGET_TLS", fmt.Sprintf("TLS with %s failed: %v", d.session.Target, err), "the target must have TLS 1.2 or later, and a certificate")
	}
	shown := conn.ConnectionState().PeerCertificates
	if err := checkLength(d.session.Target, shown[0]); err != nil {
		return nil, err
	}
	// Only now has it proved that the certificate's key is its own, so that no other is pinned.
	if err := d.session.CheckCertificate(shown); err != nil {
		return nil, err
	}
	return conn, nil
}

// authenticate proves the password to the target, and then sends it.
func (d *desk) authenticate(o outcome) error {
	if o.who.password == nil || o.who.name == "" {
		return frame.Refuse("E_TARGET_AUTH", d.session.Target+" wants a user and a password before it shows a desktop", "type them")
	}
	key, err := publicKey(o.conn.ConnectionState().PeerCertificates[0])
	if err != nil {
		return frame.Refuse("E_TARGET_TLS", fmt.Sprintf("the certificate of %s has a key that does not parse", d.session.Target), "give it another")
	}
	err = credssp.Authenticate(o.conn, credssp.Credentials{Domain: o.who.domain, User: o.who.name, Password: o.who.password}, key)
	if err == nil && o.confirm.Selected == rdp.CredSSPEx {
		err = credssp.Verdict(o.conn)
	}
	var denied *credssp.DeniedError
	switch {
	case errors.As(err, &denied):
		d.keep.wipe()
		return frame.Refuse("E_TARGET_AUTH", fmt.Sprintf("%s refused the log-on: %v", d.session.Target, denied), "check user, domain and password")
	case err != nil:
		return frame.Refuse("E_TARGET_AUTH", fmt.Sprintf("network level authentication with %s failed: %v", d.session.Target, err), "the target must accept NTLM; its event log may say more")
	}
	return nil
}

// lost is why a target does not answer.
func (d *desk) lost(err error) error {
	return frame.Refuse("E_TARGET_RESET", fmt.Sprintf("%s ended the connection before it said anything in RDP", d.session.Target), "look at its RDP service; it may limit connections")
}

// publicKey is the bits of a certificate's key, without what says of which kind it is.
func publicKey(c *x509.Certificate) ([]byte, error) {
	spki, err := der.Whole(c.RawSubjectPublicKeyInfo, der.Sequence)
	if err != nil {
		return nil, err
	}
	_, rest, err := der.Read(spki, der.Sequence)
	if err != nil {
		return nil, err
	}
	bits, err := der.Whole(rest, der.BitString)
	if err == nil && (len(bits) < 2 || bits[0] != 0) {
		err = errors.New("a key is not whole bytes")
	}
	if err != nil {
		return nil, err
	}
	return bits[1:], nil
}
