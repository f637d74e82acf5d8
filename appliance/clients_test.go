package appliance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/clients"
	"sallyport/frame"
)

// fetched is what somebody gets of a path of the API.
func (s *site) fetched(path string, header ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	req := httptest.NewRequestWithContext(s.t.Context(), "GET", "/api/v1/"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.API(s.peer).ServeHTTP(w, req)
	return w
}

// puts brings a file as a whole.
func (s *site) puts(name, content string) string {
	s.t.Helper()
	sum := sha256.Sum256([]byte(content))
	q := url.Values{"name": {name}, "sha256": {hex.EncodeToString(sum[:])}, "offset": {"0"}, "size": {strconv.Itoa(len(content))}}
	req := httptest.NewRequestWithContext(s.t.Context(), "POST", "/api/v1/clients/upload?"+q.Encode(), strings.NewReader(content))
	w := httptest.NewRecorder()
	s.API(s.peer).ServeHTTP(w, req)
	if want := fmt.Sprintf(`{"received":%d}`, len(content)); w.Code == 200 && strings.TrimSpace(w.Body.String()) != want {
		s.t.Errorf("%s: %s", name, w.Body)
	}
	return fmt.Sprint(w.Code)
}

// TestClients: an administrator brings a release, which is written; people get its files whole or in part, and guests none.
func TestClients(t *testing.T) {
	s := sharing(t)
	folder, err := clients.Open(t.TempDir(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.Clients = folder
	const name = "sallyport-1.2.3-linux-amd64.tar.gz"
	content := strings.Repeat("the client ", 1000)
	sums := fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), name)
	if got := s.puts(name, content); got != "403" {
		t.Errorf("ann brings one: %s", got)
	}
	s.by(frame.Peer{User: "root", Device: auth.DeviceID(s.enrolled("root"))}, func() {
		for _, f := range [][2]string{{name, content}, {clients.SumsName, sums}} {
			if got := s.puts(f[0], f[1]); got != "200" {
				t.Errorf("root brings %s: %s", f[0], got)
			}
		}
	})
	if e := s.written(audit.ClientsChanged); e.User != "root" || e.Object != "1.2.3" || e.Detail["files"] != "1" || len(e.Detail["sha256"]) != 64 {
		t.Errorf("%+v", e)
	}
	var list []api.ClientFile
	if no := s.ask("GET", "clients", nil, &list); no.Code != "" || len(list) != 1 || list[0].Size != int64(len(content)) {
		t.Fatalf("%+v, %+v", list, no)
	}
	w := s.fetched("clients/" + name)
	if h := w.Header(); w.Code != 200 || w.Body.String() != content || h.Get("Content-Disposition") != `attachment; filename="`+name+`"` || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Content-Type") != "application/octet-stream" || h.Get("ETag") != `"`+list[0].SHA256+`"` {
		t.Errorf("%d %v", w.Code, h)
	}
	if w := s.fetched("clients/"+name, "Range", "bytes=4-9", "If-Range", w.Header().Get("ETag")); w.Code != 206 || w.Body.String() != "client" {
		t.Errorf("a part: %d %q", w.Code, w.Body)
	}
	if w := s.fetched("clients/"+name, "Range", "bytes=4-9", "If-Range", `"another"`); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), []byte(content)) {
		t.Errorf("a part of another: %d", w.Code)
	}
	for _, path := range []string{"clients/" + clients.SumsName, "clients/upload.part"} {
		if w := s.fetched(path); w.Code != 404 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for range maxDownloadsOf {
		left, err := s.downloads.begin("ann")
		if err != nil {
			t.Fatal(err)
		}
		defer left()
	}
	if w := s.fetched("clients/" + name); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "E_BUSY") {
		t.Errorf("one too many: %d %s", w.Code, w.Body)
	}
	_, secret := s.shares(api.AskGuest{Target: "db-1"})
	guest, err := s.opens(secret)
	if err != nil {
		t.Fatal(err)
	}
	s.by(guest, func() {
		if w := s.fetched("clients/" + name); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "E_DENIED") {
			t.Errorf("a guest: %d %s", w.Code, w.Body)
		}
	})
}
