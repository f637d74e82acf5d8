// Package metadata asks a cloud's metadata service for the machine's user data, and tells Azure that the machine is ready.
//
//	cloud := metadata.Detect("/")
//	c := metadata.Client{Cloud: cloud, Dial: door.DialContext} // to cloud.Endpoints() and nowhere else
//	data, err := c.UserData(ctx)
//
// It speaks plain HTTP to addresses that are compiled in. No name is resolved, no proxy is used, no redirect is followed.
// An error names the request and the status of its answer and never the content, which may hold secrets.
package metadata

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Cloud is whose machine this is; empty if it is none that is known.
type Cloud string

// The clouds.
const (
	None  Cloud = ""
	Azure Cloud = "azure"
	AWS   Cloud = "aws"
	GCP   Cloud = "gcp"
)

const (
	service    = "169.254.169.254" // of all three
	wireServer = "168.63.129.16"   // Azure's
)

// Endpoints are the addresses and ports, of TCP, that a Client of the cloud connects to.
func (c Cloud) Endpoints() []netip.AddrPort {
	at := func(a string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(a), 80) }
	switch c {
	case Azure:
		return []netip.AddrPort{at(service), at(wireServer)}
	case AWS, GCP:
		return []netip.AddrPort{at(service)}
	}
	return nil
}

// Parse is the cloud of that name.
func Parse(name string) (Cloud, error) {
	switch c := Cloud(name); c {
	case None, Azure, AWS, GCP:
		return c, nil
	}
	return None, fmt.Errorf("%.32q is not a cloud: azure, aws or gcp", name)
}

// azureTag is the asset tag of the chassis of each of Azure's machines, which others on Hyper-V do not have.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// Detect says by the firmware's tables (DMTF DSP0134, types 0, 1 and 3) whose machine this is. root is the folder of sys;
// on a machine "/".
func Detect(root string) Cloud {
	dmi := func(name string) string {
		f, err := os.Open(filepath.Join(root, "sys/class/dmi/id", name))
		if err != nil {
			return ""
		}
		defer f.Close()
		b, _ := io.ReadAll(io.LimitReader(f, 4<<10)) // what could not be read names no cloud
		return strings.TrimSpace(string(b))
	}
	switch {
	case dmi("sys_vendor") == "Microsoft Corporation" && dmi("chassis_asset_tag") == azureTag:
		return Azure
	case dmi("sys_vendor") == "Amazon EC2", strings.HasSuffix(dmi("bios_version"), ".amazon"): // Nitro, and Xen of old
		return AWS
	case dmi("product_name") == "Google Compute Engine":
		return GCP
	}
	return None
}

// ErrNone means that the service answers and has no user data for this machine.
var ErrNone = errors.New("the cloud's metadata service has no user data for this machine")

// Limits of what a service may answer, in bytes.
const (
	maxData  = 1 << 20 // of user data, also when it is unpacked
	maxReply = 64 << 10
)

// A Client speaks to the services of one machine. Cloud must be given; Dial defaults to the kernel's sockets.
type Client struct {
	Cloud Cloud
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)

	Each  time.Duration // for one attempt; default 5 seconds
	Total time.Duration // for all attempts of a call; default 60 seconds: the services may be slow after a boot
	Pause time.Duration // between the first attempts, doubled each time up to 16 times; default 250 milliseconds
}

func (c Client) withDefaults() Client {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.Each = cmp.Or(c.Each, 5*time.Second)
	c.Total = cmp.Or(c.Total, 60*time.Second)
	c.Pause = cmp.Or(c.Pause, 250*time.Millisecond)
	return c
}

// UserData returns the machine's user data, unpacked if it is gzip. ErrNone means that there is none.
//
//	azure  GET /metadata/instance/compute/userData, base64 (Azure Instance Metadata Service, "Get user data")
//	aws    PUT /latest/api/token, then GET /latest/user-data (Amazon EC2 User Guide, "Use IMDSv2")
//	gcp    GET /computeMetadata/v1/instance/attributes/user-data (Compute Engine, "View and query VM metadata")
//
// The request is repeated until it has an answer or Total is over, for what may pass: no connection, and the statuses
// 408, 410, 429 and 5xx.
func (c Client) UserData(ctx context.Context) ([]byte, error) {
	c = c.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, c.Total)
	defer cancel()
	web := c.web()
	defer web.CloseIdleConnections()
	var data []byte
	err := c.repeat(ctx, func(ctx context.Context) (err error) {
		data, err = c.userData(ctx, web)
		return err
	})
	if err != nil {
		return nil, err
	}
	if data, err = unpack(data); err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, ErrNone
	}
	return data, nil
}

