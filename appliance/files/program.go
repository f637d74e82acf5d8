package files

import (
	"context"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance"
	"sallyport/appliance/message"
	"sallyport/appliance/policy"
	"sallyport/appliance/sshlogin"
	"sallyport/frame"
)

// Name is what flows ask for the program by.
const Name = "files"

// A Program is the appliance's of that name: it signs a person on, as a terminal does, and serves files to them. Its zero
// value is ready.
type Program struct{ transfers Transfers }

// maxStart is the most that the start of a flow has, in bytes.
const maxStart = 64 << 10

// Protocol implements appliance.Program.
func (*Program) Protocol() string { return policy.SSH }

// Serve implements appliance.Program.
func (p *Program) Serve(ctx context.Context, s *appliance.Session) error {
	side, err := s.Next(ctx)
	if err != nil {
		return err
	}
	link := sshlogin.Link{Side: side, Reader: message.NewReader(side, maxStart)}
	body, err := startOf(link.Reader)
	if err != nil {
		return err
	}
	start, err := sshlogin.ParseStart(body)
	if err != nil {
		return err
	}
	client, err := sshlogin.Open(ctx, s, link, start)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	s.Go(func() { p.serve(ctx, client, side) })
	for {
		side, err := s.Next(ctx)
		if err != nil {
			return err
		}
		s.Go(func() { p.Join(ctx, client, side) })
	}
}

// Join serves a side whose session has signed on: of this program, or of a terminal. It returns when the side has ended,
// and been told why.
func (p *Program) Join(ctx context.Context, client *ssh.Client, side *appliance.Side) error {
	if _, err := startOf(message.NewReader(side, maxStart)); err != nil {
		side.End(err)
		return err
	}
	return p.serve(ctx, client, side)
}

func (p *Program) serve(ctx context.Context, client *ssh.Client, side *appliance.Side) error {
	s := side.Session()
	return Serve(ctx, client, side, Options{Target: s.Target, Who: s.User, Transfers: &p.transfers, Go: s.Go})
}

// startOf reads the message that a flow begins with.
func startOf(r *message.Reader) ([]byte, error) {
	kind, body, err := r.Next()
	if err != nil || kind != sshlogin.KindStart {
		return nil, frame.Refuse("E_USAGE", "the first message must be the start", "reload the page")
	}
	return body, nil
}
