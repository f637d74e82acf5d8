package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/clients"
	"sallyport/appliance/config"
	"sallyport/appliance/desktop"
	fileprogram "sallyport/appliance/files"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/people"
	"sallyport/appliance/policy"
	"sallyport/appliance/portal"
	"sallyport/appliance/sshca"
	"sallyport/appliance/store"
	"sallyport/appliance/terminal"
	"sallyport/frame"
	"sallyport/host/metadata"
	"sallyport/transport"
)

// daemon is an appliance that runs.
type daemon struct {
	cfg       *config.Config
	supply    supply
	cloud     metadata.Cloud // that wants to be told when this machine serves; usually none
	log       *slog.Logger
	store     *store.Store
	registry  *auth.Registry
	trail     trail
	auditKey  ed25519.PublicKey
	access    map[string]string // hashes of the access files that are in force, by name
	versions  *versions         // of the access files; nil where they are not in the database
	locks     *auth.Locks
	identity  *auth.Identity
	people    people.SignIns
	signIns   *auth.SignIns
	portal    http.Handler      // nil where nobody can sign in
	browsers  *people.Browsers  // likewise
	refresher *people.Refresher // nil without identity providers
	server    atomic.Pointer[transport.Server]
	hostKeys  *hostkey.Pins
	sshCA     *sshca.Authority
	gateway   *appliance.Gateway
	trial     bool                            // this version has yet to prove itself
	cert      atomic.Pointer[tls.Certificate] // from a file or made here; nil with acme
	acme      *acme                           // nil without
	networks  map[string]network
	public    network // the stack that people come in by, if it is no VNet's
	ready     atomic.Bool
	greeted   sync.Once // the first client
}

// runDaemon builds an appliance of its parts, serves until ctx ends, lets flows end, and stops.
func runDaemon(ctx context.Context, cfg *config.Config, s supply, cloud metadata.Cloud, log *slog.Logger) error {
	d := &daemon{cfg: cfg, supply: s, cloud: cloud, log: log, networks: map[string]network{}}
	defer d.close()
	if err := d.build(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to stop while it waited for its database
		}
		return err
	}
	return d.serve(ctx)
}

func (d *daemon) build(ctx context.Context) (err error) {
	if err := d.openTrail(); err != nil {
		return err
	}
	carrier := new(fileprogram.Program)
	d.gateway = &appliance.Gateway{
		Name: d.cfg.Name, Banner: d.cfg.Banner, Audit: d.trail, AuditKey: d.auditKey, VNets: map[string]appliance.VNet{}, Log: d.log,
		Metrics: appliance.NewMetrics(), Version: version, Settings: func() []api.Setting { return settings(d.cfg) },
		Programs: map[string]appliance.Program{terminal.Name: terminal.Program{Files: carrier.Join}, fileprogram.Name: carrier, "desktop": &desktop.Program{}},
		Limits: appliance.Limits{Flows: d.cfg.Limits.Flows, FlowsPerUser: d.cfg.Limits.FlowsPerUser,
			DialTimeout: d.cfg.Limits.DialTimeout, ResolveTimeout: d.cfg.Limits.ResolveTimeout,
			Approval: d.cfg.Limits.Approval, Approved: d.cfg.Limits.Approved, Guest: d.cfg.Limits.GuestLink, Grace: d.cfg.Limits.Grace, Detached: d.cfg.Limits.Detached,
			Bench: d.cfg.Limits.Bench, BenchRate: int64(d.cfg.Limits.BenchMbit) * 1e6 / 8},
	}
	if d.cfg.Access != config.InDatabase {
		if _, err := d.loadPolicy(); err != nil {
			return err
		}
	}
	if err := d.prepareCertificate(); err != nil {
		return err
	}
	for name, v := range d.cfg.VNets {
		n, err := d.supply.Network(name, v, served(d.cfg, name))
		if err != nil {
			return fmt.Errorf("attach VNet %s: %w", name, err)
		}
		d.networks[name] = n
		d.gateway.VNets[name] = n
	}
	if d.identity, err = d.openIdentity(); err != nil {
		return err
	}
	if err := d.openUpdates(ctx); err != nil {
		return err
	}
	// The database may lie behind one of them.
	if d.store, err = d.openStore(ctx); err != nil {
		return err
	}
	d.gateway.Control = d.control()
	if d.registry, err = auth.Open(ctx, d.supply.State(), deviceStore{d.store}, time.Now); err != nil {
		return err
	}
	d.gateway.Devices, d.gateway.Accounts = d.registry, accounts{d.store}
	d.gateway.Read = func(f access.Files) (*access.Rules, error) { return access.Read(f, policyOptions(d.cfg)) }
	if err := d.openVersions(ctx); err != nil {
		return err
	}
	if d.locks, err = auth.OpenLocks(ctx, lockStore{d.store}, time.Now, d.gateway.EndLocked); err != nil {
		return err
	}
	d.gateway.Locks = d.locks
	if d.hostKeys, err = hostkey.Open(ctx, hostKeyStore{d.store}, d.cfg.SSH.FirstUse == config.FirstUseConfirm, time.Now); err != nil {
		return err
	}
	d.gateway.HostKeys = d.hostKeys
	if err := d.openCA(ctx); err != nil {
		return err
	}
	if d.gateway.Approvals, err = auth.OpenApprovals(ctx, approvalStore{d.store}, time.Now, d.gateway.ApprovalsChanged); err != nil {
		return err
	}
	if d.gateway.Guests, err = auth.OpenGuests(ctx, guestStore{d.store}, d.registry, time.Now, d.gateway.GuestsChanged); err != nil {
		return err
	}
	if d.gateway.Clients, err = clients.Open(filepath.Join(d.supply.State(), "clients"), d.log); err != nil {
		return err
	}
	d.gateway.URL = d.cfg.Identity.URL
	return d.openPeople(ctx)
}

