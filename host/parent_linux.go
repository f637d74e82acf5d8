package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

const (
	pollInterval = time.Second

	maxReason = 4 << 10 // of a refusal

	// exitConfig is EX_CONFIG: the worker says that starting it again is of no use before the configuration changes.
	exitConfig = 78
)

// A Parent prepares what its Plan names and keeps a worker running on it.
type Parent struct {
	// Plan computes the plan from the configuration; called at the start and whenever the worker asks for a Relink.
	Plan func() (Plan, error)

	Log    *slog.Logger // default: slog.Default
	RunDir string       // for namespaces and the lock; default /run/sallyport
	Args   []string     // the worker's command line, its name first; default "sallyportd", "worker"
	Output *os.File     // the worker's standard output and error; default the parent's own
	Given  func()       // called whenever a worker has been given what the plan names; default nothing

	// HungAfter is how long a worker may leave the question unanswered whether it lives, before it is killed and another
	// one started; default 15 seconds. Until its first answer it has eight times as long.
	HungAfter time.Duration

	// Watchdog is the path of the machine's watchdog device (Documentation/watchdog/watchdog-api.rst of Linux), such as
	// /dev/watchdog; default none. It is fed while the worker lives; see the package's text.
	Watchdog string

	// Armed leaves the watchdog waiting when Run has been asked to end: what comes then is the end of the machine, which is
	// to come in time.
	Armed bool

	// Healthy is called when a worker's self-test passes for the first time since Run began. The worker waits for what
	// it is asked meanwhile. It may be nil.
	Healthy func()

	// Updater changes the version of the image; nil where the machine does not run from one.
	Updater Updater

	clock clock // what the worker's word sets; default this machine's
}

// An ExitError is the status of a worker that is not going to be started again.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("worker: exit status %d", e.Code) }

func (p Parent) withDefaults() Parent {
	if p.Log == nil {
		p.Log = slog.Default()
	}
	if p.Args == nil {
		p.Args = []string{"sallyportd", "worker"}
	}
	p.RunDir = cmp.Or(p.RunDir, defaultRunDir)
	p.HungAfter = cmp.Or(p.HungAfter, hungAfter)
	if p.clock == nil {
		p.clock = systemClock{}
	}
	return p
}

// Run prepares the plan and keeps a worker running until ctx ends, or SIGTERM or SIGINT arrives, and the worker has drained.
// A first worker that ends with status 78 before it has served ends Run too, and so does what cannot be prepared at the
// start; later troubles are logged and tried again. A worker cannot end Run by itself otherwise: what limits it, such as
// the back-off and how far it has set the clock, would begin anew.
func (p Parent) Run(ctx context.Context) error {
	p = p.withDefaults()
	lock, err := lockRunDir(p.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	if err := setLimits(); err != nil {
		return err
	}
	l, err := newLauncher()
	if err != nil {
		return err
	}
	defer l.close()
	guard, err := newDog(p.Watchdog, p.Log)
	if err != nil {
		return err
	}
	s := newSupervisor(p, l, guard)
	s.signals = signals
	defer func() { guard.close(s.stop && p.Armed) }()
	defer s.updates.Wait()
	defer func() { s.held.closeExcept(&holding{}) }()
	plan, err := s.compute()
	if err != nil {
		return err
	}
	if s.held, err = s.prepare(plan, nil); err != nil {
		return err
	}
	return s.supervise(ctx)
}

// A supervisor is a running Parent.
type supervisor struct {
	Parent
	*launcher
	dog     *dog
	signals <-chan os.Signal
	held    holding
	deaths  backoff
	time    timekeeper
	served  bool       // a worker has said that it serves
	healthy bool       // a worker's self-test has passed
	extra   []*os.File // that the worker has from descriptor 4 on
	abrupt  bool       // a worker that is to end is killed
	stop    bool       // asked to end

	relinks  *rate.Limiter // of all workers together, as is changes
	changes  *rate.Limiter // of the image
	updates  sync.WaitGroup
	updating chan struct{} // holds one while something is done about the image
}

// What workers may ask for. Links that end all together are asked for again at once and then ever less often; the image is
// changed by people. A worker that asks for more has been taken over, or is broken.
const (
	relinksAtOnce, relinksASecond = 100, 5
	changesAtOnce, changeEvery    = 10, time.Minute
)

// newSupervisor makes one that holds nothing yet.
func newSupervisor(p Parent, l *launcher, d *dog) *supervisor {
	return &supervisor{
		Parent: p, launcher: l, dog: d, time: timekeeper{clock: p.clock, log: p.Log}, updating: make(chan struct{}, 1),
		relinks: rate.NewLimiter(relinksASecond, relinksAtOnce), changes: rate.NewLimiter(rate.Every(changeEvery), changesAtOnce),
	}
}

// compute asks for the plan and checks it.
func (s *supervisor) compute() (Plan, error) {
	plan, err := s.Plan()
	if err == nil {
		err = plan.Validate()
	}
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	return plan, nil
}

// supervise runs one worker after the other.
func (s *supervisor) supervise(ctx context.Context) error {
	for first := true; ; first = false {
		begin := time.Now()
		code, err := s.runWorker(ctx)
		lived := time.Since(begin)
		switch {
		case s.stop && err == nil && code <= 0: // drained, or killed while it did
			return nil
		case err == nil && (s.stop || first && !s.served && code == exitConfig):
			return &ExitError{code}
		}
		delay := s.deaths.next(lived)
		s.Log.Error("worker died", "status", code, "cause", err, "lived", lived, "delay", delay)
		if s.pause(ctx, delay); s.stop {
			return nil
		}
	}
}

// pause waits before the next worker. A reload cuts it short: somebody has put something right.
func (s *supervisor) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		s.stop = true
	case sig := <-s.signals:
		s.stop = sig != syscall.SIGHUP
	}
}

