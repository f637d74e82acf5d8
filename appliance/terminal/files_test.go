package terminal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/files"
)

// The messages of package files that this test has.
const filesRequest, filesReady = 16, 20

// TestFiles: files come over a terminal's connection, which goes on when they are done, or over one of their own.
func TestFiles(t *testing.T) {
	s := newSite(t)
	carrier := new(files.Program)
	s.Programs = map[string]appliance.Program{Name: Program{Files: carrier.Join}, files.Name: carrier}
	shell := s.open(nil, certificate())
	shell.until("open")
	made := filepath.Join(s.dir, "made")
	for name, open := range map[string]func() *page{
		"joined": func() *page { return s.openAs(files.Name, shell.opened.Session, struct{}{}) },
		"own":    func() *page { return s.openAs(files.Name, nil, certificate()) },
		"own, to": func() *page {
			return s.openAs(files.Name, s.openAs(files.Name, nil, certificate()).ready().opened.Session, struct{}{})
		},
	} {
		p := open().ready()
		p.sendJSON(filesRequest, map[string]any{"id": 1, "op": "mkdir", "path": []byte(made)})
		if kind, body, err := p.next(); err != nil || kind != filesRequest || string(body) != `{"id":1}` {
			t.Fatalf("%s: %d %s %v", name, kind, body, err)
		}
		if err := os.Remove(made); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.flow.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if why, ok := p.ends(); !ok {
			t.Errorf("%s: ended by %v", name, why)
		}
	}
	if all := s.book.of(audit.FolderMade); len(all) != 3 || all[0].Object != made || all[0].User != "ann" || all[0].Target != "db-1" || all[0].Flow == "" {
		t.Errorf("recorded %v", all)
	}
	shell.send(kindKeys, "echo still $((40+2))\n")
	shell.shows("still 42")
	p := s.openAs(files.Name, shell.opened.Session, struct{}{})
	p.ready()
	shell.send(kindKeys, "exit\n")
	if why, ok := p.ends(); ok || why.Sentence == "" {
		t.Errorf("the session's end is not told: %v", why)
	}
}

// ready reads until the files are there to be asked for.
func (p *page) ready() *page {
	p.t.Helper()
	for {
		kind, body, err := p.next()
		if err != nil {
			p.t.Fatalf("%v while waiting for files", err)
		}
		var said struct{ Upload, Download bool }
		if kind == filesReady {
			if err := json.Unmarshal(body, &said); err != nil || !said.Upload || !said.Download {
				p.t.Fatalf("ready says %s", body)
			}
			return p
		}
	}
}
