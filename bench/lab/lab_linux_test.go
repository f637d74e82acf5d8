package lab

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/bench"
)

func TestParsePath(t *testing.T) {
	p, err := ParsePath("50ms/0.1%")
	if err != nil || p != (Path{50 * time.Millisecond, 0.1}) || p.String() != "50ms-0.1%" {
		t.Errorf("%v, %v", p, err)
	}
	for _, bad := range []string{"", "50ms", "50ms/1", "50/1%", "-1ms/1%", "1ms/101%", "1ms/x%"} {
		if p, err := ParsePath(bad); err == nil {
			t.Errorf("%q is %v", bad, p)
		}
	}
	if n := len(Matrix()); n != 9 {
		t.Errorf("%d ways", n)
	}
}

func TestParsePeers(t *testing.T) {
	all, err := parsePeers([]byte(`peers:
  - name: other
    says: another tunnel
    programs: [other]
    gateway: [[other, serve, "{gateway}:{port}", "{target}"]]
    client: [[other, connect, "{gateway}:{port}", "127.0.0.1:{local}"]]
    address: 127.0.0.1:{local}
`))
	if err != nil || len(all) != 1 || all[0].Name != "other" {
		t.Fatalf("%v, %v", all, err)
	}
	l := &lab{dir: t.TempDir(), gateway: &space{name: "g"}, client: &space{name: "c"}, ports: 8000}
	if err := all[0].prepare(t.Context(), l, all[0]); err != nil {
		t.Fatal(err)
	}
	c := all[0]
	if c.address != "127.0.0.1:8002" || c.gateway[0].at.name != "g" || c.client[0].at.name != "c" ||
		!slices.Equal(c.gateway[0].args, []string{"other", "serve", "10.50.0.2:8001", "10.50.2.3:7000"}) {
		t.Errorf("%+v", c)
	}
	for text, want := range map[string]string{
		"peers: [{name: a b, address: x}]":             "a name of letters",
		"peers: [{name: a}]":                           "address must be given",
		"peers: [{name: a, address: x, server: [[]]}]": "server",
		"peers: [{name: a, address: x, client: [[]]}]": "a command is empty",
	} {
		if _, err := parsePeers([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOnly(t *testing.T) {
	all := append(append(references(), peers()...), sallyports("bin", Links, Doors)...)
	chosen := func(only ...string) (candidates, measures []string, err error) {
		r := &runner{Options: Options{Only: only}.withDefaults()}
		for _, name := range namesOf(all) {
			if r.wanted(name, namesOf(all)) {
				candidates = append(candidates, name)
			}
		}
		for _, name := range r.measureNames() {
			if r.wanted(name, r.measureNames()) {
				measures = append(measures, name)
			}
		}
		return candidates, measures, r.checkNames(all)
	}
	c, m, err := chosen("sallyport-quic-*", "nginx", "up-*")
	if err != nil || len(c) != 1+len(Links)+2 || !slices.Equal(m, []string{"up-1", "up-8"}) {
		t.Errorf("%v, %v, %v", c, m, err)
	}
	if c, m, err := chosen(); err != nil || len(c) != len(all) || len(m) < 15 {
		t.Errorf("without patterns: %v, %v, %v", c, m, err)
	}
	if _, _, err := chosen(quickNames...); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"nothing-like-it", "[", "up"} {
		if _, _, err := chosen(bad); err == nil {
			t.Errorf("--only %s is taken", bad)
		}
	}
}

func TestMissing(t *testing.T) {
	c := &candidate{programs: []string{"sh", "no-such-program|nor-this-one"}}
	if got := c.missing(); !strings.HasPrefix(got, "no-such-program or nor-this-one not found") {
		t.Error(got)
	}
	c.programs = []string{"no-such-program|sh"}
	if got := c.missing(); got != "" {
		t.Error(got)
	}
}

// The test's own process is a tree of its own, and has used time and memory.
func TestUsage(t *testing.T) {
	roots := []int{os.Getpid()}
	before := cpuTimes(roots)
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	if used := cpuBetween(before, cpuTimes(roots)); used < time.Millisecond || used > 10*time.Second {
		t.Errorf("CPU time of 20 ms of work: %v", used)
	}
	if n, err := memory(roots); err != nil || n < 1<<20 {
		t.Errorf("memory: %d, %v", n, err)
	}
	if !slices.Contains(tree([]int{os.Getppid()}), os.Getpid()) {
		t.Error("a process is not below its parent")
	}
}

// What cannot be measured is told: another's program as skipped, ours as failed.
func TestChoose(t *testing.T) {
	r := &runner{Options: Options{Programs: t.TempDir(), Only: []string{"sallyport-quic-packet", "ssh-J"}}.withDefaults(), report: new(bench.Report)}
	if err := r.choose(); err != nil {
		t.Fatal(err)
	}
	omitted := r.report.Omissions
	if i := len(omitted) - 1; i < 0 || omitted[i].Candidate != "sallyport-quic-packet" || !omitted[i].Failed || !strings.Contains(omitted[i].Why, "not found") {
		t.Errorf("%v", omitted)
	}
	if r.candidates[0].Name != bench.Direct {
		t.Errorf("direct is not measured: %v", r.report.Candidates)
	}
}
