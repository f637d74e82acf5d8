package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/host"
	"sallyport/host/boot"
	"sallyport/host/source"
)

// find finds the configuration, or asks for it until a code has expired. The error of a source that is there and broken
// is returned; source.ErrNone means that nobody has given one.
func (m *image) find(ctx context.Context) (source.Document, error) {
	m.giveBack()
	nic := firstNIC()
	d, err := imageDocument(ctx, nic, imageRun, imageDisk(), m.said[saysFetch], m.log)
	if !errors.Is(err, source.ErrNone) || nic == "" {
		return d, err
	}
	m.log.Warn("there is no configuration; the console shows a code to give one with", "interface", nic)
	if d, err = askPeople(ctx, nic, imageRun, m.said[saysSetup], m.log, m.ask); err != nil {
		m.log.Warn("nobody has given a configuration", "cause", err)
		return source.Document{}, source.ErrNone
	}
	m.given = d.Config
	return d, nil
}

// keepGiven keeps what a person has given, now that there is a place for it.
func (m *image) keepGiven() {
	if m.given == nil {
		return
	}
	if data := imageDisk(); data != "" {
		if err := keepDocument(data, m.given); err != nil {
			m.log.Error("the configuration will be lost with the next start", "cause", err)
		}
	}
	m.given = nil
}

// ask shows the code on all consoles, as the log shows the address and the fingerprints, and nowhere else.
func (m *image) ask(code string) {
	boot.Display(fmt.Sprintf("\nThis machine has no configuration. For ten minutes it takes one at the address that it says below, by a browser or by\n"+
		"  sallyport admin configure https://ADDRESS --fingerprint FINGERPRINT --code-file - --config sallyport.yaml\n  code: %s\n\n", code))
}

// giveBack takes the NICs out of the namespaces of a configuration that was wrong.
func (m *image) giveBack() {
	held, _ := filepath.Glob(filepath.Join(imageRun, "netns", "*")) // the pattern is sound
	for _, path := range held {
		if err := host.Release(imageRun, filepath.Base(path)); err != nil {
			m.log.Warn("a NIC stays in its namespace", "cause", err)
		}
	}
}

// firstNIC is the first Ethernet NIC of the machine, or nothing. What has no driver behind it is none of the machine's.
func firstNIC() string {
	nics, err := net.Interfaces()
	if err != nil {
		return ""
	}
	nics = slices.DeleteFunc(nics, func(n net.Interface) bool {
		_, err := os.Stat(filepath.Join("/sys/class/net", n.Name, "device"))
		return n.Flags&net.FlagLoopback != 0 || len(n.HardwareAddr) != 6 || err != nil
	})
	if len(nics) == 0 {
		return ""
	}
	return slices.MinFunc(nics, func(a, b net.Interface) int { return cmp.Compare(a.Index, b.Index) }).Name
}

// imageDisk is the data partition's folder, or nothing where there is none.
func imageDisk() string {
	if strings.HasPrefix(imageState(), imageData+"/") {
		return imageData
	}
	return ""
}

// keepDocument keeps a document that a person has given, so that either the old one or the new one is there.
func keepDocument(folder string, text []byte) error {
	f, err := os.CreateTemp(folder, ".configuration-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(folder, keptName)); err != nil {
		return err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
