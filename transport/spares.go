package transport

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"sallyport/frame"
)

// spareIdle is how long an admitted connection waits for a flow: a little less than the appliance has patience.
const spareIdle = 55 * time.Second

// A pool holds the admitted connections of an HTTPS session that wait for flows: the first, and where the Client wants
// spares, up to so many after each flow.
type pool struct {
	client *Client
	life   context.Context
	end    context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	spares  []*spare // the oldest first
	filling bool
}

func newPool(c *Client) *pool {
	p := &pool{client: c}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// take returns a carrier for a flow: a spare that still lives, else a new connection.
func (p *pool) take(ctx context.Context) (frame.Carrier, error) {
	defer p.fill()
	for {
		s := p.next()
		if s == nil {
			return p.client.httpsConn(ctx)
		}
		if s.claim() {
			return s.conn, nil
		}
		s.conn.Close()
	}
}

// next takes the newest spare out of the pool: it is the likeliest to live.
func (p *pool) next() *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spares) == 0 {
		return nil
	}
	s := p.spares[len(p.spares)-1]
	p.spares = p.spares[:len(p.spares)-1]
	return s
}

// add lets an admitted connection wait for a flow.
func (p *pool) add(conn *clientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		conn.Close()
		return
	}
	s := &spare{conn: conn, over: make(chan struct{})}
	conn.SetReadDeadline(time.Now().Add(spareIdle))
	p.spares = append(p.spares, s)
	p.work.Go(func() {
		s.watch(p.client.Flow.Notice)
		p.drop(s)
	})
}

// drop closes a spare that ended while it was in the pool.
func (p *pool) drop(s *spare) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.spares {
		if p.spares[i] == s {
			p.spares = append(p.spares[:i], p.spares[i+1:]...)
			s.conn.Close()
			return
		}
	}
}

// fill dials spares until there are as many as the client wants; one at a time, and not again after an error.
func (p *pool) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filling || p.life.Err() != nil || len(p.spares) >= p.client.Spares {
		return
	}
	p.filling = true
	p.work.Go(p.dialSpares)
}

func (p *pool) dialSpares() {
	for {
		conn, err := p.client.httpsConn(p.life)
		if err == nil {
			if _, err = conn.welcome(p.life); err != nil {
				conn.Close()
			}
		}
		if err == nil {
			p.add(conn)
		}
		p.mu.Lock()
		p.filling = err == nil && p.life.Err() == nil && len(p.spares) < p.client.Spares
		again := p.filling
		p.mu.Unlock()
		if !again {
			return
		}
	}
}

// close lets the spares go; flows go on.
func (p *pool) close() {
	p.end()
	for s := p.next(); s != nil; s = p.next() {
		s.conn.Close()
	}
	p.work.Wait()
}

// A spare is an admitted connection that waits for a flow. It answers PING meanwhile.
type spare struct {
	conn *clientConn
	over chan struct{} // closed when watch has returned
	good bool          // watch was ended between two frames by a deadline
}

// watch reads what the appliance says to a connection without a flow, until a deadline or something that ends it.
func (s *spare) watch(notice func(frame.Notice)) {
	defer close(s.over)
	r := &counting{conn: s.conn}
	for {
		r.n = 0
		h, p, err := frame.ReadFrame(r)
		switch {
		case err != nil:
			s.good = r.n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
			return
		case h.Type == frame.TypePing:
			s.conn.SetWriteDeadline(time.Now().Add(loginTimeout))
			if _, err := s.conn.Write(frame.AppendProbe(nil, frame.TypePong, [8]byte(p))); err != nil {
				return
			}
		case h.Type == frame.TypePong:
		case h.Type == frame.TypeNotice:
			var n frame.Notice
			if frame.Parse(h.Type, p, &n) == nil && notice != nil {
				notice(n)
			}
		default: // DRAIN: a flow should not begin here
			return
		}
	}
}

// claim ends watch and says whether the connection can carry a flow. The spare is out of the pool.
func (s *spare) claim() bool {
	s.conn.SetReadDeadline(time.Unix(1, 0))
	<-s.over
	return s.good && s.conn.SetDeadline(time.Time{}) == nil
}

// counting counts what is read of one frame.
type counting struct {
	conn *clientConn
	n    int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	c.n += n
	return n, err
}
