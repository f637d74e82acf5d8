package host

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	r, err := parseRequest([]byte(`{"relink":7,"afresh":["hub","lab-2"]}`))
	if err != nil || r.Relink != 7 || !slices.Equal(r.Afresh, []string{"hub", "lab-2"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = parseRequest([]byte(`{"alive":3,"state":"serving"}`)); err != nil || r.Alive != 3 || r.State != serving {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = parseRequest([]byte(`{"update":{"id":4,"do":"install"}}`)); err != nil || r.Update.ID != 4 || r.Update.Do != updateInstall {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = parseRequest([]byte(`{"clock":-1500000000}`)); err != nil || r.Clock == nil || *r.Clock != -1500000000 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{
		`{"update":{}}`, `{"update":{"id":4}}`, `{"update":{"id":0,"do":"status"}}`, `{"update":{"id":4,"do":"format"}}`,
		`{"update":{"id":4,"do":"status","version":"1.0.0"}}`, `{"relink":1,"update":{"id":4,"do":"status"}}`, `{"update":null}`,
		`{"clock":1,"relink":1}`, `{"clock":1.5}`, `{"clock":"1"}`, `{"clock":9223372036854775807}`, `{"clock":-9223372036854775808}`,
		`{"clock":1,"state":"serving"}`, `{"clock":1,"afresh":["hub"]}`, `{"clock":null}`,
		`{"alive":3}`, `{"alive":0,"state":"serving"}`, `{"alive":3,"state":"well"}`, `{"relink":1,"state":"serving"}`,
		`{"relink":1,"alive":1,"state":"serving"}`, `{"alive":3,"state":"serving","afresh":["hub"]}`, `{"state":"serving"}`,
		``, `null`, `{}`, `[]`, `{"relink":0}`, `{"relink":-1}`, `{"relink":1,"move":"eth0"}`, `{"relink":1}{"relink":2}`,
		`{"relink":1,"afresh":["../../etc"]}`, `{"relink":1,"afresh":[""]}`, `{"relink":1,"afresh":"hub"}`,
		`{"relink":1,"afresh":["` + strings.Repeat("x", 100) + `"]}`,
		`{"relink":1,"afresh":["a"` + strings.Repeat(`,"a"`, maxVNets) + `]}`,
		`{"relink":1` + strings.Repeat(" ", maxRequest) + `}`,
	} {
		if r, err := parseRequest([]byte(bad)); !errors.Is(err, errRequest) {
			t.Errorf("%.60s: %+v, %v", bad, r, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"relink":7,"afresh":["hub"]}`))
	f.Add([]byte(`{"relink":18446744073709551615}`))
	f.Add([]byte(`{"relink":1}{}`))
	f.Add([]byte(`{"update":{"id":4,"do":"install"}}`))
	f.Add([]byte(`{"alive":3,"state":"serving"}`))
	f.Add([]byte(`{"clock":-1500000000}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if r.Relink == 0 && r.Alive == 0 && r.Clock == nil && r.Update == nil || len(r.Afresh) > maxVNets || slices.ContainsFunc(r.Afresh, func(s string) bool { return strings.ContainsAny(s, "/ \x00") }) {
			t.Fatalf("accepted %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRequest(again); err != nil || back.Relink != r.Relink || back.Alive != r.Alive || back.State != r.State || (back.Clock == nil) != (r.Clock == nil) || (back.Update == nil) != (r.Update == nil) || r.Update != nil && *back.Update != *r.Update || !slices.Equal(back.Afresh, r.Afresh) {
			t.Fatalf("%s reads as %+v, %v", again, back, err)
		}
	})
}

func TestValidate(t *testing.T) {
	good := Plan{
		Listen: []Listen{{"https", "tcp", ":443"}, {"quic", "udp", "[::]:443"}},
		Links:  []LinkPlan{{VNet: "hub", Kind: Packet, Interface: "eth1"}, {VNet: "lab", Kind: TAP, Interface: "tap0"}},
		Files:  []string{"/etc/sallyport/access.yaml"}, State: "/var/lib/sallyport",
	}
	if err := good.Validate(); err != nil {
		t.Errorf("good plan: %v", err)
	}
	bad := Plan{
		Listen: []Listen{{"a", "unix", "/x"}, {"a b", "tcp", "443"}, {"a", "tcp", ":1"}},
		Links: []LinkPlan{
			{VNet: "../x", Kind: Packet, Interface: "eth1"}, {VNet: "y", Kind: "wire", Interface: "eth1"},
			{VNet: "x", Kind: Packet, Interface: "eth2", Queues: 17},
			{VNet: "y", Kind: TAP, Interface: "a/b"}, {VNet: "z", Kind: TAP, Interface: "longer-than-fifteen"},
		},
		Files: []string{"relative"}, State: "state",
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("bad plan accepted")
	}
	for _, want := range []string{
		`listen a: network "unix"`, `bad name "a b"`, `listen a b: address 443`, `bad VNet name "../x"`, `kind "wire"`,
		`bad interface name "a/b"`, `bad interface name "longer`, `file "relative"`, `state "state"`,
		"link x: 17 queues; at most 16",
		"listen a appears twice", "VNet y appears twice", "interface eth1 appears twice",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

// What lies in the worker's directory, the parent does not read for it.
func TestValidateFilesInState(t *testing.T) {
	for file, ok := range map[string]bool{
		"/var/lib/sallyport/tls.key": false, "/var/lib/sallyport/a/b": false, "/var/lib/sallyport": false, "/var/lib/sallyport/": false,
		"/var/lib/x/../sallyport//tls.key": false, "/var/lib/sallyport/..data/key": false,
		"/var/lib/sallyport.key": true, "/var/lib/sallyport2/key": true, "/var/lib/sallyport/../key": true, "/etc/key": true,
	} {
		for _, state := range []string{"/var/lib/sallyport", "/var/lib/sallyport/"} {
			if err := (Plan{Files: []string{file}, State: state}).Validate(); (err == nil) != ok {
				t.Errorf("%s with %s: %v", file, state, err)
			}
		}
	}
	if err := (Plan{Files: []string{"/etc/key"}}).Validate(); err != nil {
		t.Errorf("without a state directory: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 12 {
		got = append(got, b.next(time.Millisecond))
	}
	s := time.Second
	want := []time.Duration{0, 0, 0, 0, 1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}
	if !slices.Equal(got, want) {
		t.Errorf("delays %v, want %v", got, want)
	}
	if d := b.next(time.Hour); d != 0 {
		t.Errorf("after a long life: %v", d)
	}
	if d := b.next(time.Millisecond); d != 0 {
		t.Errorf("first quick death after a long life: %v", d)
	}
}
