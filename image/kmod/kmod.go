// Package kmod reads what Linux modules say about themselves, takes those that are wanted with all that they need, and
// writes the index by which the appliance loads them. A kernel package of Debian has no such index: depmod makes it where
// the package is installed.
//
//	m, err := kmod.Read(file)
//	set := kmod.Set{}
//	set.Add(m)
//	names, err := set.Closure("virtio_net", "vfat")
//	index, err := set.Index(names)
package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Module is what a module's file says of it, in its section .modinfo.
type Module struct {
	Name    string   // with _, as the kernel knows it, never -
	Depends []string // modules whose symbols it uses
	Before  []string // modules that it wishes to be loaded before it, if they are there: softdep … pre:
	Aliases []string // the devices that it drives, as patterns of modalias
}

// Name is a module's name as the kernel writes it.
func Name(s string) string { return strings.ReplaceAll(s, "-", "_") }

const maxInfo = 1 << 20 // of .modinfo; the longest of Debian's has 60 KiB

// Read reads a module's file, an ELF object that may have a signature behind it.
func Read(r io.ReaderAt) (Module, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Module{}, fmt.Errorf("not a module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type == elf.SHT_NOBITS {
		return Module{}, errors.New("not a module: it has no section .modinfo")
	}
	info, err := io.ReadAll(io.LimitReader(section.Open(), maxInfo+1))
	if err != nil {
		return Module{}, fmt.Errorf("read .modinfo: %w", err)
	}
	if len(info) > maxInfo {
		return Module{}, fmt.Errorf(".modinfo has more than %d bytes", maxInfo)
	}
	return parse(info)
}

// parse reads "key=value" strings that end with zeros.
func parse(info []byte) (Module, error) {
	var m Module
	for part := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(part), "=")
		switch key {
		case "name":
			m.Name = Name(value)
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					m.Depends = append(m.Depends, Name(name))
				}
			}
		case "softdep":
			m.Before = append(m.Before, before(value)...)
		case "alias":
			m.Aliases = append(m.Aliases, value)
		}
	}
	if m.Name == "" {
		return Module{}, errors.New(".modinfo has no name")
	}
	for _, s := range slices.Concat([]string{m.Name}, m.Depends, m.Before, m.Aliases) {
		// The index has one line a module, with spaces, tabs and commas between what is in it.
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return Module{}, fmt.Errorf("module %q: %q has a character that is in no name", m.Name, s)
		}
	}
	for _, s := range slices.Concat([]string{m.Name}, m.Depends, m.Before) {
		if strings.ContainsAny(s, "/,") || s == "." || s == ".." {
			return Module{}, fmt.Errorf("module %q: %q is no name of a module", m.Name, s)
		}
	}
	return m, nil
}

// before returns what stands behind "pre:" in a softdep, as modprobe.d(5) has it.
func before(softdep string) []string {
	var names []string
	pre := false
	for _, word := range strings.Fields(softdep) {
		switch word {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				names = append(names, Name(word))
			}
		}
	}
	return names
}

// A Set has the modules of one kernel by name.
type Set map[string]Module

// Add puts m in.
func (s Set) Add(m Module) { s[m.Name] = m }

// Closure returns the wanted modules and all that they need, sorted by name. A module that is not there, or needs one that
// is not, is an error. One that another only wishes for may be missing: it may be built into the kernel.
func (s Set) Closure(wanted ...string) ([]string, error) {
	taken := map[string]bool{}
	for _, name := range wanted {
		names, err := s.needs(Name(name))
		if err != nil {
			return nil, err
		}
		for _, name := range append(names, Name(name)) {
			taken[name] = true
		}
	}
	return slices.Sorted(maps.Keys(taken)), nil
}

// needs returns all that must be loaded before name, in an order in which it can be.
func (s Set) needs(name string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(name, by string) error
	visit = func(name, by string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		m, ok := s[name]
		if !ok && by == "" {
			return fmt.Errorf("this kernel has no module %q", name)
		}
		if !ok {
			return fmt.Errorf("module %q needs %q, which this kernel has not", by, name)
		}
		for _, before := range m.Before {
			if _, ok := s[before]; ok {
				if err := visit(before, name); err != nil {
					return err
				}
			}
		}
		for _, needed := range m.Depends {
			if err := visit(needed, name); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	if err := visit(name, ""); err != nil {
		return nil, err
	}
	return order[:len(order)-1], nil
}

// Index returns the text by which modules are found and loaded. It has one line a module, sorted by name:
//
//	name<TAB>needed,needed<TAB>alias alias …
//
// What is needed is complete and stands in an order in which it can be loaded.
func (s Set) Index(names []string) ([]byte, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(slices.Values(names)) {
		needs, err := s.needs(name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s\t%s\t%s\n", name, strings.Join(needs, ","), strings.Join(s[name].Aliases, " "))
	}
	return b.Bytes(), nil
}
