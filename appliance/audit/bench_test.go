package audit

import (
	"io/fs"
	"testing"
	"time"
)

// benchEvent is as long as the line of a flow that is opened.
var benchEvent = Event{
	Kind: FlowOpen, Flow: "f873cc2356bd", Session: "s1a2b3c4d5e6f", User: "ann", Device: "dev-35nb8n89hep7y", Source: "10.77.1.2:51234",
	Transport: "quic", Client: "0.1.0 linux/amd64", Target: "db-1", Address: "10.0.5.17:22", VNet: "hub", Protocol: "ssh", Port: 22,
	Policies: []string{"operators"}, Decision: "allow",
}

func BenchmarkWrite(b *testing.B) {
	l := open(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(benchEvent); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteSafe is of many who wait for the disk at the same time.
func BenchmarkWriteSafe(b *testing.B) {
	l := open(b, Config{Sync: -1})
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Write(benchEvent); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkVerify is also what Open does with the last segment.
func BenchmarkVerify(b *testing.B) {
	l := open(b, Config{HeadEvery: time.Hour})
	for range 10_000 {
		if err := l.Write(benchEvent); err != nil {
			b.Fatal(err)
		}
	}
	closeLog(b, l)
	files := load(b, l.cfg.Dir)
	var size int64
	for name := range files {
		info, err := fs.Stat(files, name)
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Verify(files, testPublic); err != nil {
			b.Fatal(err)
		}
	}
}