func (d *daemon) close() {
	d.closeTrail() // while its receivers can be reached
	if d.acme != nil {
		d.acme.Close()
	}
	if d.signIns != nil {
		d.signIns.Close()
	}
	if d.gateway != nil && d.gateway.Approvals != nil {
		d.gateway.Approvals.Close()
	}
	if d.gateway != nil && d.gateway.Guests != nil {
		d.gateway.Guests.Close()
	}
	if d.registry != nil {
		if err := d.registry.Close(); err != nil {
			d.log.Error("devices were not written", "cause", err)
		}
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("the database was not closed", "cause", err)
		}
	}
	for _, n := range d.networks {
		n.Close()
	}
	if d.public != nil {
		d.public.Close()
	}
}

func (d *daemon) serve(ctx context.Context) error {
	server := &transport.Server{
		Handler:     d.gateway,
		Identity:    signer{d.identity},
		Certificate: d.show,
		Protocols:   []string{acmeProtocol},
		Software:    software(),
		HTTP:        d.pages(),
		MaxPending:  d.cfg.Limits.Unauthenticated,
		Balancers:   d.cfg.Listen.ProxyProtocol,
		Breach:      d.gateway.Breach,
	}
	if d.portal != nil {
		server.Origin = d.cfg.Identity.URL
		server.Browser = func(r *http.Request) (string, error) { return portal.DeviceOf(d.browsers, r) }
	}
	d.server.Store(server)
	unwatch := d.registry.OnChange(func(device auth.Device, why error) {
		if why == nil {
			d.gateway.PeopleChanged()
			return
		}
		d.gateway.EndDevice(device.ID, why)
		d.showOut(device.ID, why)
	})
	defer unwatch()
	tcp, udp, err := d.listen()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer tcp.Close()
	defer udp.Close()

	if err := d.passOn(); err != nil {
		return err
	}
	control, err := d.listenControl()
	if err != nil {
		return fmt.Errorf("listen for enrol-code: %w", err)
	}
	defer control.Close()

	// Serving goes on while flows end, after ctx has.
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer d.gateway.Close()
	defer stop(nil)
	failed := make(chan error, 4)
	start := func(name string, serve func(context.Context) error) {
		wg.Go(func() {
			if err := serve(serving); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("https", func(ctx context.Context) error { return server.ServeHTTPS(ctx, tcp) })
	start("quic", func(ctx context.Context) error { return server.ServeQUIC(ctx, udp) })
	start("control", func(ctx context.Context) error { return d.serveControl(ctx, control) })
	if d.cfg.Metrics.Listen != "" {
		l, err := d.supply.Listener("metrics")
		if err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
		defer l.Close()
		start("metrics", func(ctx context.Context) error { return d.serveMetrics(ctx, l) })
	}
	wg.Go(func() { d.watch(serving) })
	wg.Go(func() { saveMemory(serving) })
	wg.Go(func() { d.gateway.WatchTime(serving) })
	wg.Go(func() { d.gateway.Measure(serving, cpuSeconds) })
	wg.Go(func() { d.prune(serving) })
	wg.Go(func() { d.store.Tend(serving) })
	wg.Go(func() { d.followLocks(serving) })
	wg.Go(func() { d.keepLocks(serving) })
	wg.Go(func() { d.followPeople(serving) })
	wg.Go(func() { d.followVersions(serving) })
	wg.Go(func() { d.followSSH(serving) })
	wg.Go(func() { d.keepTime(serving) })

	if d.acme != nil {
		if err := d.acme.manage(serving); err != nil {
			return fmt.Errorf("manage certificates: %w", err)
		}
	}
	d.ready.Store(true)
	d.supply.Serving(newTester(d).test)
	d.log.Info("serving", "listen", where(d.cfg), "vnets", len(d.networks), "version", version,
		"fingerprint", d.fingerprint())
	if d.cloud == metadata.Azure {
		wg.Go(func() { d.reportReady(serving) })
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	d.ready.Store(false)
	d.supply.Draining()
	d.log.Info("draining", "grace", d.cfg.Drain.Grace)
	d.gateway.Drain(context.WithoutCancel(ctx), d.cfg.Drain.Grace)
	stop(frame.Refuse(frame.Draining, "the appliance has stopped", "connect again in a moment"))
	return nil
}

// lastWords is how long a device that may not go on keeps its connections: one of them may have asked for just that, and
// waits for the answer. Nothing else is to be had on them.
const lastWords = 200 * time.Millisecond

// showOut ends the connections of a device.
func (d *daemon) showOut(device string, why error) {
	time.AfterFunc(lastWords, func() {
		if s := d.server.Load(); s != nil {
			s.Disconnect(device, why)
		}
	})
}

// watch takes up changes of files until ctx ends. What is wrong with a new file is said, and the old one stays.
func (d *daemon) watch(ctx context.Context) {
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.supply.Changed():
			if changed, err := d.loadPolicy(); err != nil {
				d.log.Error("the access file is not taken, the old one stays", "cause", err)
			} else {
				d.log.Info("access file taken", "file", d.cfg.Access, "changed", changed)
			}
		case <-daily.C:
		}
		if err := d.prepareCertificate(); err != nil {
			d.log.Error("the certificate is not taken, the old one stays", "cause", err)
		}
	}
}

// loadPolicy takes up the access files, and says whether they are others than before.
func (d *daemon) loadPolicy() (changed bool, err error) {
	if d.versions != nil {
		return d.versions.takeUp(context.Background())
	}
	files, err := d.supply.Files(d.cfg.Access)
	if err != nil {
		return false, fmt.Errorf("read the access files: %w", err)
	}
	e := audit.Event{Kind: audit.AccessChanged, Object: d.cfg.Access, Detail: map[string]string{}}
	for name, data := range files {
		e.Detail[name] = fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	}
	if maps.Equal(e.Detail, d.access) {
		return false, nil
	}
	p, err := parsePolicy(d.cfg, files, policyOptions(d.cfg))
	if err != nil {
		return false, err
	}
	d.access = e.Detail
	d.write(e) // a right that was taken away goes even where that cannot be written
	d.gateway.SetPolicy(p)
	return true, nil
}

// parsePolicy reads access files, and has the policy pass the tests that stand in them.
func parsePolicy(cfg *config.Config, files map[string][]byte, o policy.Options) (*policy.Policy, error) {
	if cfg.Access == config.InDatabase {
		rules, err := access.Read(access.FromFolder(files), o)
		if err != nil {
			return nil, err
		}
		return rules.Policy, nil
	}
	var list []policy.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := cfg.Access
		if name != filepath.Base(path) {
			path = filepath.Join(path, name)
		}
		list = append(list, policy.File{Name: path, Data: files[name]})
	}
	p, err := policy.Parse(list, o)
	if err != nil {
		return nil, err
	}
	if err := access.Test(p); err != nil {
		return nil, err
	}
	return p, nil
}

func policyOptions(cfg *config.Config) policy.Options {
	return policy.Options{AddressSyntax: addressSyntax, Forbidden: alwaysForbidden, VNets: slices.Sorted(maps.Keys(cfg.VNets))}
}

// show is the certificate for a client.
func (d *daemon) show(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	d.greeted.Do(func() { // the context ends with the handshake
		context.AfterFunc(hello.Context(), func() { d.log.Info("the first client is answered") })
	})
	if d.acme != nil {
		return d.acme.certificate(hello)
	}
	return d.cert.Load(), nil
}

// fingerprint is what clients may pin; empty with acme, whose keys change.
func (d *daemon) fingerprint() string {
	if d.acme != nil {
		return ""
	}
	return auth.Fingerprint(d.cert.Load().Leaf)
}

// prepareCertificate makes or reads the certificate, anew when it is called again.
func (d *daemon) prepareCertificate() (err error) {
	if len(d.cfg.TLS.ACME.Domains) > 0 {
		if d.acme != nil {
			return nil
		}
		var roots []byte
		if d.cfg.TLS.ACME.CA != "" {
			if roots, err = d.supply.File(d.cfg.TLS.ACME.CA); err != nil {
				return fmt.Errorf("read tls.acme.ca: %w", err)
			}
		}
		d.acme, err = newACME(d.cfg.TLS.ACME, d.supply.State(), roots, d.uplink(), d.log)
		return err
	}
	cert, err := d.certificate()
	if err != nil {
		return err
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return err
		}
	}
	d.cert.Store(&cert)
	return nil
}

