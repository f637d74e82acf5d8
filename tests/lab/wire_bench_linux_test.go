package lab

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"sallyport/tests/chaoslink/wire"
)

// BenchmarkWire measures what the link itself costs; package wire has the numbers. "none" is the same without a link.
func BenchmarkWire(b *testing.B) {
	for _, with := range []string{"link", "none"} {
		b.Run(with, func(b *testing.B) {
			l := New(b)
			var link *wire.Link
			if with == "link" {
				link = l.Wire(l.Router, "client0", 1)
			}
			b.Run("UDP 64", func(b *testing.B) { l.benchUDP(b, 64, link) })
			b.Run("UDP 1514", func(b *testing.B) { l.benchUDP(b, 1514, link) })
			b.Run("TCP", l.benchTCP)
			b.Run("delay 0", func(b *testing.B) { l.benchDelay(b, 0) })
			if link != nil {
				const delay = 5 * time.Millisecond
				link.Set(wire.Up, wire.Impairment{Delay: delay})
				b.Run("delay 5 ms", func(b *testing.B) { l.benchDelay(b, delay) })
			}
		})
	}
}

const benchTime = time.Second

// benchUDP sends frames of a size as fast as it can, and counts those that arrive.
func (l *Lab) benchUDP(b *testing.B, size int, link *wire.Link) {
	pc, err := l.Router.ListenPacket("udp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	defer pc.Close()
	c, err := l.Client.DialContext(b.Context(), "udp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	batch := make([]ipv4.Message, 32)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, size-14-20-8)}
	}
	p := ipv4.NewPacketConn(c.(*net.UDPConn))
	before := l.Router.received(b, "client0")
	begin := time.Now()
	for time.Since(begin) < benchTime {
		if _, err := p.WriteBatch(batch, 0); err != nil {
			b.Fatal(err)
		}
	}
	got := float64(l.Router.received(b, "client0")-before) / time.Since(begin).Seconds()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(got, "packets/s")
	b.ReportMetric(got*float64(size)*8/1e9, "Gbit/s")
	if link != nil {
		b.Logf("%+v", link.Stats(wire.Up))
	}
}

// received is how many frames a NIC has taken in.
func (n *Namespace) received(t testing.TB, nic string) int {
	t.Helper()
	var links []struct {
		Stats64 struct{ RX struct{ Packets int } }
	}
	if err := json.Unmarshal([]byte(n.Run("ip", "-s", "-j", "link", "show", "dev", nic)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Stats64.RX.Packets
}

func (l *Lab) benchTCP(b *testing.B) {
	s, err := l.Router.Listen("tcp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c, err := l.Client.DialContext(b.Context(), "tcp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	r, err := s.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.Close()
		p := make([]byte, 256<<10)
		for begin := time.Now(); time.Since(begin) < benchTime; {
			c.Write(p)
		}
	})
	begin := time.Now()
	n, _ := io.Copy(io.Discard, r)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n)*8/1e9/time.Since(begin).Seconds(), "Gbit/s")
	wg.Wait()
}

// benchDelay is by how much a delay is longer than asked for, from NIC to NIC.
func (l *Lab) benchDelay(b *testing.B, delay time.Duration) {
	pc, err := l.Router.ListenPacket("udp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	defer pc.Close()
	c, err := l.Client.DialContext(b.Context(), "udp4", "10.77.1.1:9")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	out, in := l.Capture(l.Client, "eth0"), l.Capture(l.Router, "client0")
	for begin := time.Now(); time.Since(begin) < benchTime; {
		c.Write(make([]byte, 100))
		time.Sleep(time.Millisecond)
	}
	time.Sleep(delay + 100*time.Millisecond)
	sent, got := udpOnly(out.Stop()), udpOnly(in.Stop())
	if len(sent) != len(got) {
		b.Fatalf("%d sent, %d received", len(sent), len(got))
	}
	var late []time.Duration
	for i := range got {
		late = append(late, got[i].Time.Sub(sent[i].Time)-delay)
	}
	slices.Sort(late)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(late[len(late)/2].Nanoseconds())/1e3, "µs/median")
	b.ReportMetric(float64(late[len(late)*99/100].Nanoseconds())/1e3, "µs/p99")
}

func udpOnly(packets []Packet) []Packet {
	return slices.DeleteFunc(slices.Clone(packets), func(p Packet) bool { return p.Protocol != ProtocolUDP })
}
