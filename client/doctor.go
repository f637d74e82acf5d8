package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A Finding is what one examination of the doctor's has shown.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Took    int64   `json:"took_ms"`
	Text    string  `json:"text"`           // what was tried and what came of it
	Hint    string  `json:"hint,omitempty"` // what to do

	Code frame.Code `json:"code,omitempty"` // of a fault
}

// A Verdict says how bad a Finding is.
type Verdict string

const (
	Good  Verdict = "ok"
	Note  Verdict = "note"  // worth knowing, and things work
	Fault Verdict = "fault" // must be put right
)

// maxSkew is how far two clocks may differ before certificates and proofs begin to fail.
const maxSkew = time.Minute

// lookPatience is how long the doctor waits for each answer.
const lookPatience = 5 * time.Second

// A Doctor examines the way to an appliance, each part by itself.
type Doctor struct {
	Home      Home
	Appliance string // a profile's name, or an address as a person writes it; empty: the default profile
	Options   Options
	Found     func(Finding) // is told at once; may be nil

	profile  *Profile
	signedIn bool
	dial     *transport.Client
	addrs    []netip.AddrPort
	welcome  *frame.Welcome
	skew     time.Duration // the appliance's clock less ours
	reached  []string      // transports that let us in, or would have
	findings []Finding
}

// Examine tries everything and returns what it found. An error says that there was nothing to examine.
func (d *Doctor) Examine(ctx context.Context) ([]Finding, error) {
	if err := d.choose(); err != nil {
		return nil, err
	}
	for _, examine := range []func(context.Context){
		d.examineName, d.examineProxy, d.examineUDP, d.examineTCP, d.examineSignIn, d.examineClock, d.examineVersion, d.examineAgent, d.examineMemory,
	} {
		if examine(ctx); ctx.Err() != nil {
			return d.findings, context.Cause(ctx)
		}
	}
	return d.findings, nil
}

// FirstFault is the first finding that is a fault, as an error; nil if all is well.
func FirstFault(findings []Finding) error {
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Verdict == Fault })
	if i < 0 {
		return nil
	}
	return frame.Refuse(findings[i].Code, findings[i].Text, findings[i].Hint)
}

func (d *Doctor) found(f Finding, begun time.Time) {
	f.Text, f.Hint = frame.Clip(f.Text, 600), frame.Clip(f.Hint, 600)
	f.Took = time.Since(begun).Round(time.Millisecond).Milliseconds()
	d.findings = append(d.findings, f)
	if d.Found != nil {
		d.Found(f)
	}
}

// fault makes a finding of an error.
func fault(check string, err error) Finding {
	f := Explain(err)
	return Finding{Check: check, Verdict: Fault, Text: f.Sentence, Hint: f.Hint, Code: f.Code}
}

// choose finds out which appliance is meant, and what is known of it.
func (d *Doctor) choose() error {
	profiles, err := d.Home.Profiles()
	if err != nil {
		return err
	}
	i := profiles.index(cmp.Or(d.Appliance, profiles.Default))
	if i < 0 {
		if d.Appliance == "" {
			_, err := d.Home.Profile("")
			return err
		}
		address, err := ParseAppliance(d.Appliance)
		if err != nil {
			return err
		}
		i = slices.IndexFunc(profiles.Appliances, func(p Profile) bool { return p.Address == address })
		d.profile = &Profile{Address: address, Trust: Trust{Kind: TrustSystem}}
	}
	if d.signedIn = i >= 0; d.signedIn {
		d.profile = &profiles.Appliances[i]
	}
	d.dial = newDirect(d.profile, nil, frame.Hello{}, d.Options).dial
	return nil
}

func (d *Doctor) examineName(ctx context.Context) {
	begun := time.Now()
	host, port, _ := net.SplitHostPort(d.profile.Address)
	number, _ := strconv.ParseUint(port, 10, 16)
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		d.found(Finding{Check: "name", Verdict: Fault, Code: "E_NO_PATH", Text: fmt.Sprintf("%s has no address: %s", host, silence(err)),
			Hint: "check the name, and this network's DNS"}, begun)
		return
	}
	var list []string
	for _, a := range addrs {
		d.addrs = append(d.addrs, netip.AddrPortFrom(a.Unmap(), uint16(number)))
		list = append(list, a.Unmap().String())
	}
	text := host + " is " + strings.Join(list, ", ")
	if len(list) == 1 && list[0] == host {
		text = host + " is an address, there is no name to look up"
	}
	d.found(Finding{Check: "name", Verdict: Good, Text: text}, begun)
}

