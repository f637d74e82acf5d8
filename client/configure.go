package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// ConfigureOptions say which machine is to be given a configuration.
type ConfigureOptions struct {
	URL         string // of the machine, as its console shows it
	Fingerprint string // SHA-256 of its certificate's public key, as its console shows it
	Code        string // that its console shows
	Document    []byte // sallyport.yaml, with files in it; at most 1 MiB
}

// configureTimeout is for the whole exchange: a mebibyte over a slow network, and an answer.
const configureTimeout = 2 * time.Minute

// Configure gives a configuration to a machine that runs the appliance's image and has none. The faults are what is wrong
// with the document, one a line; then it is not taken.
func Configure(ctx context.Context, o ConfigureOptions) (faults []string, err error) {
	address, err := ParseAppliance(o.URL)
	if err != nil {
		return nil, err
	}
	pin, err := ParseFingerprint(o.Fingerprint)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(api.Configure{Code: o.Code, Document: string(o.Document)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	trust := Trust{Kind: TrustPin, Pin: pin}
	web := &http.Transport{TLSClientConfig: trust.config(address), TLSHandshakeTimeout: 30 * time.Second}
	defer web.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+api.ConfigurePath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := web.RoundTrip(r)
	if err != nil {
		if _, told := frame.ReasonOf(err); told || errors.Is(err, context.Canceled) {
			return nil, err
		}
		return nil, frame.Refuse("E_NO_PATH", fmt.Sprintf("%s was not reached: %v", address, err), "compare the address with the one on the machine's console")
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, frame.Refuse("E_USAGE", address+" does not wait for a configuration", "one that has a configuration takes no other in this way")
	}
	var a api.Configured
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&a); err != nil {
		return nil, frame.Refuse("E_USAGE", fmt.Sprintf("%s does not answer like a machine that waits for a configuration: %s", address, answer.Status), "check the URL")
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return nil, nil
	case http.StatusUnprocessableEntity:
		return a.Faults, nil
	case http.StatusForbidden:
		return nil, frame.Refuse("E_CODE_UNKNOWN", a.Error, a.Hint)
	case http.StatusTooManyRequests:
		return nil, frame.Refuse("E_CODE_LIMIT", a.Error, a.Hint)
	}
	return nil, frame.Refuse("E_USAGE", a.Error, a.Hint)
}
