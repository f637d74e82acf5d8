package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/bench"
)

// Options say what is measured. The zero value measures nothing of ours: Programs must be given.
type Options struct {
	Programs  string   // folder of sallyport and sallyportd
	Version   string   // of this program, for the report
	Rounds    int      // default 5
	Links     []string // of Links; default packet
	Doors     []string // of Doors; default kernel
	Only      []string // patterns of names of candidates and measures (path.Match); default all. direct always runs
	PeersFile string   // further candidates, see docs/performance.md
	Idle      []int    // numbers of idle flows; default 1,000
	Impaired  []Path   // impaired ways; default none
	Chaoslink string   // the program that makes them

	Warmup time.Duration // of bulk flows, before bytes count; default 300 ms
	Length time.Duration // for which they count; default 1 s
	Brief  time.Duration // for which round trips are timed; default 500 ms
	Opens  int           // new flows; default 100
	Rest   time.Duration // of idle flows before their memory is looked at; default 12s
	Limit  time.Duration // no round begins that would not end within it, but for the first; default none

	Log func(format string, args ...any) // is told of progress; may be nil
}

func (o Options) withDefaults() Options {
	o.Rounds = cmp.Or(o.Rounds, 5)
	o.Warmup = cmp.Or(o.Warmup, 300*time.Millisecond)
	o.Length = cmp.Or(o.Length, time.Second)
	o.Brief = cmp.Or(o.Brief, 500*time.Millisecond)
	o.Opens = cmp.Or(o.Opens, 100)
	o.Rest = cmp.Or(o.Rest, 12*time.Second)
	if len(o.Links) == 0 {
		o.Links = []string{"packet"}
	}
	if len(o.Doors) == 0 {
		o.Doors = []string{"kernel"}
	}
	if len(o.Idle) == 0 {
		o.Idle = []int{1000}
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// Quick is a run of less than a minute that catches a collapse and nothing finer.
func (o Options) Quick() Options {
	o.Rounds = 2
	o.Warmup, o.Length, o.Brief = 100*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	o.Opens = 30
	o.Rest = 200 * time.Millisecond
	o.Idle = []int{200}
	o.Limit = 58 * time.Second
	if len(o.Only) == 0 {
		o.Only = quickNames
	}
	return o
}

// quickNames are the candidates and measures of a quick run.
var quickNames = []string{"nginx-tls", "ssh-L", "sallyport-*", "up-*", "down-*", "cpu-up-*", "cpu-down-*", "rtt-*", "open-*", "idle-*"}

// A runner is one run.
type runner struct {
	Options
	*lab
	report     *bench.Report
	candidates []*candidate
	g          *remote
	round      int
	broken     map[string]bool // candidates that did not start in this round
}

// A UsageError says that the options ask for what there is not.
type UsageError struct{ error }

func (e UsageError) Unwrap() error { return e.error }

// Run builds the lab, measures and removes the lab. Its error is one of the lab or of ctx; what goes wrong with one
// candidate is in the report, as an omission. After an error there is no report, but when ctx has ended what was measured
// until then.
func Run(ctx context.Context, o Options) (report *bench.Report, err error) {
	r := &runner{Options: o.withDefaults(), report: &bench.Report{Begin: time.Now().UTC(), Version: o.Version, Machine: machine()}}
	if err := r.choose(); err != nil {
		return nil, UsageError{err}
	}
	files, err := raiseFileLimit()
	if err != nil {
		return nil, err
	}
	if r.lab, err = build(files); r.lab != nil {
		defer func() { err = errors.Join(err, r.lab.close()) }()
	}
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	var last time.Duration
	for r.round = 1; r.round <= r.Rounds; r.round++ {
		begin := time.Now()
		if r.Limit > 0 && r.round > 1 && begin.Sub(r.report.Begin)+last > r.Limit {
			r.Log("no time for round %d", r.round)
			r.Rounds = r.round - 1
			break
		}
		r.Log("round %d of %d: starting %d candidates", r.round, r.Rounds, len(r.candidates))
		if err := r.once(ctx); err != nil {
			if ctx.Err() == nil || len(r.report.Samples) == 0 {
				return nil, err
			}
			return r.finish(fmt.Sprintf("Interrupted in round %d of %d.", r.round, r.Rounds)), err
		}
		last = time.Since(begin)
	}
	return r.finish(), nil
}

// finish says in the report how it was measured.
func (r *runner) finish(more ...string) *bench.Report {
	r.report.Took = time.Since(r.report.Begin)
	r.report.Settings = append(r.settings(), more...)
	return r.report
}

// choose makes the list of candidates and says what is left out.
func (r *runner) choose() error {
	all := append(references(), peers()...)
	if r.PeersFile != "" {
		more, err := readPeers(r.PeersFile)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	for _, link := range r.Links {
		if !slices.Contains(Links, link) {
			return fmt.Errorf("there is no link %q; there are %s", link, strings.Join(Links, ", "))
		}
	}
	for _, door := range r.Doors {
		if !slices.Contains(Doors, door) {
			return fmt.Errorf("there is no door %q; there are %s", door, strings.Join(Doors, ", "))
		}
	}
	all = append(all, sallyports(r.Programs, r.Links, r.Doors)...)
	if err := r.checkNames(all); err != nil {
		return err
	}
	for _, c := range all {
		if c.Name != bench.Direct && !r.wanted(c.Name, namesOf(all)) {
			continue
		}
		if why := c.missing(); why != "" {
			r.omit(bench.Omission{Candidate: c.Name, Why: why, Failed: c.Kind == bench.Ours})
			continue
		}
		if len(c.programs) > 0 {
			c.Version = version(findProgram(c.programs[0]))
		}
		r.candidates = append(r.candidates, c)
		r.report.Candidates = append(r.report.Candidates, c.Candidate)
	}
	return nil
}

func namesOf(all []*candidate) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// checkNames refuses patterns that match nothing.
func (r *runner) checkNames(all []*candidate) error {
	known := namesOf(all)
	for i, name := range known {
		if slices.Contains(known[:i], name) {
			return fmt.Errorf("two candidates have the name %q", name)
		}
	}
	for _, j := range r.jobs() {
		known = append(known, j.measures...)
	}
	for _, pattern := range r.Only {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("--only %s: %w", pattern, err)
		}
		if !slices.ContainsFunc(known, func(name string) bool { return matches([]string{pattern}, name) }) {
			return fmt.Errorf("--only %s matches no candidate and no measure; there are %s", pattern, strings.Join(known, ", "))
		}
	}
	return nil
}

// wanted says whether a name of this kind is to be measured: it matches a pattern, or no pattern is about its kind.
func (r *runner) wanted(name string, kind []string) bool {
	about := slices.DeleteFunc(slices.Clone(r.Only), func(pattern string) bool {
		return !slices.ContainsFunc(kind, func(name string) bool { return matches([]string{pattern}, name) })
	})
	return len(about) == 0 || matches(about, name)
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

func (r *runner) omit(o bench.Omission) {
	r.report.Omissions = append(r.report.Omissions, o)
	r.Log("%v", o)
}

// load starts the generator's two ends.
func (r *runner) load(ctx context.Context) error {
	target := command{at: r.target, env: threads(), args: []string{r.self, "target"}, listens: at(loopback, loadPort)}
	if _, err := target.start(ctx); err != nil {
		return err
	}
	if len(r.Impaired) > 0 {
		if err := r.addMiddle(); err != nil {
			return err
		}
	}
	g, err := r.generate()
	r.g = g
	return err
}

// once is one round: every candidate starts afresh, is measured with each measure once, and ends.
func (r *runner) once(ctx context.Context) error {
	r.broken = map[string]bool{}
	defer func() {
		if ctx.Err() != nil {
			return // the lab's end is theirs
		}
		for _, c := range r.candidates {
			c.stop()
		}
	}()
	for _, c := range r.candidates {
		if err := r.open(ctx, c); err != nil {
			return err
		}
	}
	for i, j := range r.selected() {
		for k := range r.candidates {
			// Each measure begins with another candidate, so that none always comes first or after the same one.
			c := r.candidates[(k+i+r.round)%len(r.candidates)]
			if r.broken[c.Name] || j.without != nil && j.without(c) {
				continue
			}
			if err := r.measure(ctx, j, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// open starts a candidate. It returns an error only if the run cannot go on.
func (r *runner) open(ctx context.Context, c *candidate) error {
	err := c.start(ctx, r.lab, r.g)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.broken[c.Name] = true
		r.omit(bench.Omission{Candidate: c.Name, Round: r.round, Why: oneLine(err), Failed: true})
		return r.revive()
	}
	return nil
}

// jobLimit is how long one measurement may take before it counts as failed.
const jobLimit = 2 * time.Minute

func (r *runner) measure(ctx context.Context, j job, c *candidate) error {
	limited, cancel := context.WithTimeoutCause(ctx, cmp.Or(j.limit, jobLimit), errors.New("it took too long"))
	defer cancel()
	values, err := j.run(limited, r, c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.omit(bench.Omission{Candidate: c.Name, Measure: j.measures[0], Round: r.round, Why: oneLine(errors.Join(err, c.alive(err))), Failed: true})
		return r.revive()
	}
	var said []string
	for _, v := range values {
		if !r.wanted(v.measure.Name, r.measureNames()) {
			continue
		}
		r.report.Add(v.measure, bench.Sample{Candidate: c.Name, Round: r.round, Value: v.value})
		said = append(said, fmt.Sprintf("%s %.4g %s", v.measure.Name, v.value, v.measure.Unit))
	}
	r.Log("round %d of %d: %s: %s", r.round, r.Rounds, c.Name, strings.Join(said, ", "))
	return nil
}

// revive replaces a generator that no longer answers.
func (r *runner) revive() error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.g.do(ctx, order{Do: doRelease}); err == nil {
		return nil
	}
	r.g.stop(0)
	g, err := r.generate()
	r.g = g
	return err
}

func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[:min(len(text), 500)]
}

// settings say how it was measured.
func (r *runner) settings() []string {
	return []string{
		fmt.Sprintf("%d rounds, every candidate once a round and afresh; medians over rounds. ×: ratio to direct in the same round. (+): more than direct.", r.Rounds),
		fmt.Sprintf("Bulk flows count %v after %v; MTU 1500, veth with offloads, cubic. Client, gateway, target and generator share the CPUs.", r.Length, r.Warmup),
	}
}

// raiseFileLimit lets this process, and those that it starts, have as many files as the system lets it, and returns the
// number.
func raiseFileLimit() (int, error) {
	const many = 200000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	for _, l := range []unix.Rlimit{{Cur: max(limit.Cur, many), Max: max(limit.Max, many)}, {Cur: limit.Max, Max: limit.Max}} {
		// A set by package syscall is what children inherit; one by package unix alone would be undone for them.
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Cur, Max: l.Max}); err == nil {
			return int(l.Cur), nil
		}
	}
	return int(limit.Cur), nil
}

func machine() bench.Machine {
	m := bench.Machine{CPUs: runtime.NumCPU(), Model: "unknown CPU", System: runtime.GOOS + "/" + runtime.GOARCH}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Model = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _ = strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	}
	return m
}

// version is what a program says of itself, in a line.
func version(program string) string {
	for _, flag := range []string{"-V", "-v", "-version", "version"} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		out, err := exec.CommandContext(ctx, program, flag).CombinedOutput()
		cancel()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if err == nil && line != "" {
			return line[:min(len(line), 100)]
		}
	}
	return ""
}
