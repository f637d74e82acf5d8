package rdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Rules say what may pass between a person's client and a target, and what is put right on the way.
type Rules struct {
	Selected       uint32 // the protocol that the target has selected
	BrowserCredSSP bool   // CredSSP passes, between the client and the target
	Clipboard      Clipboard
	DisplayControl bool // the client may ask for another size
	AsIs           bool // the picture is as the client asks for it; else RemoteFX at 32 bits, which is exact
	Width, Height  int  // of the desktop, in pixels; 0: as the client asks for it
	Autologon      bool // the target logs on without showing a dialog

	// What the target is told of the user, unless the browser does CredSSP: then it is what the client says, without the
	// password, which the target has by then.
	Domain, User string
	Password     []byte // UTF-16; the filter wipes it
}

// A Filter is between the two sides of a connection. Both directions share it.
type Filter struct {
	rules Rules
	input func() // called when the person does something
	shown func() // called once there is a desktop

	mu        sync.Mutex
	step      step
	asked     []string // channels, by the name that they were asked for; "" where it was taken away
	main      uint16   // the channel of the desktop
	user      uint16   // the client's id
	channels  map[uint16]channel
	clipboard *clipboard
	dynamics  *dynamics
	width     int
}

// A channel is one that is watched.
type channel interface {
	add(client bool, chunk []byte) (on, back [][]byte, err error)
}

// A step of the connection.
type step int

const (
	stepConnect step = iota // the client's first settings
	stepChannels
	stepUser    // the client says who the user is
	stepLicense // the server sends the client its licence
	stepDesktop
)

// NewFilter makes a filter that calls shown once there is a desktop, and input for each input of the person's.
func NewFilter(r Rules, shown, input func()) *Filter {
	f := &Filter{rules: r, shown: shown, input: input, channels: map[uint16]channel{}}
	f.clipboard = newClipboard(r.Clipboard)
	f.dynamics = newDynamics(func(name string) bool { return name == DisplayControl })
	return f
}

// channelOf is who watches a channel, nil if there is none of that name.
func (f *Filter) channelOf(name string) channel {
	switch {
	case name == "cliprdr" && (f.rules.Clipboard.In || f.rules.Clipboard.Out):
		return f.clipboard
	case name == "drdynvc" && f.rules.DisplayControl:
		return f.dynamics
	}
	return nil
}

// Through takes a PDU from one side, which it may change, and returns what the other side gets, and what goes back.
func (f *Filter) Through(client bool, pdu []byte) (on, back [][]byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pdu[0] != 3 {
		return f.fast(client, pdu)
	}
	choice, err := mcsChoice(pdu)
	if err != nil {
		return nil, nil, err
	}
	if choice == mcsSend || choice == mcsIndication {
		if client != (choice == mcsSend) {
			return nil, nil, errors.New("MCS data in the wrong direction")
		}
		return f.data(client, pdu)
	}
	if err := f.connecting(client, choice, pdu); err != nil {
		return nil, nil, err
	}
	return [][]byte{pdu}, nil, nil
}

// fast is a fast-path PDU: the picture, or what the person does.
func (f *Filter) fast(client bool, pdu []byte) (on, back [][]byte, err error) {
	if f.step != stepDesktop {
		return nil, nil, errors.New("a fast-path PDU comes before the desktop")
	}
	if client {
		f.input()
	} else if err := widenFast(pdu, f.width); err != nil {
		return nil, nil, err
	}
	return [][]byte{pdu}, nil, nil
}