func (d *Doctor) proxy() (*url.URL, error) {
	return d.dial.Proxy(&url.URL{Scheme: "https", Host: d.profile.Address})
}

func (d *Doctor) examineProxy(context.Context) {
	begun := time.Now()
	switch proxy, err := d.proxy(); {
	case err != nil:
		d.found(Finding{Check: "proxy", Verdict: Fault, Code: "E_PROXY", Text: "the proxy's name in the environment does not parse",
			Hint: "check HTTPS_PROXY"}, begun)
	case proxy == nil:
		d.found(Finding{Check: "proxy", Verdict: Good, Text: "the environment names none for this appliance"}, begun)
	default:
		d.found(Finding{Check: "proxy", Verdict: Good, Text: "TCP goes through " + proxy.Redacted() + ", UDP past it"}, begun)
	}
}

// examineUDP shakes hands by QUIC with every address, all at once.
func (d *Doctor) examineUDP(ctx context.Context) {
	if len(d.addrs) == 0 {
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	lines, errs := make([]string, len(d.addrs)), make([]error, len(d.addrs))
	var wg sync.WaitGroup
	for i, address := range d.addrs {
		wg.Go(func() {
			_, errs[i] = d.dial.LookQUIC(ctx, address)
			lines[i] = fmt.Sprintf("%s answers after %s", address, brief(time.Since(begun)))
			if errs[i] != nil {
				lines[i] = fmt.Sprintf("%s: %s", address, silence(errs[i]))
			}
		})
	}
	wg.Wait()
	f := Finding{Check: "udp", Verdict: Good, Text: "QUIC: " + strings.Join(lines, ", ")}
	switch {
	case slices.Contains(errs, nil):
		d.reached = append(d.reached, "quic")
	case d.Options.Transport == transport.QUIC:
		f.Verdict, f.Code, f.Hint = Fault, "E_NO_PATH", "leave out --transport quic, or let UDP out to this port"
	default:
		f.Verdict, f.Hint = Note, "a firewall seems to drop UDP to this port; without it HTTPS is used"
	}
	d.found(f, begun)
}

func brief(t time.Duration) string { return t.Round(time.Millisecond).String() }

// silence is err, or that nothing came.
func silence(err error) string {
	var timeout net.Error
	var name *net.DNSError
	if errors.As(err, &name) {
		return name.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer"
	}
	return shortly(err)
}

// examineTCP connects, and looks at the certificate.
func (d *Doctor) examineTCP(ctx context.Context) {
	if proxy, _ := d.proxy(); len(d.addrs) == 0 && proxy == nil {
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	conn, err := d.dial.LookTCP(ctx)
	if err != nil {
		f := Finding{Check: "tcp", Verdict: Fault, Code: "E_NO_PATH", Text: d.profile.Address + ": " + silence(err), Hint: "a firewall may drop TCP to this port, or the appliance is down"}
		if errors.Is(err, syscall.ECONNREFUSED) {
			f.Hint = "nothing listens there: check the port, or the appliance is down"
		}
		if r, ok := frame.ReasonOf(err); ok {
			f.Code, f.Text, f.Hint = r.Code, r.Sentence, r.Hint
		} else if len(d.reached) > 0 && d.Options.Transport != transport.HTTPS {
			f.Verdict, f.Code, f.Hint = Note, "", "a firewall seems to drop TCP to this port; without it QUIC is used"
		}
		d.found(f, begun)
		return
	}
	defer conn.Close()
	d.found(Finding{Check: "tcp", Verdict: Good, Text: conn.RemoteAddr().String() + " accepts"}, begun)
	begun = time.Now()
	state, err := d.dial.LookTLS(ctx, conn)
	if err != nil {
		d.found(Finding{Check: "tls", Verdict: Fault, Code: "E_NO_PATH", Text: "what answers does not speak TLS 1.3: " + silence(err), Hint: "check the URL"}, begun)
		return
	}
	f := d.judge(ctx, state)
	d.found(f, begun)
	if f.Verdict != Fault {
		d.reached = append(d.reached, "https")
	}
}

// examineSignIn says HELLO over every transport that was reached.
func (d *Doctor) examineSignIn(ctx context.Context) {
	begun := time.Now()
	if !d.signedIn {
		d.found(Finding{Check: "sign-in", Verdict: Note, Text: "this device is not signed in to " + d.profile.Address, Hint: "run: sallyport login " + d.profile.Address}, begun)
		return
	}
	var ways []string
	for _, name := range d.reached {
		took, err := d.hello(ctx, transport.Mode(name))
		if err != nil {
			d.found(fault("sign-in", err), begun)
			return
		}
		ways = append(ways, fmt.Sprintf("over %s in %s", name, brief(took)))
	}
	if len(ways) == 0 {
		return
	}
	text := fmt.Sprintf("%s, as %s, %s", d.profile.Name, d.welcome.User, strings.Join(ways, ", "))
	if slices.Contains(d.reached, "https") {
		text += "; nothing between opens the TLS"
	}
	d.found(Finding{Check: "sign-in", Verdict: Good, Text: text}, begun)
}

// hello makes a session over one transport.
func (d *Doctor) hello(ctx context.Context, mode transport.Mode) (time.Duration, error) {
	o := d.Options
	o.Transport, o.Notice = mode, nil
	direct, err := NewDirect(d.Home, d.profile, o)
	if err != nil {
		return 0, err
	}
	defer direct.Close()
	begun := time.Now()
	s, err := direct.Session(ctx)
	took := time.Since(begun)
	if err != nil {
		return took, err
	}
	d.welcome = s.Welcome
	d.skew = time.Until(time.UnixMilli(s.Welcome.Time)) // it was said less than a round trip ago
	return took, nil
}

func (d *Doctor) examineClock(ctx context.Context) {
	begun := time.Now()
	if d.welcome == nil || d.welcome.Time == 0 {
		if !slices.Contains(d.reached, "https") {
			return
		}
		theirs, err := clockOf(ctx, d.profile.Address)
		if err != nil {
			return
		}
		d.skew = time.Until(theirs)
	}
	skew := d.skew.Abs().Round(time.Millisecond)
	if skew > time.Second {
		skew = skew.Round(time.Second)
	}
	side := "ahead of"
	if d.skew > 0 {
		side = "behind"
	}
	f := Finding{Check: "clock", Verdict: Good, Text: fmt.Sprintf("this computer is %s %s the appliance", skew, side)}
	if skew > maxSkew {
		f.Verdict, f.Code, f.Hint = Fault, "E_CLOCK", "set this computer's clock; if it is right, the appliance's is wrong"
	}
	d.found(f, begun)
}

func (d *Doctor) examineVersion(context.Context) {
	text := "client " + d.dial.Hello.Software + ", protocol " + strconv.Itoa(frame.Version)
	if d.welcome != nil {
		text += "; appliance " + cmp.Or(d.welcome.Software, "does not say")
	}
	d.found(Finding{Check: "version", Verdict: Good, Text: text}, time.Now())
}

func (d *Doctor) examineAgent(ctx context.Context) {
	begun := time.Now()
	places, err := d.Home.agentPlaces()
	if err == nil && d.signedIn {
		err = places.open()
	}
	if err != nil {
		d.found(Finding{Check: "agent", Verdict: Note, Text: "commands work without one: " + err.Error(), Hint: "set SALLYPORT_HOME to a folder of your own with a shorter path"}, begun)
		return
	}
	text := "none is running; the next command starts one"
	if s := AgentOf(ctx, d.Home); s != nil {
		text = fmt.Sprintf("process %d since %s, sessions: %d, flows: %d", s.PID, s.Since.Local().Format("15:04"), len(s.Sessions), s.Flows)
	}
	d.found(Finding{Check: "agent", Verdict: Good, Text: text}, begun)
}

func (d *Doctor) examineMemory(ctx context.Context) {
	wins := d.Home.memory().Wins()
	if s := AgentOf(ctx, d.Home); s != nil {
		wins = append(s.Paths, wins...)
	}
	i := slices.IndexFunc(wins, func(w transport.Win) bool { return w.Appliance == d.profile.Address })
	text := "no transport is remembered: QUIC is tried first"
	if i >= 0 {
		text = fmt.Sprintf("%s was faster from %s %s ago, and is tried first there", wins[i].Transport, wins[i].Network, time.Since(wins[i].At).Round(time.Second))
	}
	d.found(Finding{Check: "race", Verdict: Good, Text: text}, time.Now())
}
