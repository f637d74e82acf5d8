package metadata

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const secret = "listen: {vnet: hub} # s3cret\n"

// client is one whose connections all end at a server here. It fails the test that dials anything but the cloud's own.
func client(t *testing.T, cloud Cloud, h http.HandlerFunc) Client {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Client{Cloud: cloud, Total: 5 * time.Second, Pause: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if !slices.Contains(cloud.Endpoints(), netip.MustParseAddrPort(address)) {
			t.Errorf("dialled %s", address)
		}
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}
}

// clouds answer as the vendors' documents say.
var clouds = map[Cloud]func(data []byte) http.HandlerFunc{
	Azure: func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			switch {
			case r.Host != "169.254.169.254" || r.URL.Path != "/metadata/instance/compute/userData":
				http.NotFound(w, r)
			case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" || q.Get("format") != "text" || q.Get("api-version") != "2021-01-01":
				http.Error(w, "bad request", http.StatusBadRequest)
			default:
				io.WriteString(w, base64.StdEncoding.EncodeToString(data))
			}
		}
	},
	AWS: func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
				io.WriteString(w, "t0ken==")
			case r.Header.Get("X-aws-ec2-metadata-token") != "t0ken==":
				http.Error(w, "", http.StatusUnauthorized)
			case r.Method == http.MethodGet && r.URL.Path == "/latest/user-data" && data != nil:
				w.Write(data)
			default:
				http.NotFound(w, r)
			}
		}
	},
	GCP: func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Header.Get("Metadata-Flavor") != "Google":
				http.Error(w, "", http.StatusForbidden)
			case r.URL.Path == "/computeMetadata/v1/instance/attributes/user-data" && data != nil:
				w.Write(data)
			default:
				http.NotFound(w, r)
			}
		}
	},
}

func TestUserData(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, secret)
	z.Close()
	for cloud, serve := range clouds {
		for name, data := range map[string][]byte{"plain": []byte(secret), "gzip": packed.Bytes()} {
			t.Run(string(cloud)+" "+name, func(t *testing.T) {
				got, err := client(t, cloud, serve(data)).UserData(t.Context())
				if err != nil || string(got) != secret {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		t.Run(string(cloud)+" none", func(t *testing.T) {
			if got, err := client(t, cloud, serve(nil)).UserData(t.Context()); !errors.Is(err, ErrNone) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A service that is not there yet is asked again.
func TestSlowAtBoot(t *testing.T) {
	for cloud, serve := range clouds {
		t.Run(string(cloud), func(t *testing.T) {
			n := 0
			c := client(t, cloud, func(w http.ResponseWriter, r *http.Request) {
				if n++; n <= 3 {
					http.Error(w, secret, []int{503, 429, 410}[n-1])
					return
				}
				serve([]byte(secret))(w, r)
			})
			dial, refused := c.Dial, 0
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if refused++; refused <= 2 {
					return nil, errors.New("no route")
				}
				return dial(ctx, network, address)
			}
			if got, err := c.UserData(t.Context()); err != nil || string(got) != secret {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// An error says what was asked and what the status was, and nothing of the answer.
func TestErrors(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 4<<20))
	z.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"status": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusForbidden) }, "GET http://169.254.169.254/computeMetadata/v1/instance/attributes/user-data: 403 Forbidden"},
		"busy":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusServiceUnavailable) }, "user-data: 503 Service Unavailable"},
		"elsewhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://10.0.0.1/")
			w.WriteHeader(http.StatusFound)
		}, "user-data: 302 Found"},
		"long":   {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat(secret, 1<<16)) }, "user-data: the answer has more than 1048576 bytes"},
		"silent": {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "given up after "},
		"bomb":   {func(w http.ResponseWriter, _ *http.Request) { w.Write(bomb.Bytes()) }, "user data: more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := client(t, GCP, c.answer)
			if name == "silent" || name == "busy" {
				cl.Total, cl.Each = 300*time.Millisecond, 100*time.Millisecond
			}
			_, err := cl.UserData(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v", err)
			}
		})
	}
}

const goal = `<?xml version="1.0" encoding="utf-8"?>
<GoalState xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Version>2012-11-30</Version><Incarnation>7</Incarnation>
  <Machine><ExpectedState>Started</ExpectedState></Machine>
  <Container><ContainerId>c-1</ContainerId><RoleInstanceList><RoleInstance>
    <InstanceId>i&amp;1</InstanceId><State>Started</State>
  </RoleInstance></RoleInstanceList></Container>
</GoalState>`

func TestReportReady(t *testing.T) {
	var posted []string
	asked := 0
	c := client(t, Azure, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "168.63.129.16" || r.URL.Path != "/machine/" || r.Header.Get("x-ms-version") != "2012-11-30" || r.Header.Get("x-ms-agent-name") == "" {
			t.Errorf("%s %s %v", r.Host, r.URL, r.Header)
		}
		switch comp := r.URL.Query().Get("comp"); {
		case r.Method == http.MethodGet && comp == "goalstate":
			if asked++; asked == 1 {
				http.Error(w, "", http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, goal)
		case r.Method == http.MethodPost && comp == "health" && strings.HasPrefix(r.Header.Get("Content-Type"), "text/xml"):
			b, _ := io.ReadAll(r.Body)
			posted = append(posted, string(b))
		default:
			http.NotFound(w, r)
		}
	})
	if err := c.ReportReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `<?xml version="1.0" encoding="UTF-8"?>
<Health><GoalStateIncarnation>7</GoalStateIncarnation><Container><ContainerId>c-1</ContainerId><RoleInstanceList><Role><InstanceId>i&amp;1</InstanceId><Health><State>Ready</State></Health></Role></RoleInstanceList></Container></Health>`
	if len(posted) != 1 || posted[0] != want {
		t.Errorf("%q", posted)
	}
	if err := (Client{Cloud: AWS}).ReportReady(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzGoalState(f *testing.F) {
	f.Add([]byte(goal))
	f.Add([]byte("<GoalState><Incarnation>x</Incarnation></GoalState>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGoal(b)
		if err != nil {
			return
		}
		if again := g.health(); len(again) == 0 {
			t.Fatal("no report")
		}
	})
}

func TestDetect(t *testing.T) {
	for want, files := range map[Cloud]map[string]string{
		Azure: {"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": azureTag + "\n"},
		AWS:   {"sys_vendor": "Amazon EC2\n"},
		GCP:   {"sys_vendor": "Google\n", "product_name": "Google Compute Engine\n"},
		None:  {"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": "Hyper-V\n"},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/class/dmi/id")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := Detect(root); got != want {
			t.Errorf("%v: %q", files, got)
		}
	}
	for _, c := range []Cloud{Azure, AWS, GCP, None} {
		if got, err := Parse(string(c)); got != c || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := Parse("oracle"); err == nil {
		t.Error("a cloud that is none")
	}
}