// connecting is a PDU that sets the connection up, or ends it.
func (f *Filter) connecting(client bool, choice byte, pdu []byte) error {
	switch choice {
	case mcsUltimatum:
		return nil
	case mcsConnect:
		if client && f.step == stepConnect {
			return f.connectInitial(pdu)
		}
		if !client && f.step == stepChannels && f.main == 0 {
			return f.connectResponse(pdu)
		}
	case mcsErect, mcsAttach, mcsJoin:
		if client && f.main != 0 {
			if choice == mcsJoin && f.step == stepChannels {
				f.step = stepUser
			}
			return nil
		}
	case mcsAttached:
		if !client && len(pdu) >= 11 {
			f.user = binary.BigEndian.Uint16(pdu[9:])
			return nil
		}
	case mcsJoined:
		if !client {
			return nil
		}
	}
	return fmt.Errorf("an MCS PDU %#x is out of order", choice)
}

// connectInitial puts the client's first settings right, in their place, so that no length changes.
func (f *Filter) connectInitial(pdu []byte) error {
	blocks, err := clientBlocks(pdu)
	if err != nil {
		return err
	}
	f.step = stepChannels
	for _, b := range blocks {
		switch b.kind {
		case blockClientCore:
			f.core(b.data)
		case blockClientNetwork:
			if err := f.rename(b); err != nil {
				return err
			}
		case blockClientSecurity, blockClientCluster, blockClientMonitors, blockClientMonitorsEx:
		default:
			return fmt.Errorf("the client's first settings have block %#x", b.kind)
		}
	}
	return nil
}

func (f *Filter) core(b []byte) {
	put := func(at, value int) {
		if len(b) >= at+2 {
			binary.LittleEndian.PutUint16(b[at:], uint16(value))
		}
	}
	if f.rules.Width > 0 && f.rules.Height > 0 {
		put(coreWidth, f.rules.Width)
		put(coreHeight, f.rules.Height)
	}
	if len(b) >= coreFlags+2 {
		flags := binary.LittleEndian.Uint16(b[coreFlags:]) &^ graphics
		if !f.rules.AsIs {
			flags |= want32bpp
			put(coreDepth, 24)
			put(coreDepths, 0x0f)
			if len(b) > coreConnection {
				b[coreConnection] = lan
			}
		}
		put(coreFlags, int(flags))
	}
	if len(b) >= coreSelected+4 {
		binary.LittleEndian.PutUint32(b[coreSelected:], f.rules.Selected)
	}
}

// rename gives the channels that may not be a name that no server knows. They keep their place, so that all ids do.
func (f *Filter) rename(b block) error {
	entries, err := channelNames(b)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		name := channelName(entry)
		if f.channelOf(name) == nil || slices.Contains(f.asked, name) {
			name = ""
			clear(entry[:8])
			copy(entry, fmt.Sprintf("xdeny%02d", i))
		}
		f.asked = append(f.asked, name)
	}
	return nil
}

// connectResponse reads which id each channel has.
func (f *Filter) connectResponse(pdu []byte) error {
	blocks, err := serverBlocks(pdu)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		switch b.kind {
		case blockServerNetwork:
			main, ids, err := channelIDs(b)
			if err != nil {
				return err
			}
			if len(ids) != len(f.asked) || main == 0 {
				return errors.New("the target has other channels than it was asked for")
			}
			f.main = main
			for i, id := range ids {
				if id == main || slices.Contains(ids[:i], id) {
					return errors.New("the target gives an id to two channels")
				}
				if c := f.channelOf(f.asked[i]); c != nil {
					f.channels[id] = c
				}
			}
		case blockServerCore, blockServerSecurity:
		default: // a channel for messages, and what UDP needs: the client has asked for neither
			return fmt.Errorf("the target's first settings have block %#x", b.kind)
		}
	}
	if f.main == 0 {
		return errGCC
	}
	return nil
}

// data is data on a channel.
func (f *Filter) data(client bool, pdu []byte) (on, back [][]byte, err error) {
	s, err := parseSendData(pdu)
	if err != nil {
		return nil, nil, err
	}
	if s.channel == f.main && f.main != 0 {
		return f.desktop(client, pdu, s)
	}
	c := f.channels[s.channel]
	if c == nil || f.step != stepDesktop && f.step != stepLicense {
		return nil, nil, nil
	}
	messages, answers, err := c.add(client, s.data)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		on = append(on, chunks(sendData{s.choice, f.initiator(client), s.channel, nil}, m)...)
	}
	for _, m := range answers {
		choice := byte(mcsSend + mcsIndication - int(s.choice))
		back = append(back, chunks(sendData{choice, f.initiator(!client), s.channel, nil}, m)...)
	}
	return on, back, nil
}

