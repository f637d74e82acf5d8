package api

// ConfigurePath is where a machine without a configuration takes one, by POST. Nothing else of the API is there then.
const ConfigurePath = "/api/v1/configure"

// Configure gives a machine its configuration.
type Configure struct {
	Code     string `json:"code"`     // that the machine's console shows
	Document string `json:"document"` // sallyport.yaml, with files in it; at most 1 MiB
}

// Configured is the answer. With status 200 the document is taken.
type Configured struct {
	Error  string   `json:"error,omitempty"` // why it is not
	Hint   string   `json:"hint,omitempty"`
	Faults []string `json:"faults,omitempty"` // of the document, with lines and columns, with status 422
}
