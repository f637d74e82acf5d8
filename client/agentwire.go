package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A command and the agent speak over a local socket: one question, one answer, each a length of two bytes and JSON.
// After the answer to askFlow the connection is the flow's carrier: frames go between command and appliance as they
// are, and the agent only passes bytes on. So whatever ends a flow is told by the appliance itself; what only the agent
// can know, why a carrier broke, it tells when it is asked.
//
// Every version understands askStatus, askFinish and askStop of every other.
const (
	askFlow   = "flow"   // a carrier for a flow
	askPath   = "path"   // how the appliance is reached
	askWhy    = "why"    // why the carrier of a flow broke
	askBond   = "bond"   // what the connection of a flow's carrier gives the flow to be resumed
	askStatus = "status" // what the agent holds
	askFinish = "finish" // take no new flows, unless the agent is of the asker's version
	askStop   = "stop"   // take no new flows
	askEnd    = "end"    // end, with all flows
)

// A question is what a command wants of the agent.
type question struct {
	Version string `json:"version"` // of the command
	Ask     string `json:"ask"`

	// Of askFlow and askPath.
	Appliance string         `json:"appliance,omitempty"` // a profile's name
	Transport transport.Mode `json:"transport,omitempty"`
	Proxy     string         `json:"proxy,omitempty"` // for HTTP, from the command's environment
	Dead      uint64         `json:"dead,omitempty"`  // a session on which no answer came
	Lost      time.Time      `json:"lost,omitzero"`   // a flow is to be moved, which needs that since then

	Flow uint64 `json:"flow,omitempty"` // of askWhy and askBond
	ID   []byte `json:"id,omitempty"`   // of askBond, as the appliance calls the flow; else its secret is not asked for
}

// An answer is the agent's.
type answer struct {
	Version string       `json:"version"`           // of the agent: if it is another, nothing was done
	Wait    bool         `json:"wait,omitempty"`    // the answer proper follows: an appliance is being dialled
	Failure *Failure     `json:"failure,omitempty"` // or why the carrier of a flow broke
	Notices []string     `json:"notices,omitempty"` // lines for the person
	Path    *Path        `json:"path,omitempty"`
	Session uint64       `json:"session,omitempty"`
	Fresh   bool         `json:"fresh,omitempty"` // the session was made for this question
	Flow    uint64       `json:"flow,omitempty"`
	Bond    *agentBond   `json:"bond,omitempty"`
	Status  *AgentStatus `json:"status,omitempty"`
}

// agentBond is a frame.Bond on its way from the agent. It passes between processes of one user, who has the device key
// that it stands for.
type agentBond struct {
	User    string   `json:"user"`
	Device  [32]byte `json:"device"`
	Binding [32]byte `json:"binding"`
	Secret  []byte   `json:"secret,omitempty"`
}

func (b *agentBond) bond() *frame.Bond {
	return &frame.Bond{User: b.User, Device: b.Device, Binding: b.Binding, Secret: func([]byte) ([]byte, error) { return b.Secret, nil }}
}

// AgentStatus is what an agent says of itself.
type AgentStatus struct {
	Version  string          `json:"version"`
	PID      int             `json:"pid"`
	Since    time.Time       `json:"since"`
	Flows    int             `json:"flows"`
	Ending   bool            `json:"ending,omitempty"` // it takes no new flows
	Sessions []AgentSession  `json:"sessions"`
	Paths    []transport.Win `json:"paths"` // which transport won lately, and from where
}

// An AgentSession is one that an agent holds.
type AgentSession struct {
	Appliance string    `json:"appliance"`
	Address   string    `json:"address"`
	Transport string    `json:"transport"`
	Remote    string    `json:"remote"`
	Since     time.Time `json:"since"`
	Flows     int       `json:"flows"`
}

// maxMessage bounds a question or an answer.
const maxMessage = 1<<16 - 1

func writeMessage(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("a message of %d bytes", len(b))
	}
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readMessage(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// errNoAgent is the error of a question that no agent has answered, errMute that of one that an agent only heard.
var (
	errNoAgent = errors.New("there is no agent")
	errMute    = errors.New("the agent does not answer")
)

// errAgentEnded is what becomes of the flows of an agent that ends: they have lost their connections.
var errAgentEnded = &frame.StreamError{Remote: true, Reason: frame.Reason{Code: frame.Lost,
	Sentence: "the agent has ended, and with it the connections that it held", Hint: "try again"}}

// mutePatience is how long an agent may take to show that it lives. One that was stopped would take for ever.
const mutePatience = 2 * time.Second

// put asks the agent at a socket. The connection, which the caller closes, is a carrier after an answer that says so.
func put(ctx context.Context, socket string, q question) (*net.UnixConn, *answer, error) {
	c, err := dialAgent(socket)
	if err != nil {
		return nil, nil, errNoAgent
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	var a answer
	c.SetReadDeadline(time.Now().Add(mutePatience))
	if err = writeMessage(c, q); err == nil {
		err = readMessage(c, &a)
	}
	mute := errors.Is(err, os.ErrDeadlineExceeded)
	c.SetReadDeadline(time.Time{})
	if ctx.Err() == nil && err == nil && a.Wait {
		a = answer{}
		err = readMessage(c, &a)
	}
	switch {
	case !stop() || ctx.Err() != nil:
		err = context.Cause(ctx)
	case mute:
		err = errMute
	case err != nil:
		err = errNoAgent // it has ended meanwhile
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, &a, nil
}

// dialAgent connects to an agent, if it is this user's.
func dialAgent(socket string) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := checkUser(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// checkUser refuses whoever is not this user, root included.
func checkUser(c *net.UnixConn) error {
	uid, err := peerUser(c)
	if err == nil && uid != os.Getuid() {
		err = frame.Refuse("E_DENIED", fmt.Sprintf("user %d is at the other end", uid), "")
	}
	return err
}

// failed is a Failure that comes from the agent, as an error.
type failed struct{ Failure }

func (f *failed) Error() string { return f.Sentence }

// Unwrap lets frame.ReasonOf find the code.
func (f *failed) Unwrap() error {
	return &frame.SessionError{Remote: true, Reason: frame.Reason{Code: f.Code, Sentence: f.Sentence, Hint: f.Hint}}
}
