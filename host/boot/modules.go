package boot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// Limits of a module index.
const (
	maxModules     = 4096
	maxModuleLine  = 256 << 10
	maxModuleDeps  = 64
	maxModuleAlias = 4096
)

// moduleName is what a module may be called, since it becomes part of a path.
var moduleName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// An index says which modules there are, what each needs before it, and what it is the driver of.
//
//	virtio_net<TAB>virtio,virtio_ring,failover,net_failover<TAB>virtio:d00000001v* …
type index struct {
	needs map[string][]string
	buses map[string][]alias // by what stands before the first colon of the alias; "" where that has a pattern in it
}

type alias struct{ pattern, module string }

// parseIndex reads an index, one module a line.
func parseIndex(r io.Reader) (*index, error) {
	x := &index{needs: map[string][]string{}, buses: map[string][]alias{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxModuleLine)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 || len(x.needs) == maxModules {
			return nil, fmt.Errorf("line %d of the index of modules makes no sense", len(x.needs)+1)
		}
		name := fields[0]
		needs := strings.FieldsFunc(fields[1], func(r rune) bool { return r == ',' })
		aliases := strings.Fields(fields[2])
		if len(needs) > maxModuleDeps || len(aliases) > maxModuleAlias {
			return nil, fmt.Errorf("module %.64q: too many modules that it needs, or aliases", name)
		}
		for _, n := range append([]string{name}, needs...) {
			if !moduleName.MatchString(n) {
				return nil, fmt.Errorf("%.64q is no module's name", n)
			}
		}
		x.needs[name] = needs
		for _, pattern := range aliases {
			bus, _, _ := strings.Cut(pattern, ":")
			if strings.ContainsAny(bus, `*?[\`) {
				bus = ""
			}
			x.buses[bus] = append(x.buses[bus], alias{pattern, name})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the index of modules: %w", err)
	}
	return x, nil
}

// drivers are the modules for a device, by what it says of itself (its modalias).
func (x *index) drivers(device string) (names []string) {
	bus, _, _ := strings.Cut(device, ":")
	for _, list := range [][]alias{x.buses[bus], x.buses[""]} {
		for _, a := range list {
			if match(a.pattern, device) {
				names = append(names, a.module)
			}
		}
	}
	return names
}

// match is path.Match where a slash is a character like others.
func match(pattern, name string) bool {
	const slash = "\x00"
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", slash), strings.ReplaceAll(name, "/", slash))
	return ok && err == nil
}

// A loader loads modules, each once, what it needs first.
type loader struct {
	*index
	insert func(name string) error
	done   map[string]bool
}

// load loads a module and what it needs. The first error is told, and the module is not tried again.
func (l *loader) load(name string) error {
	if l.done[name] {
		return nil
	}
	needs, known := l.needs[name]
	if !known {
		return fmt.Errorf("module %s is not in the image", name)
	}
	l.done[name] = true
	var errs []error
	for _, n := range needs {
		errs = append(errs, l.load(n))
	}
	if err := l.insert(name); err != nil {
		errs = append(errs, fmt.Errorf("module %s: %w", name, err))
	}
	return errors.Join(errs...)
}