// runWorker starts a worker, gives it what it needs, serves it and returns its exit status: -1 if a signal has ended it.
func (s *supervisor) runWorker(ctx context.Context) (int, error) {
	c, end, err := newChannel()
	if err != nil {
		return 0, err
	}
	cmd, err := s.start(s.Args, s.held.owner, s.Output, append([]*os.File{end}, s.extra...)...)
	end.Close()
	if err != nil {
		c.Close()
		return 0, err
	}
	w := &child{channel: c, cmd: cmd, requests: make(chan request), exited: make(chan struct{})}
	w.wg.Go(w.wait)
	w.wg.Go(w.read)
	s.Log.Info("worker started", "pid", cmd.Process.Pid)
	if s.deaths.delay == 0 { // else one has died after the other
		s.dog.feedFor(startSlow * s.HungAfter)
	}
	s.held.refresh(s.RunDir)
	s.sendFresh(w, 0)
	s.attend(ctx, w)
	c.Close()
	w.wg.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGSYS {
		s.Log.Error("the worker made a system call that no worker makes; see seccomp in docs/operating.md")
	}
	return cmd.ProcessState.ExitCode(), nil
}

// attend serves the worker until it has ended.
func (s *supervisor) attend(ctx context.Context, w *child) {
	ticks := time.NewTicker(pollInterval)
	defer ticks.Stop()
	asked := ctx.Done()
	var late <-chan time.Time // when a worker that drains has had its time
	drain := func() {
		s.drain(w)
		if late == nil {
			late = time.After(s.held.plan.Grace + s.HungAfter)
		}
	}
	v := vigil{hungAfter: s.HungAfter}
	for {
		select {
		case <-w.exited:
			return
		case <-asked:
			asked = nil
			drain()
		case <-late:
			s.kill(w, fmt.Errorf("worker not drained: %v were given, and %v more", s.held.plan.Grace, s.HungAfter))
		case sig := <-s.signals:
			if sig != syscall.SIGHUP {
				drain()
				continue
			}
			s.dog.tell(reloading())
			s.announce(w, true)
			s.dog.tell(ready)
		case now := <-ticks.C:
			s.announce(w, false)
			s.look(w, &v, now)
		case r, ok := <-w.requests:
			if !ok {
				w.requests = nil
				s.kill(w, w.fault)
				continue
			}
			switch {
			case r.Relink != 0:
				s.relink(w, r)
			case r.update != nil:
				s.update(w, r.update)
			case r.Clock != nil:
				s.correct(time.Duration(*r.Clock))
			case v.answered(r):
				s.heard(w, v.state)
			default:
				s.kill(w, errUnasked)
			}
		}
	}
}

// drain asks the worker to end when its work is done.
func (s *supervisor) drain(w *child) {
	s.stop = true
	if s.abrupt {
		w.cmd.Process.Kill()
		return
	}
	s.dog.tell(stopping)
	w.cmd.Process.Signal(syscall.SIGTERM)
}

func (s *supervisor) kill(w *child, cause error) {
	s.Log.Error("worker killed", "cause", cause)
	w.cmd.Process.Kill()
}

// announce sends the worker the files that have changed, if any have or it is to look again in any case.
func (s *supervisor) announce(w *child, always bool) {
	changed := s.held.refreshFiles()
	for _, f := range s.held.files {
		if f.fd < 0 || f.errno == f.said && !always {
			continue
		}
		if f.said = f.errno; f.errno != 0 {
			s.Log.Warn("what cannot be read keeps its last content", "file", f.path, "cause", f.errno)
		}
	}
	if !changed && !always {
		return
	}
	s.Log.Info("files changed")
	err := s.held.sendFresh(w.channel)
	if err == nil {
		err = w.send(message{Changed: true})
	}
	if err != nil {
		s.kill(w, err)
	}
}

// relink answers a request: the plan is computed again, and what is new is sent.
func (s *supervisor) relink(w *child, r request) {
	err := errTooOften // which is not worth a line in the log
	if s.relinks.Allow() {
		if err = s.replan(r); err != nil {
			s.Log.Error("relink refused", "cause", err)
		}
	}
	if err != nil {
		reason := err.Error()
		if err := w.send(message{Plan: &planInfo{ID: r.Relink, Error: reason[:min(len(reason), maxReason)]}}); err != nil {
			s.kill(w, err)
		}
		return
	}
	s.sendFresh(w, r.Relink)
}

var errTooOften = errors.New("the worker asks for this too often")

func (s *supervisor) replan(r request) error {
	plan, err := s.compute()
	if err != nil {
		return err
	}
	next, err := s.prepare(plan, r.Afresh)
	if err != nil {
		return err
	}
	s.adopt(next)
	return nil
}

// sendFresh gives the worker what it has not been given and says that this was all.
func (s *supervisor) sendFresh(w *child, id uint64) {
	for _, l := range s.held.links {
		if l.fresh {
			s.Log.Info("link", "vnet", l.plan.VNet, "interface", l.info.Interface, "notes", l.info.Notes, "cause", l.info.Error)
		}
	}
	err := s.held.sendFresh(w.channel)
	if err == nil {
		info := s.held.info()
		info.ID = id
		err = w.send(message{Plan: &info})
	}
	if err != nil {
		s.kill(w, err)
		return
	}
	if s.Given != nil {
		s.Given()
	}
}
