package appliance

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/frame"
)

// fakeImage is an image whose updates of the id 00… are good.
type fakeImage struct {
	got      strings.Builder
	restarts int
}

func (f *fakeImage) Status(context.Context) (api.Update, error) {
	return api.Update{Version: "1.0.0", Next: "1.0.0"}, nil
}

func (f *fakeImage) Upload(_ context.Context, id string, offset, size int64, piece io.Reader) (api.UpdateUpload, error) {
	n, err := io.Copy(&f.got, piece)
	if err != nil {
		err = frame.Refuse("E_UPDATE_FILE", "cut", "")
	}
	return api.UpdateUpload{ID: id, Received: offset + n}, err
}

func (f *fakeImage) Install(_ context.Context, id string) (string, error) {
	if strings.HasPrefix(id, "00") {
		return "1.1.0", nil
	}
	return "0.9.0", frame.Refuse("E_UPDATE_REFUSED", "not later than what runs", "")
}

func (f *fakeImage) Rollback(context.Context) (string, error) { return "0.9.0", nil }

func (f *fakeImage) Restart(context.Context) (time.Duration, error) {
	f.restarts++
	return time.Minute, nil
}

// TestUpdates: what the API does with updates, and what of that is in the audit log.
func TestUpdates(t *testing.T) {
	s := newSite(t)
	id := strings.Repeat("00", 32)
	ask := func(method, path, body string, answer any) (code string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.API(s.peer).ServeHTTP(w, httptest.NewRequest(method, "/api/v1/"+path, strings.NewReader(body)))
		if w.Code != 200 {
			var no api.Failure
			json.Unmarshal(w.Body.Bytes(), &no)
			return no.Code
		}
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
			t.Error(err)
		}
		return ""
	}
	var v map[string]any
	for path, method := range map[string]string{"update": "GET", "update/upload?id=" + id + "&offset=0&size=5": "POST", "update/rollback": "POST", "update/restart": "POST"} {
		if code := ask(method, path, "", &v); code != "E_UPDATE_NONE" {
			t.Errorf("%s without an image: %q", path, code)
		}
	}
	f := &fakeImage{}
	s.Updates = f
	var up api.UpdateUpload
	if code := ask("POST", "update/upload?id="+id+"&offset=0&size=5", "image", &up); code != "" || up.Received != 5 || f.got.String() != "image" {
		t.Errorf("%q, %+v", code, up)
	}
	for _, bad := range []string{"id=../x&offset=0&size=5", "id=" + id + "&offset=-1&size=5", "id=" + id + "&offset=0", "id=" + id + "&offset=0&size=0"} {
		if code := ask("POST", "update/upload?"+bad, "image", &up); code != "E_USAGE" {
			t.Errorf("%s: %q", bad, code)
		}
	}
	if code := ask("POST", "update/upload?id="+id+"&offset=0&size=5", strings.Repeat("x", api.MaxPiece+1), &up); code != "E_UPDATE_FILE" {
		t.Errorf("a piece that is too long: %q", code)
	}
	var next api.UpdateNext
	if code := ask("POST", "update/install", `{"id":"`+id+`"}`, &next); code != "" || next != (api.UpdateNext{Version: "1.0.0", Next: "1.1.0"}) {
		t.Errorf("%q, %+v", code, next)
	}
	if code := ask("POST", "update/install", `{"id":"`+strings.Repeat("11", 32)+`"}`, &next); code != "E_UPDATE_REFUSED" {
		t.Errorf("one that is refused: %q", code)
	}
	if code := ask("POST", "update/install", `{"id":"../x"}`, &next); code != "E_USAGE" {
		t.Errorf("no id: %q", code)
	}
	if code := ask("POST", "update/rollback", "", &next); code != "" || next.Next != "0.9.0" {
		t.Errorf("%q, %+v", code, next)
	}
	var r api.UpdateRestart
	if code := ask("POST", "update/restart", "", &r); code != "" || r.Grace != time.Minute || f.restarts != 1 {
		t.Errorf("%q, %+v", code, r)
	}
	var written []string
	for _, e := range s.book.all() {
		if strings.HasPrefix(e.Kind, "update.") {
			written = append(written, strings.Join([]string{e.Kind, e.User, e.Object, e.Code, e.Detail["from"]}, " "))
		}
	}
	want := []string{audit.UpdateInstalled + " ann 1.1.0  1.0.0", audit.UpdateInstalled + " ann 0.9.0 E_UPDATE_REFUSED 1.0.0", audit.UpdateRolledBack + " ann 0.9.0  1.0.0", audit.UpdateRestart + " ann   "}
	if strings.Join(written, "\n") != strings.Join(want, "\n") {
		t.Errorf("written %q\nwant %q", written, want)
	}
}
