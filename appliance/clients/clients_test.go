package clients

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/frame"
)

const (
	linux   = "sallyport-1.2.3-rc.1-linux-amd64.tar.gz"
	windows = "sallyport-1.2.3-rc.1-windows-arm64.zip"
	debian  = "sallyport_1.2.3~rc.1_amd64.deb"
)

// A shelf is a folder, and what stands in its log.
type shelf struct {
	*Folder
	t   *testing.T
	dir string
	log bytes.Buffer
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, dir: filepath.Join(t.TempDir(), "clients")}
	var err error
	if s.Folder, err = Open(s.dir, slog.New(slog.NewTextHandler(&s.log, nil))); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shelf) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func line(name, content string) string {
	return fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), name)
}

// names are what is offered.
func (s *shelf) names() (names []string) {
	s.t.Helper()
	list, err := s.List()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range list {
		names = append(names, c.Name)
	}
	return names
}

func (s *shelf) offers(want ...string) {
	s.t.Helper()
	if got := s.names(); !slices.Equal(got, want) {
		s.t.Errorf("offered are %q, want %q\n%s", got, want, s.log.String())
	}
}

// TestOffers: of what somebody has copied into the folder that is offered which is a client's and what SHA256SUMS says.
func TestOffers(t *testing.T) {
	s := newShelf(t)
	s.offers()
	for name, content := range map[string]string{linux: "for linux", windows: "for windows", debian: "for debian", "sallyportd_1.2.3_amd64.deb": "the appliance", "secret.key": "x"} {
		s.write(name, content)
	}
	s.offers()
	s.write(SumsName, line(windows, "for windows")+line("sallyportd_1.2.3_amd64.deb", "the appliance")+line(linux, "for linux")+line("secret.key", "x")+line(debian, "for debian")+
		line("../"+linux, "for linux")+line("sallyport-1.2.3-darwin-arm64.tar.gz", "not copied"))
	s.offers(windows, linux, debian)
	list, err := s.List()
	if err != nil || list[1].System != "linux" || list[1].Version != "1.2.3-rc.1" || list[1].Arch != "amd64" || list[1].Size != 9 || list[2].System != "debian" || list[2].Version != "1.2.3~rc.1" {
		t.Errorf("%+v, %v", list, err)
	}
	file, is, err := s.File(linux)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); string(got) != "for linux" || err != nil || is.SHA256 != hex.EncodeToString(sum("for linux")) {
		t.Errorf("%q %+v, %v", got, is, err)
	}
	file.Close()
	for _, name := range []string{"secret.key", SumsName, "../" + linux, "sallyportd_1.2.3_amd64.deb", "sallyport-1.2.3-darwin-arm64.tar.gz", ""} {
		if _, _, err := s.File(name); err != ErrUnknown {
			t.Errorf("%q: %v", name, err)
		}
	}

	// What is not what it was is not offered, however alike it looks.
	s.write(linux, "for lunix")
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(filepath.Join(s.dir, linux), later, later); err != nil {
		t.Fatal(err)
	}
	s.offers(windows, debian)
	if !strings.Contains(s.log.String(), "SHA256SUMS has another") {
		t.Error(s.log.String())
	}
	s.write(linux, "for linux")
	s.offers(windows, linux, debian)
	if err := os.Rename(filepath.Join(s.dir, linux), filepath.Join(s.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", filepath.Join(s.dir, linux)); err != nil {
		t.Fatal(err)
	}
	s.offers(windows, debian)
	if _, _, err := s.File(linux); err != ErrUnknown {
		t.Errorf("a link: %v", err)
	}
	s.write(SumsName, "hello\n")
	if _, err := s.List(); codeOf(err) != "E_CLIENT_FILES" {
		t.Errorf("%v", err)
	}
}

func sum(content string) []byte { s := sha256.Sum256([]byte(content)); return s[:] }

func codeOf(err error) frame.Code {
	r, ok := frame.ReasonOf(err)
	if !ok {
		return ""
	}
	return r.Code
}

// brings puts a file in pieces of some length.
func (s *shelf) brings(name, content string, length int) error {
	for at := 0; at < len(content); {
		piece := content[at:min(len(content), at+length)]
		got, _, err := s.Put(name, hex.EncodeToString(sum(content)), int64(at), int64(len(content)), strings.NewReader(piece))
		if err != nil {
			return err
		}
		if at += len(piece); got != int64(at) {
			return fmt.Errorf("%d bytes are there, and not %d", got, at)
		}
	}
	return nil
}

