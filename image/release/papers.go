package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// papers are what goes with programs and is the same on all platforms.
type papers struct {
	license     []byte
	readme      []byte  // what of it is for people who have a release
	docs        []entry // documented, each where it is in the source
	unit        []byte  // the daemon's, as docs/ has it
	completions map[string][]byte
	pages       map[string][]entry // of the manual, by program
}

// documented are the pages, and what they point to.
var documented = []string{"appliance/openapi.json", "docs/*.md", "docs/sallyportd.service", "frame/PROTOCOL.md"}

// shells are those that the client has completions for, and the files that they look for.
var shells = []struct{ name, file string }{
	{"bash", "sallyport.bash"},
	{"zsh", "_sallyport"},
	{"fish", "sallyport.fish"},
	{"powershell", "sallyport.ps1"},
}

// readPapers reads what the source has, and asks the programs for the rest.
func (r *release) readPapers(ctx context.Context) (*papers, error) {
	p := &papers{completions: map[string][]byte{}, pages: map[string][]entry{}}
	var err error
	if p.license, err = os.ReadFile(filepath.Join(r.Source, "LICENSE")); err != nil {
		return nil, err
	}
	readme, err := os.ReadFile(filepath.Join(r.Source, "README.md"))
	if err != nil {
		return nil, err
	}
	if p.readme, err = excerpt(string(readme), "Connect"); err != nil {
		return nil, err
	}
	if p.unit, err = os.ReadFile(filepath.Join(r.Source, "docs", "sallyportd.service")); err != nil {
		return nil, err
	}
	for _, pattern := range documented {
		found, err := readFolder(filepath.Join(r.Source, filepath.Dir(pattern)), filepath.Base(pattern), filepath.Dir(pattern)+"/")
		if err != nil {
			return nil, err
		}
		p.docs = append(p.docs, found...)
	}

	here := platform{runtime.GOOS, runtime.GOARCH}
	for _, name := range []string{"sallyport", "sallyportd"} {
		r.Step("manual of " + name)
		b, err := r.program(ctx, program{name, here})
		if err != nil {
			return nil, err
		}
		folder, err := os.MkdirTemp(r.work, "manual-")
		if err != nil {
			return nil, err
		}
		if _, err := r.ask(ctx, b.file, "__manual", folder); err != nil {
			return nil, err
		}
		if p.pages[name], err = readFolder(folder, "*", ""); err != nil {
			return nil, err
		}
		if name != "sallyport" {
			continue
		}
		for _, shell := range shells {
			if p.completions[shell.name], err = r.ask(ctx, b.file, "completion", shell.name); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// ask runs a program and returns what it says.
func (r *release) ask(ctx context.Context, program string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.Epoch.Unix(), 10))
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s %s: %w", filepath.Base(program), strings.Join(args, " "), err)
	}
	return out, nil
}

// readFolder is the files of a folder whose names have a pattern, in order.
func readFolder(folder, pattern, prefix string) ([]entry, error) {
	names, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no %s in %s", pattern, folder)
	}
	slices.Sort(names)
	var entries []entry
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, file(prefix+filepath.Base(name), data))
	}
	return entries, nil
}

// excerpt is a text's beginning, up to its first section, and the sections that are named.
func excerpt(text string, sections ...string) ([]byte, error) {
	parts := strings.Split(text, "\n## ")
	kept := parts[0]
	for _, section := range sections {
		i := slices.IndexFunc(parts[1:], func(p string) bool { return strings.HasPrefix(p, section+"\n") })
		if i < 0 {
			return nil, fmt.Errorf("README.md has no section %q", section)
		}
		kept += "\n## " + parts[1+i]
	}
	return []byte(strings.TrimRight(kept, "\n") + "\n"), nil
}
