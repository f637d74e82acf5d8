package rdp

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// unhex reads bytes as people write them.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// u16s are numbers as the wire has them.
func u16s(numbers ...uint16) (b []byte) {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

func u32s(numbers ...uint32) (b []byte) {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// tpkt puts a TPKT and an X.224 header around data.
func tpkt(parts ...[]byte) []byte {
	b := []byte{3, 0, 0, 0, 2, 0xf0, 0x80}
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func ber(tag byte, value ...[]byte) []byte {
	var all []byte
	for _, v := range value {
		all = append(all, v...)
	}
	return append([]byte{tag, 0x82, byte(len(all) >> 8), byte(len(all))}, all...)
}

func per(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return append([]byte{0x80 | byte(len(all)>>8), byte(len(all))}, all...)
}

// settings is a block of the first settings.
func settings(kind uint16, body ...[]byte) []byte {
	b := u16s(kind, 0)
	for _, p := range body {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// connectInitial is a client's, with a core block of 216 bytes and the channels.
func connectInitial(channels ...string) []byte {
	core := make([]byte, 212)
	copy(core, u32s(0x00080004))
	copy(core[coreWidth-4:], u16s(1280, 720))
	copy(core[coreDepth-4:], u16s(16, 2))
	copy(core[coreFlags-4:], u16s(graphics|1))
	network := u32s(uint32(len(channels)))
	for _, name := range channels {
		entry := make([]byte, 12)
		copy(entry[:8], name)
		entry[11] = 0x80
		network = append(network, entry...)
	}
	blocks := per(settings(blockClientCore, core), settings(blockClientSecurity, make([]byte, 8)), settings(blockClientNetwork, network))
	gcc := append(append([]byte{}, gccObject...), per(gccRequest, blocks)...)
	domain := ber(0x30, []byte{2, 1, 34})
	return tpkt([]byte{0x7f, 0x65}, ber(0x7f, []byte{4, 1, 1, 4, 1, 1, 1, 1, 0xff}, domain, domain, domain, ber(4, gcc))[1:])
}

// connectResponse is a server's, which gives these ids.
func connectResponse(main uint16, ids ...uint16) []byte {
	network := append(u16s(main, uint16(len(ids))), u16s(ids...)...)
	if len(ids)%2 != 0 {
		network = append(network, 0, 0)
	}
	blocks := per(settings(blockServerCore, u32s(0x00080004)), settings(blockServerSecurity, make([]byte, 8)), settings(blockServerNetwork, network))
	gcc := append(append([]byte{}, gccObject...), 0x2a, 0x14, 0x76, 0x0a, 1, 1, 0, 1, 0xc0, 0, 'M', 'c', 'D', 'n')
	return tpkt([]byte{0x7f, 0x66}, ber(0x7f, []byte{0x0a, 1, 0, 2, 1, 0}, ber(0x30, []byte{2, 1, 34}), ber(4, gcc, blocks))[1:])
}

// on is data on a channel.
func on(client bool, channel uint16, data ...[]byte) []byte {
	s := sendData{choice: mcsIndication, initiator: 1, channel: channel}
	if client {
		s.choice, s.initiator = mcsSend, 6
	}
	for _, d := range data {
		s.data = append(s.data, d...)
	}
	return appendSendData(nil, s)
}

func chunk(message []byte) []byte {
	return append(u32s(uint32(len(message)), chunkFirst|chunkLast), message...)
}

var exampleInfo = clientInfo{
	page: 0x409, flags: infoUnicode | infoCompression | 0x200 | 1,
	texts: [5][]byte{nil, UTF16("nobody"), UTF16("nothing"), UTF16("cmd.exe"), UTF16(`C:\`)},
	extra: unhex("0200 0400 0000"),
}

// demandActive is a server's, for a desktop of that size.
func demandActive(width, height uint16) []byte {
	bitmap := append(u16s(capabilityBitmap, 28, 32, 1, 1, 1), u16s(width, height)...)
	bitmap = append(bitmap, make([]byte, 12)...)
	body := append(u32s(0x103ea), u16s(4, uint16(4+len(bitmap)))...)
	body = append(append(append(body, "RDP\x00"...), u16s(1, 0)...), bitmap...)
	return append(u16s(uint16(6+len(body)), 0x11, 1002), body...)
}

// bitmapUpdate are the rectangles of an update, each with one byte of data.
func bitmapUpdate(rectangles ...[9]uint16) []byte {
	b := u16s(updateBitmap, uint16(len(rectangles)))
	for _, r := range rectangles {
		r[8] = 1
		b = append(append(b, u16s(r[:]...)...), 0xaa)
	}
	return b
}

func fastPath(code byte, body []byte) []byte {
	b := append([]byte{code}, u16s(uint16(len(body)))...)
	b = append(b, body...)
	return append([]byte{0, 0x80 | byte((len(b)+3)>>8), byte(len(b) + 3)}, b...)
}