// TestPut: a release is brought in pieces and offered once it is whole, in place of the one before.
func TestPut(t *testing.T) {
	s := newShelf(t)
	big := rand.Text() + strings.Repeat("0123456789", 1000)
	for _, c := range []struct{ name, content string }{{linux, big}, {windows, "for windows"}} {
		if err := s.brings(c.name, c.content, 999); err != nil {
			t.Fatal(err)
		}
	}
	s.offers()
	if err := s.brings(SumsName, line(linux, big)+line(windows, "for windows")+line(debian, "missing"), 999); codeOf(err) != "E_USAGE" || !strings.Contains(err.Error(), debian) {
		t.Errorf("what is missing: %v", err)
	}
	if err := s.brings(SumsName, line("sallyportd_1.2.3_amd64.deb", "x"), 999); codeOf(err) != "E_USAGE" {
		t.Errorf("no client: %v", err)
	}
	s.offers()
	if err := s.brings(SumsName, line(linux, big)+line(windows, "for windows"), 50); err != nil {
		t.Fatal(err)
	}
	s.offers(linux, windows)

	hash := hex.EncodeToString(sum(big))
	for what, c := range map[string]struct {
		name, hash   string
		offset, size int64
		code         frame.Code
	}{
		"another name":    {"sallyportd_1.2.3_amd64.deb", hash, 0, 9, "E_USAGE"},
		"a path":          {"../" + linux, hash, 0, 9, "E_USAGE"},
		"no hash":         {linux, "12", 0, 9, "E_USAGE"},
		"capital letters": {linux, strings.ToUpper(hash), 0, 9, "E_USAGE"},
		"nothing":         {linux, hash, 0, 0, "E_USAGE"},
		"too much":        {linux, hash, 0, maxFile + 1, "E_USAGE"},
		"many sums":       {SumsName, hash, 0, maxSums + 1, "E_USAGE"},
		"another content": {linux, hash, 0, 9, "E_USAGE"},
		"a later piece":   {linux, hash, 3, 9, ""},
	} {
		if got, list, err := s.Put(c.name, c.hash, c.offset, c.size, strings.NewReader("012345678")); codeOf(err) != c.code || list != nil || c.code == "" && got != 0 {
			t.Errorf("%s: %d, %v, %v", what, got, list, err)
		}
	}
	s.offers(linux, windows)

	// The first piece begins anew, one that does not fit changes nothing, and what is whole is on its way no more.
	for _, c := range []struct {
		at    int64
		piece string
		there int64
	}{{0, "for d", 5}, {0, "for d", 5}, {3, " de", 5}, {8, "an", 5}, {5, "ebian", 10}, {5, "ebian", 0}} {
		if got, _, err := s.Put(debian, hex.EncodeToString(sum("for debian")), c.at, 10, strings.NewReader(c.piece)); err != nil || got != c.there {
			t.Errorf("%q at %d: %d, %v, want %d", c.piece, c.at, got, err, c.there)
		}
	}
	if err := s.brings(debian, "for debian", 4); err != nil {
		t.Fatal(err)
	}
	if err := s.brings(SumsName, line(debian, "for debian"), 50); err != nil {
		t.Fatal(err)
	}
	s.offers(debian)
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("in the folder are %v, %v", entries, err)
	}
}

// FuzzReadSums: what is read of SHA256SUMS is names of clients with hashes, and reads the same when it is written.
func FuzzReadSums(f *testing.F) {
	f.Add([]byte(line(linux, "a") + line(debian, "b") + line("README.md", "c")))
	f.Add([]byte(strings.ReplaceAll(line(windows, "a"), "  ", " *")))
	f.Add([]byte(line(linux, "a") + line(linux, "a")))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ReadSums(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, c := range list {
			if _, ok := Named(c.Name); !ok || filepath.Base(c.Name) != c.Name || len(c.SHA256) != 64 {
				t.Errorf("%+v", c)
			}
			fmt.Fprintf(&again, "%s  %s\n", c.SHA256, c.Name)
		}
		if same, err := ReadSums([]byte(again.String())); err != nil || !slices.Equal(same, list) {
			t.Errorf("%+v is read again as %+v, %v", list, same, err)
		}
	})
}
