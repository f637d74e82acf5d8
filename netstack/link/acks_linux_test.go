package link

import (
	"fmt"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A seg is what a TCP segment of a test says.
type seg struct {
	v6       bool
	port     uint16
	seq, ack uint32
	flags    header.TCPFlags
	options  []byte
	payload  string
	doubtful bool // nobody has vouched for its checksum
}

func (s seg) frame() []byte {
	const ack = header.TCPFlagAck
	ip := packet(s.v6, header.TCPProtocolNumber, string(s.options)+s.payload)
	at := header.IPv4MinimumSize
	proto := header.IPv4ProtocolNumber
	if s.v6 {
		at, proto = header.IPv6MinimumSize, header.IPv6ProtocolNumber
	}
	header.TCP(ip[at:]).Encode(&header.TCPFields{SrcPort: s.port, DstPort: 2, SeqNum: s.seq, AckNum: s.ack,
		DataOffset: uint8(header.TCPMinimumSize + len(s.options)), Flags: s.flags | ack, WindowSize: uint16(s.ack)})
	f := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(ip))
	header.Ethernet(f).Encode(&header.EthernetFields{Type: proto})
	return append(f, ip...)
}

// TestThin: of acknowledgements that came together those stay of which nothing later says as much.
func TestThin(t *testing.T) {
	ts := append(slices.Clone(timestamps), 1, 2, 3, 4, 5, 6, 7, 8)
	sack := []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	for _, v6 := range []bool{false, true} {
		for name, c := range map[string]struct {
			batch []seg
			want  []int // those that are delivered
		}{
			"one":              {[]seg{{ack: 1}}, []int{0}},
			"rising":           {[]seg{{ack: 1}, {ack: 2}, {ack: 3}}, []int{2}},
			"timestamps":       {[]seg{{ack: 1, options: ts}, {ack: 2, options: ts}}, []int{1}},
			"around zero":      {[]seg{{ack: 0xfffffff0}, {ack: 5}}, []int{1}},
			"back":             {[]seg{{ack: 5}, {ack: 0xfffffff0}}, []int{0, 1}},
			"duplicates":       {[]seg{{ack: 7}, {ack: 7}, {ack: 7}}, []int{0, 1, 2}},
			"SACK":             {[]seg{{ack: 7, options: sack}, {ack: 8, options: sack}, {ack: 9}}, []int{0, 1, 2}},
			"data":             {[]seg{{ack: 7, payload: "x"}, {ack: 8}}, []int{0, 1}},
			"before data":      {[]seg{{ack: 7}, {ack: 8, payload: "x"}}, []int{0, 1}},
			"around data":      {[]seg{{ack: 7}, {ack: 8, payload: "x"}, {ack: 9}}, []int{1, 2}},
			"FIN":              {[]seg{{ack: 7, flags: header.TCPFlagFin}, {ack: 8}}, []int{0, 1}},
			"RST":              {[]seg{{ack: 7}, {ack: 8, flags: header.TCPFlagRst}}, []int{0, 1}},
			"ECN":              {[]seg{{ack: 7, flags: header.TCPFlagEce}, {ack: 8}}, []int{0, 1}},
			"two flows":        {[]seg{{ack: 1, port: 1}, {ack: 2, port: 2}, {ack: 3, port: 1}, {ack: 4, port: 2}}, []int{2, 3}},
			"another place":    {[]seg{{ack: 1, seq: 5}, {ack: 2, seq: 6}}, []int{0, 1}},
			"nobody vouched":   {[]seg{{ack: 1}, {ack: 2, doubtful: true}}, []int{0, 1}},
			"a doubtful first": {[]seg{{ack: 1, doubtful: true}, {ack: 2}}, []int{0, 1}},
		} {
			t.Run(fmt.Sprintf("%s/v6 %v", name, v6), func(t *testing.T) {
				slots := make([]slot, len(c.batch))
				for i, s := range c.batch {
					s.v6 = v6
					f := s.frame()
					slots[i].views[0] = buffer.NewViewWithData(f)
					slots[i].size = vnetSize + len(f)
					if !s.doubtful {
						slots[i].vnet[0] = vnetDataValid
					}
				}
				thin(slots)
				var got []int
				for i := range slots {
					if !slots[i].idle {
						got = append(got, i)
					}
					slots[i].release()
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("delivered are %v, want %v", got, c.want)
				}
			})
		}
	}
}

// FuzzAck: whatever a frame says, it is looked at without harm, and only what is nothing but an acknowledgement is one.
func FuzzAck(f *testing.F) {
	f.Add(seg{ack: 1}.frame())
	f.Add(seg{v6: true, ack: 1}.frame())
	f.Add(seg{ack: 1, options: append(slices.Clone(timestamps), make([]byte, 8)...)}.frame())
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := ackOf(b); a.pure && len(b) < 54 {
			t.Errorf("an acknowledgement of %d bytes", len(b))
		}
	})
}
