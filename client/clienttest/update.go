package clienttest

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answerUpdate answers about the image; false if a request is about something else. A file that begins with "old" is
// refused, one with "host" finds an appliance that does not run from the image, and of one with "cut" the second piece is
// lost on its way, once. It is called with the lock held.
func (a *Appliance) answerUpdate(r *http.Request) (status int, answer any, ok bool) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 400, object{"code": "E_UPDATE_FILE", "error": "cut"}, true
	}
	next := object{"version": "1.0.0", "next": "1.1.0"}
	none := object{"code": "E_UPDATE_NONE", "error": "this appliance does not run from the image", "hint": "update its package"}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v1/") {
	case "GET update":
		slots := []object{{"version": "1.1.0", "state": "trial", "tries": 2, "bytes": 25 << 20}, {"version": "1.0.0\x1b", "state": "good", "bytes": 24 << 20}}
		s := object{"version": "1.0.0", "flavour": "kvm", "next": "1.1.0", "floor": "1.0.0", "slots": slots}
		if a.upload.id != "" {
			s["upload"] = object{"id": a.upload.id, "received": len(a.upload.bytes)}
		}
		return 200, s, true
	case "POST update/upload":
		q := r.URL.Query()
		if a.upload.id != q.Get("id") {
			a.upload.id, a.upload.bytes = q.Get("id"), nil
		}
		offset := strconv.Itoa(len(a.upload.bytes))
		switch text := string(append(a.upload.bytes, b...)); {
		case strings.HasPrefix(text, "old"):
			return 400, object{"code": "E_UPDATE_REFUSED", "error": "not later than what runs: 0.9.0, and 1.0.0 runs", "hint": "take a later one"}, true
		case strings.HasPrefix(text, "host"):
			return 400, none, true
		case strings.HasPrefix(text, "cut") && offset != "0" && !a.upload.lost:
			a.upload.lost = true
			return 400, object{"code": "E_CONNECTION", "error": "lost"}, true
		case q.Get("offset") == offset:
			a.upload.bytes = append(a.upload.bytes, b...)
		}
		return 200, object{"id": a.upload.id, "received": len(a.upload.bytes), "version": "1.1.0", "flavour": "kvm"}, true
	case "POST update/install":
		a.upload.id, a.upload.bytes = "", nil
		return 200, next, true
	case "POST update/rollback":
		return 200, object{"version": "1.1.0", "next": "1.0.0"}, true
	case "POST update/restart":
		return 200, object{"sessions": 2, "grace_ns": 30e9}, true
	}
	return 0, nil, false
}

// An upload is a file on its way.
type upload struct {
	id    string
	bytes []byte
	lost  bool // a piece, as it was to be
}
