package audit

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Config is what a log needs and how it behaves. Dir and Key must be set.
type Config struct {
	Dir   string
	Key   ed25519.PrivateKey  // signs heads
	Known []ed25519.PublicKey // keys that the appliance had before
	Name  string              // of the appliance, at most 255 bytes

	Sync      time.Duration // by when a line is on disk; default 100 ms; negative: before Write returns
	HeadLines int           // a head after so many lines; default 1000
	HeadEvery time.Duration // or so long after the first line that has none; default 10 s

	SegmentBytes int64         // a segment ends at this size and with the day; default 8 MiB
	Keep         time.Duration // segments that are older are removed; default 365 days; negative: never
	KeepBytes    int64         // the oldest are removed while all are larger, passed on or not; default 4 GiB; negative: never

	Clock func() time.Time // default time.Now
	Log   *slog.Logger     // default: nowhere

	// For tests: the disk.
	place  func(path string, data []byte) error
	reopen func(path string) (file, error)
	// For tests: how an exporter waits, defaults 1 s, 1 s and 5 min; how often retention looks, default 10 min.
	pause, retryMin, retryMax, retainEvery time.Duration
}

func (c Config) withDefaults() Config {
	c.Sync = cmp.Or(c.Sync, 100*time.Millisecond)
	c.HeadLines = cmp.Or(c.HeadLines, 1000)
	c.HeadEvery = cmp.Or(c.HeadEvery, 10*time.Second)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 8<<20)
	c.Keep = cmp.Or(c.Keep, 365*24*time.Hour)
	c.KeepBytes = cmp.Or(c.KeepBytes, 4<<30)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.pause = cmp.Or(c.pause, time.Second)
	c.retryMin = cmp.Or(c.retryMin, time.Second)
	c.retryMax = cmp.Or(c.retryMax, 5*time.Minute)
	c.retainEvery = cmp.Or(c.retainEvery, 10*time.Minute)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.place == nil {
		c.place, c.reopen = replaceFile, reopen
	}
	return c
}

// maxName bounds the appliance's name, which stands in each line: a host name fits.
const maxName = 255

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("audit log: no folder")
	case len(c.Key) != ed25519.PrivateKeySize:
		return errors.New("audit log: no key to sign with")
	case len(c.Name) > maxName:
		return fmt.Errorf("audit log: the appliance's name has more than %d bytes", maxName)
	}
	return nil
}