// initiator is the id by which a side speaks.
func (f *Filter) initiator(client bool) uint16 {
	if client {
		return f.user
	}
	return 1 // the server, 1002, as all ids of users, less 1001
}

// desktop is data on the desktop's own channel.
func (f *Filter) desktop(client bool, pdu []byte, s sendData) (on, back [][]byte, err error) {
	pass := [][]byte{pdu}
	switch f.step {
	case stepUser:
		if !client {
			return nil, nil, errors.New("the target does not wait for the user's name")
		}
		f.step = stepLicense
		if s.data, err = f.userInfo(s.data); err != nil {
			return nil, nil, err
		}
		return [][]byte{appendSendData(nil, s)}, nil, nil
	case stepLicense:
		if len(s.data) < 4 {
			return nil, nil, errors.New("a licence is cut off")
		}
		if !isShare(s.data) {
			if binary.LittleEndian.Uint16(s.data)&secLicense == 0 {
				return nil, nil, errors.New("a licence does not parse")
			}
			return pass, nil, nil
		}
		if client {
			return nil, nil, errors.New("the client does not wait for its licence")
		}
		f.step = stepDesktop
		f.shown()
	case stepDesktop:
	default:
		return nil, nil, errors.New("data comes before the connection stands")
	}
	said := f.fromServer
	if client {
		said = f.fromClient
	}
	if err := said(s.data); err != nil {
		return nil, nil, err
	}
	return pass, nil, nil
}

// fromClient is what the client says of the desktop.
func (f *Filter) fromClient(b []byte) error {
	switch kind, data := shareKind(b); kind {
	case shareConfirmActive:
	case shareData:
		if data == dataInput {
			f.input()
		}
	default:
		return fmt.Errorf("the client speaks of the desktop in a PDU of kind %d", kind)
	}
	return nil
}

// fromServer is what the server says of the desktop.
func (f *Filter) fromServer(b []byte) error {
	switch kind, data := shareKind(b); kind {
	case shareDemandActive:
		width, height, err := desktopSize(b)
		if err != nil {
			return err
		}
		if width > maxDesktop || height > maxDesktop {
			return fmt.Errorf("a desktop of %d by %d pixels, which is too large", width, height)
		}
		if !f.rules.AsIs {
			f.width = width
		}
	case shareDeactivateAll:
	case shareData:
		if data == dataUpdate {
			return widenSlow(b, f.width)
		}
	case shareRedirect:
		return errors.New("a redirection to another machine, which is not followed: connect to that one by itself")
	default:
		return fmt.Errorf("the target speaks of the desktop in a PDU of kind %d", kind)
	}
	return nil
}

// userInfo is what the target is told of the user, in place of what the client says.
func (f *Filter) userInfo(b []byte) ([]byte, error) {
	info, err := parseClientInfo(b)
	if err != nil {
		return nil, err
	}
	info.flags &^= infoCompression | infoCompressionType | infoAutologon
	if f.rules.Autologon {
		info.flags |= infoAutologon
	}
	info.texts[infoShell], info.texts[infoDirectory] = nil, nil
	clear(info.texts[infoPassword]) // that of a client that does CredSSP
	info.texts[infoPassword] = f.rules.Password
	if !f.rules.BrowserCredSSP {
		info.texts[infoDomain], info.texts[infoUser] = UTF16(f.rules.Domain), UTF16(f.rules.User)
	}
	b = info.append(nil)
	clear(f.rules.Password)
	f.rules.Password = nil
	return b, nil
}
