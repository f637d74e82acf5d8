package audit

import "context"

// A Webhook is a sink that posts the lines, application/x-ndjson. Any answer of 2xx says that the receiver has them;
// Retry-After is heeded.
type Webhook struct {
	URL       string
	TokenFile string // holds a bearer token; may be empty
	TLS       TLS
	Dial      Dial
}

// Open reads the files.
func (c Webhook) Open() (Sink, error) {
	p, err := newPoster(c.URL, "application/x-ndjson", c.TokenFile, c.TLS, c.Dial)
	if err != nil {
		return nil, err
	}
	return webhookSink{p}, nil
}

type webhookSink struct{ *poster }

func (s webhookSink) Send(ctx context.Context, records []Record) error {
	var b []byte
	for _, r := range records {
		b = append(append(b, r.Line...), '\n')
	}
	_, err := s.post(ctx, b)
	return err
}
