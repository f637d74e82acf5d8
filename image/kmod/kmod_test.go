package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// object is an ELF object with nothing but a section .modinfo.
func object(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2, Shoff: uint64(64 + len(info) + len(names)),
	}
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names))},
	}
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, header)
	b.WriteString(info + names)
	binary.Write(&b, binary.LittleEndian, sections)
	return b.Bytes()
}

const network = "license=GPL\x00alias=virtio:d00000001v*\x00alias=pci:v*\x00depends=net_failover,virtio-ring\x00" +
	"softdep=pre: crc32c post: later pre: failover\x00name=virtio_net\x00"

func TestRead(t *testing.T) {
	want := Module{
		Name: "virtio_net", Depends: []string{"net_failover", "virtio_ring"}, Before: []string{"crc32c", "failover"},
		Aliases: []string{"virtio:d00000001v*", "pci:v*"},
	}
	got, err := Read(bytes.NewReader(object(network)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	// Debian's modules have a signature behind the object.
	signed := append(object(network), "…~Module signature appended~\n"...)
	if got, err := Read(bytes.NewReader(signed)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("signed: got %+v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":     nil,
		"no ELF":    []byte("#!/bin/sh\n"),
		"cut":       object(network)[:100],
		"no name":   object("depends=\x00"),
		"two lines": object("name=a\x00alias=pci:*\nb\x00"),
		"a tab":     object("name=a\tb\x00"),
		"a path":    object("name=../init\x00"),
		"a comma":   object("name=a,b\x00"),
		"too long":  object("name=a\x00" + strings.Repeat("alias=x\x00", maxInfo/8)),
	} {
		if m, err := Read(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: got %+v", name, m)
		}
	}
}

func set() Set {
	s := Set{}
	for _, m := range []Module{
		{Name: "virtio_net", Depends: []string{"net_failover", "virtio"}, Aliases: []string{"virtio:d1*", "virtio:d2*"}},
		{Name: "net_failover", Depends: []string{"failover"}, Before: []string{"built_in", "hint"}},
		{Name: "failover"}, {Name: "virtio"}, {Name: "hint"},
		{Name: "round", Depends: []string{"about"}}, {Name: "about", Depends: []string{"round"}},
		{Name: "broken", Depends: []string{"nothing"}},
	} {
		s.Add(m)
	}
	return s
}

func TestClosure(t *testing.T) {
	got, err := set().Closure("virtio-net")
	if want := []string{"failover", "hint", "net_failover", "virtio", "virtio_net"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := set().Closure("round"); err != nil || len(got) != 2 {
		t.Errorf("a circle: got %v, %v", got, err)
	}
	for _, name := range []string{"nothing", "broken"} {
		if got, err := set().Closure("virtio", name); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestIndex(t *testing.T) {
	names, _ := set().Closure("virtio_net")
	got, err := set().Index(names)
	const want = "failover\t\t\nhint\t\t\nnet_failover\thint,failover\t\nvirtio\t\t\n" +
		"virtio_net\thint,failover,net_failover,virtio\tvirtio:d1* virtio:d2*\n"
	if string(got) != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(object(network))
	f.Add(object(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		s := Set{}
		s.Add(m)
		m.Depends, m.Before = nil, nil
		s[m.Name] = m
		index, err := s.Index([]string{m.Name})
		if err != nil || bytes.Count(index, []byte("\n")) != 1 || bytes.Count(index, []byte("\t")) != 2 {
			t.Errorf("the index is %q, %v", index, err)
		}
	})
}
