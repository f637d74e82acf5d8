// Package web is the portal's application, as browsers load it: what Vite builds of src stands in dist, and is committed.
//
//	mux.Handle("GET /assets/", web.Assets())
//	w.Write(web.Page()) // for each path that the application knows
//
// make web builds it. tests/portal has the proof that dist is what its sources build.
package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed all:dist
var dist embed.FS

//go:embed dist/licenses.txt
var licenses []byte

//go:embed dist/packages.json
var packages []byte

// packed is the ending of a file that brotli has made smaller. All browsers that can run the application take it.
const packed = ".br"

// Page is the document that every page of the application begins with.
func Page() []byte { return file("index.html") }

// Licenses are the licences of the npm packages of which something is in the application, as text.
func Licenses() []byte { return licenses }

// A Package is an npm package of which something is in the application.
type Package struct {
	Name, Version string
	Integrity     string // of its archive: sha512- and base64
	License       string // an SPDX expression
}

// Packages are all of them.
func Packages() []Package {
	var list []Package
	if err := json.Unmarshal(packages, &list); err != nil {
		panic(err) // it is embedded: the tests see
	}
	return list
}

// file is one that has been embedded: that it is there, the tests see.
func file(name string) []byte {
	data, err := fs.ReadFile(dist, "dist/"+name)
	if err != nil {
		panic(err)
	}
	return data
}

// types are not left to what a machine's own tables say.
var types = map[string]string{
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".wasm": "application/wasm",
}

// Assets answers for what the document asks for. Names are hashes of what is in the files, so browsers keep them for good.
func Assets() http.Handler {
	names := map[string]bool{}
	entries, err := fs.ReadDir(dist, "dist/assets")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		if strings.HasSuffix(name, packed) || r.URL.Path != "/assets/"+name || !names[name] && !names[name+packed] {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		kind, known := types[path.Ext(name)]
		if !known {
			kind = mime.TypeByExtension(path.Ext(name))
		}
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("Vary", "Accept-Encoding")
		if names[name+packed] && (takes(r, "br") || !names[name]) { // what is there packed only is for browsers alone
			h.Set("Content-Encoding", "br")
			name += packed
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file("assets/"+name)))
	})
}

// takes says whether a browser takes an encoding.
func takes(r *http.Request, encoding string) bool {
	for word := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(word), ";")
		if strings.EqualFold(strings.TrimSpace(name), encoding) {
			return strings.ReplaceAll(weight, " ", "") != "q=0"
		}
	}
	return false
}
