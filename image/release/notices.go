package release

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sallyport/image/gobuild"
)

// isNotice says of a file's name whether it has a licence or what one asks to be passed on.
var isNotice = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// notices are the licences of all that a program is linked from, as most of them ask for: of Go itself, and of each module
// those in its root and in the folders down to the packages that are used. A module without one stops the release.
func (c Config) notices(ctx context.Context, p program) ([]byte, error) {
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-tags", gobuild.Tags, "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", "./cmd/"+p.name)
	env, err := gobuild.Environment(ctx, p.os, p.arch)
	if err != nil {
		return nil, err
	}
	list.Dir, list.Env = c.Source, env
	var said bytes.Buffer
	list.Stderr = &said
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s consists of: %w: %s", p.name, err, strings.TrimSpace(said.String()))
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("ask for Go's folder: %w", err)
	}
	goroot := strings.TrimSpace(string(root))

	files := map[string][]string{"Go": noticesIn(goroot)} // by module
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 4 {
			continue
		}
		module, folder, dir := fields[0]+" "+fields[1], fields[2], fields[3]
		for strings.HasPrefix(dir, folder) {
			files[module] = append(files[module], noticesIn(dir)...)
			dir = filepath.Dir(dir)
		}
		if len(files[module]) == 0 {
			return nil, fmt.Errorf("%s has no licence", module)
		}
	}
	if len(files["Go"]) == 0 {
		return nil, fmt.Errorf("there is no licence of Go in %s", goroot)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s consists of what follows, besides its own source.\n", p.name)
	for _, module := range slices.Sorted(maps.Keys(files)) {
		for _, name := range slices.Compact(slices.Sorted(slices.Values(files[module]))) {
			notice, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&text, "\n%s\n%s, %s\n\n%s\n", strings.Repeat("=", 80), module, filepath.Base(name), bytes.TrimSpace(notice))
		}
	}
	return bytes.ReplaceAll(text.Bytes(), []byte("\r\n"), []byte("\n")), nil
}

// noticesIn are the files of a folder that isNotice names.
func noticesIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && isNotice.MatchString(e.Name()) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names
}
