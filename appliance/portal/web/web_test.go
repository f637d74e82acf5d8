package web

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// firstPage is what a browser may have to load, as gzip would send it, before it shows the first page.
const firstPage = 60_000

// TestFirstPage: what the document itself asks for is small, and all of it is there.
func TestFirstPage(t *testing.T) {
	total := 0
	add := func(data []byte) {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
		total += b.Len()
	}
	add(Page())
	asked := regexp.MustCompile(`(?:src|href)="/(assets/[^"]+)"`).FindAllSubmatch(Page(), -1)
	if len(asked) < 3 {
		t.Fatalf("the document asks for %d files:\n%s", len(asked), Page())
	}
	for _, a := range asked {
		add(file(string(a[1])))
	}
	t.Logf("%d bytes in %d files", total, len(asked)+1)
	if total > firstPage {
		t.Errorf("the first page has %d bytes, more than %d", total, firstPage)
	}
}

// TestDocument: nothing in it runs or looks by itself, which the policy of the pages would not let.
func TestDocument(t *testing.T) {
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script[^>]*>[^<]|javascript:|https?://`).Find(Page()); inline != nil {
		t.Errorf("the document has %q", inline)
	}
	err := fs.WalkDir(dist, "dist", func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".map") {
			t.Errorf("%s is a source map", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLicenses: each package that something in the bundle is of has its licence in the text, and a hash.
func TestLicenses(t *testing.T) {
	var names []string
	for _, p := range Packages() {
		names = append(names, p.Name)
		if !strings.HasPrefix(p.Integrity, "sha512-") || p.License == "" || !bytes.Contains(Licenses(), []byte("\n"+p.Name+" "+p.Version+", ")) {
			t.Errorf("%+v", p)
		}
	}
	for _, name := range []string{"svelte", "@xterm/xterm", "@devolutions/iron-remote-desktop-rdp", "hash-wasm"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %q", name, names)
		}
	}
}

func TestAssets(t *testing.T) {
	h := Assets()
	script := string(regexp.MustCompile(`src="(/assets/[^"]+\.js)"`).FindSubmatch(Page())[1])
	ask := func(path, takes string) *http.Response {
		t.Helper()
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept-Encoding", takes)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for takes, encoding := range map[string]string{"gzip, deflate, br, zstd": "br", "BR;q=0.5": "br", "gzip": "", "": "", "br;q=0, gzip": "", "br; q=0": ""} {
		resp := ask(script, takes)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != encoding || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" ||
			resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %s %v", takes, resp.Status, resp.Header)
		}
	}
	// The client of desktops is kept packed alone: every browser that runs it takes that.
	clients, err := fs.Glob(dist, "dist/assets/*.wasm.br")
	if err != nil || len(clients) != 1 {
		t.Fatal(clients, err)
	}
	client := strings.TrimSuffix(strings.TrimPrefix(clients[0], "dist"), packed)
	for _, takes := range []string{"gzip, br", "gzip"} { // what is said of encodings may be a proxy's
		if resp := ask(client, takes); resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "br" || resp.Header.Get("Content-Type") != "application/wasm" ||
			resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s, %q: %s %v", client, takes, resp.Status, resp.Header)
		}
	}
	for _, path := range []string{"/assets/", "/assets/index.html", "/assets/../index.html", "/assets/x/../../web.go", script + ".br", "/assets/nothing.js", "/assets/x" + script} {
		if resp := ask(path, "br"); resp.StatusCode != 404 || strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}
