package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/config"
	"sallyport/host/boot"
	"sallyport/host/disk"
)

// newImage is a machine without any disk, and what it says.
func newImage(t *testing.T) (*image, *bytes.Buffer) {
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "class/block"), 0o700); err != nil {
		t.Fatal(err)
	}
	said := new(bytes.Buffer)
	return &image{log: slog.New(slog.NewTextHandler(said, nil)), disks: disk.Disks{Sys: sys, Dev: t.TempDir()}, healthy: make(chan struct{})}, said
}

// TestDataIsWaitedFor: a machine whose data may be on a disk that is not there says so, once, and does not go on.
func TestDataIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		lacks func(*image)
		wish  disk.Wish
		waits string
	}{
		"no disk at all":           {func(*image) {}, disk.Wish{Make: disk.MostData}, ""},
		"not decided yet":          {func(*image) {}, disk.Wish{}, ""},
		"the image's disk is late": {func(m *image) { m.disks.ESP = "5a11e900-0000-4000-8000-000000000001" }, disk.Wish{}, "the disk with the data is not there"},
		"an attached one is late":  {func(*image) {}, disk.Wish{Attached: true}, "the disk with the data is not there"},
		"nobody knows":             {func(m *image) { m.openDisk(errors.New("no efivarfs")) }, disk.Wish{}, "what the machine was started from is not known: no efivarfs"},
		"an error": {func(m *image) {
			if err := errors.Join(os.Mkdir(filepath.Join(m.disks.Sys, "class/block/sda"), 0o700), os.Mkdir(filepath.Join(m.disks.Dev, "sda"), 0o700)); err != nil {
				panic(err)
			}
		}, disk.Wish{Make: disk.MostData}, "a disk cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			m, said := newImage(t)
			c.lacks(m)
			said.Reset()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				went := m.mountData(ctx, c.wish)
				if went != (c.waits == "") {
					t.Errorf("it goes on: %v", went)
				}
			})
			if c.waits != "" && (strings.Count(said.String(), "\n") != 1 || !strings.Contains(said.String(), c.waits)) {
				t.Errorf("it said %q", said)
			}
			if inMemory := strings.Contains(said.String(), "in memory"); inMemory != (name == "no disk at all") {
				t.Errorf("it said %q", said)
			}
		})
	}
}

func TestDataWish(t *testing.T) {
	alone, fleet, attached := new(config.Config), new(config.Config), new(config.Config)
	fleet.Store.URL, fleet.Audit.KeepMB = "postgres://db/x", 4096
	attached.Machine.Data = config.DataAttached
	for _, c := range []struct {
		cfg  *config.Config
		want disk.Wish
	}{
		{alone, disk.Wish{Make: 64 << 30}},
		{fleet, disk.Wish{Make: 4352 << 20}},
		{attached, disk.Wish{Attached: true, Make: 64 << 30}},
	} {
		if w := dataWish(c.cfg); w != c.want {
			t.Errorf("%+v", w)
		}
	}
}

// TestExpire: a version that nobody can say of whether it is on trial has the time of one that is.
func TestExpire(t *testing.T) {
	for _, works := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, _ := newImage(t)
			m.openDisk(errors.New("no efivarfs"))
			if m.updater != nil || m.lost == nil {
				t.Fatalf("%+v", m)
			}
			var ended []boot.How
			m.end = func(h boot.How) { ended = append(ended, h) }
			if works {
				time.AfterFunc(4*time.Minute, func() { close(m.healthy) })
			}
			m.expire(t.Context(), onTrial)
			if restarts := len(ended) == 1 && ended[0] == boot.Restart; restarts == works {
				t.Errorf("works %v: ended %v", works, ended)
			}
		})
	}
}