func (c Client) userData(ctx context.Context, web *http.Client) ([]byte, error) {
	const root = "http://" + service
	switch c.Cloud {
	case Azure:
		b, err := ask(ctx, web, question{url: root + "/metadata/instance/compute/userData?api-version=2021-01-01&format=text",
			header: http.Header{"Metadata": {"true"}}, limit: maxData*4/3 + 4})
		if err != nil {
			return nil, notFound(err)
		}
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, errors.New("the user data is not base64, which Azure gives")
		}
		return plain, nil
	case AWS:
		token, err := ask(ctx, web, question{method: http.MethodPut, url: root + "/latest/api/token",
			header: http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"300"}}, limit: maxReply})
		if err != nil {
			return nil, err
		}
		b, err := ask(ctx, web, question{url: root + "/latest/user-data",
			header: http.Header{"X-Aws-Ec2-Metadata-Token": {strings.TrimSpace(string(token))}}, limit: maxData})
		return b, notFound(err)
	case GCP:
		b, err := ask(ctx, web, question{url: root + "/computeMetadata/v1/instance/attributes/user-data",
			header: http.Header{"Metadata-Flavor": {"Google"}}, limit: maxData})
		return b, notFound(err)
	}
	return nil, fmt.Errorf("no metadata service is known for the cloud %q", c.Cloud)
}

// notFound is ErrNone for the status that says so.
func notFound(err error) error {
	var s *StatusError
	if errors.As(err, &s) && s.Code == http.StatusNotFound {
		return ErrNone
	}
	return err
}

// unpack undoes gzip, which people use where a cloud gives them little room: 16 KiB on AWS.
func unpack(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	data, err = io.ReadAll(io.LimitReader(r, maxData+1))
	if err == nil && len(data) > maxData {
		err = fmt.Errorf("more than %d bytes", maxData)
	}
	return data, err
}

// A StatusError is an answer that is no success.
type StatusError struct {
	Request string // the method and the URL
	Code    int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %d %s", e.Request, e.Code, http.StatusText(e.Code))
}

// passing says whether another attempt may go better.
func passing(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Code == http.StatusRequestTimeout || s.Code == http.StatusGone || s.Code == http.StatusTooManyRequests || s.Code >= 500
	}
	var n *noAnswer
	return errors.As(err, &n)
}

// A noAnswer is a request that has none.
type noAnswer struct {
	request string
	err     error
}

func (e *noAnswer) Error() string { return e.request + ": " + e.err.Error() }
func (e *noAnswer) Unwrap() error { return e.err }

// repeat attempts until it goes well, or until another attempt cannot, or until ctx ends. It returns what was wrong with
// the last attempt that was not cut short by that end.
func (c Client) repeat(ctx context.Context, attempt func(context.Context) error) error {
	var last error
	for n, pause := 1, c.Pause; ; n, pause = n+1, min(2*pause, 16*c.Pause) {
		each, cancel := context.WithTimeout(ctx, c.Each)
		err := attempt(each)
		cancel()
		if err == nil || !passing(err) {
			return err
		}
		if ctx.Err() != nil && last != nil {
			err = last
		}
		last = err
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("given up after %d attempts: %w", n, err)
		}
	}
}

// web is HTTP over Dial.
func (c Client) web() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: c.Dial, DisableCompression: true, MaxResponseHeaderBytes: maxReply},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A question is one request.
type question struct {
	method string // default GET
	url    string
	header http.Header
	body   []byte
	limit  int // bytes of the answer
}

// ask returns the content of an answer of status 200.
func ask(ctx context.Context, web *http.Client, q question) ([]byte, error) {
	q.method = cmp.Or(q.method, http.MethodGet)
	name := q.method + " " + q.url
	r, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	r.Header = q.header
	answer, err := web.Do(r)
	if err != nil {
		return nil, &noAnswer{name, inner(err)}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, &StatusError{name, answer.StatusCode}
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, int64(q.limit)+1))
	if err != nil {
		return nil, &noAnswer{name, err}
	}
	if len(b) > q.limit {
		return nil, fmt.Errorf("%s: the answer has more than %d bytes", name, q.limit)
	}
	return b, nil
}

// inner is the error without method and URL, which are told anyway.
func inner(err error) error {
	if e := errors.Unwrap(err); e != nil {
		return e
	}
	return err
}
