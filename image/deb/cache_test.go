package deb

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func pinned(content string) Package {
	sum := sha256.Sum256([]byte(content))
	return Package{
		Name: "hello", Version: "1:2.0-1", Arch: "amd64", Archive: "debian", Path: "pool/h",
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content)),
	}
}

// mirror answers for the pinned package's path, and counts.
func mirror(t *testing.T, content string, asked *int) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		if r.URL.Path != "/debian/pool/h/hello_2.0-1_amd64.deb" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, content)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/{archive}"
}

func TestCache(t *testing.T) {
	asked, done := 0, int64(0)
	p := pinned("a package")
	c := Cache{
		Dir: filepath.Join(t.TempDir(), "new", "folder"), Mirrors: []string{mirror(t, "a package", &asked)},
		Progress: func(_ Package, n int64) { done = n },
	}
	for range 2 {
		name, err := c.Get(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); string(b) != "a package" || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if asked != 1 || done != p.Size {
		t.Errorf("asked %d times, %d bytes", asked, done)
	}
	if files, _ := os.ReadDir(c.Dir); len(files) != 1 {
		t.Errorf("the cache has %v", files)
	}
}

// TestCacheRefuses has mirrors with everything but the package, and then one that has it.
func TestCacheRefuses(t *testing.T) {
	asked := 0
	p := pinned("a package")
	bad := []string{
		mirror(t, "another  ", &asked), mirror(t, "a package, and more of it", &asked), mirror(t, "a pack", &asked),
		"http://127.0.0.1:1/{archive}", "://",
	}
	c := Cache{Dir: t.TempDir(), Mirrors: bad}
	_, err := c.Get(t.Context(), p)
	var missing *MissingError
	if !errors.As(err, &missing) || !errors.Is(err, ErrHash) || missing.Package != p {
		t.Fatalf("got %v", err)
	}
	if files, _ := os.ReadDir(c.Dir); len(files) != 0 {
		t.Errorf("the cache has %v", files)
	}
	c.Mirrors = append(bad, mirror(t, "a package", &asked))
	if _, err := c.Get(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func TestCacheOffline(t *testing.T) {
	p := pinned("a package")
	c := Cache{Dir: t.TempDir(), Mirrors: []string{"http://127.0.0.1:1"}}
	_, err := c.Get(t.Context(), p)
	var missing *MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), p.File()) || !strings.Contains(err.Error(), c.Dir) {
		t.Errorf("got %v", err)
	}
	name := filepath.Join(c.Dir, p.File())
	if err := os.WriteFile(name, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), p); !errors.Is(err, ErrHash) || errors.As(err, &missing) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(name, []byte("a package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), p); got != name || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}
