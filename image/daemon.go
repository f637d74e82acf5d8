package image

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/image/gobuild"
)

// compile builds the daemon of the source in the folder source, into the file out. keep has the linker keep the symbols.
func compile(ctx context.Context, o Options, out string, keep bool) error {
	c := gobuild.Config{Source: o.Source, Package: "sallyport/cmd/sallyportd", OS: "linux", Arch: "amd64", Symbols: keep, Out: out,
		Variables: []string{"main.version=" + o.Version}}
	if o.Updates != "" {
		c.Variables = append(c.Variables, "main.updateKeys="+o.Updates)
	}
	err := gobuild.Compile(ctx, c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("go is not installed; install it, or name a built sallyportd with --daemon")
	}
	if err != nil {
		return fmt.Errorf("%w; name Sallyport's source with --source, or a built sallyportd with --daemon", err)
	}
	return nil
}

// daemon takes or builds the daemon, and says what it consists of.
func daemon(ctx context.Context, o Options) ([]byte, Daemon, error) {
	var d Daemon
	name := o.Daemon
	symbols := name
	if name == "" {
		d.Built = true
		dir, err := os.MkdirTemp("", "sallyport-image-")
		if err != nil {
			return nil, d, err
		}
		defer os.RemoveAll(dir)
		name, symbols = filepath.Join(dir, "sallyportd"), filepath.Join(dir, "symbols")
		o.Step("building sallyportd " + o.Version)
		if err := compile(ctx, o, name, false); err != nil {
			return nil, d, err
		}
		if err := compile(ctx, o, symbols, true); err != nil {
			return nil, d, err
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, d, err
	}
	if err := static(b); err != nil {
		return nil, d, fmt.Errorf("%s: %w", name, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return nil, d, fmt.Errorf("%s: %w", name, err)
	}
	d.SHA256, d.Size, d.Go = sum(b), int64(len(b)), info.GoVersion
	if d.Packages, err = shares(symbols, d.Size); err != nil {
		return nil, d, fmt.Errorf("%s: %w", name, err)
	}
	return b, d, nil
}

// static says why b cannot be the only program of a machine, if it cannot.
func static(b []byte) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("not a program for Linux: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("a program for %v, not for amd64", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is not static; build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// A Share is how many bytes of the daemon come from a package, by its symbols: code and data. "go" is what the toolchain
// makes for all of them, such as types and strings, "tables" what the linker adds without a symbol: where each function
// begins and how its stack looks, and the program's headers.
type Share struct {
	Package string `json:"package"`
	Bytes   int64  `json:"bytes"`
}

// top is how many packages are named one by one.
const top = 40

// shares adds up a program's symbols by package, largest first, and what is beyond top under "rest". The program that is
// shipped has size bytes; it has no symbols. It returns nothing for a program without symbols.
func shares(name string, size int64) ([]Share, error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if errors.Is(err, elf.ErrNoSymbols) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bytes := map[string]int64{}
	for _, s := range symbols {
		if int(s.Section) >= len(f.Sections) || f.Sections[s.Section].Type == elf.SHT_NOBITS {
			continue // zeros take no room in the file
		}
		bytes[packageOf(s.Name)] += int64(s.Size)
	}
	total := int64(0)
	for _, n := range bytes {
		total += n
	}
	bytes["tables"] = max(0, size-total)
	var all []Share
	for _, name := range slices.Collect(maps.Keys(bytes)) {
		all = append(all, Share{name, bytes[name]})
	}
	slices.SortFunc(all, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Package, b.Package)) })
	if len(all) > top {
		rest := Share{Package: "rest"}
		for _, s := range all[top:] {
			rest.Bytes += s.Bytes
		}
		all = append(all[:top], rest)
	}
	return all, nil
}

// packageOf returns the package in a symbol's name: what is before the first dot behind the last slash, where neither
// brackets of type arguments nor what is in them count. What the toolchain makes itself is "go".
func packageOf(symbol string) string {
	if kind, _, ok := strings.Cut(symbol, ":"); ok && !strings.ContainsAny(kind, "./[(") {
		return "go" // type:…, go:string.*, runtime tables
	}
	path, _, _ := strings.Cut(symbol, "[")
	slash := strings.LastIndex(path, "/") + 1
	dot := strings.Index(path[slash:], ".")
	if dot < 0 {
		return "go"
	}
	return strings.ReplaceAll(path[:slash+dot], "%2e", ".")
}