func (d *daemon) certificate() (tls.Certificate, error) {
	if d.cfg.TLS.SelfSigned {
		return auth.SelfSigned(d.supply.State(), ownNames(d.cfg), time.Now())
	}
	cert, err := d.supply.File(d.cfg.TLS.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := d.supply.File(d.cfg.TLS.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate's key: %w", err)
	}
	return tls.X509KeyPair(cert, key)
}

// ownNames are those that a self-signed certificate is made for.
func ownNames(cfg *config.Config) []string {
	names := []string{"localhost"}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	if host, _, err := net.SplitHostPort(cfg.Listen.Address); err == nil && host != "" {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.IsUnspecified() {
			names = append(names, host)
		}
	}
	return names
}

// pages answers whoever asks on 443 without saying HELLO: whether the appliance lives and wants new people, and how they
// sign in.
func (d *daemon) pages() http.Handler {
	mux := http.NewServeMux()
	if d.portal != nil {
		mux.Handle("/", d.portal)
	} else {
		mux.HandleFunc("POST /api/v1/login", func(w http.ResponseWriter, _ *http.Request) { portal.NoSignIn(w) })
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !d.ready.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// openIdentity reads the identity key that the configuration names, or the one in the state folder.
func (d *daemon) openIdentity() (*auth.Identity, error) {
	if d.cfg.IdentityKey == "" {
		return auth.OpenIdentity(d.supply.State())
	}
	data, err := d.supply.File(d.cfg.IdentityKey)
	if err != nil {
		return nil, err
	}
	i, err := auth.ParseIdentity(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.cfg.IdentityKey, err)
	}
	return i, nil
}

// signer is the identity key as frames want it.
type signer struct{ *auth.Identity }

func (s signer) Sign(message []byte) ([]byte, error) { return s.Identity.Sign(message), nil }
