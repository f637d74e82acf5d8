package api

// A ClientFile is what people download the client as: an archive or a Debian package of a release.
type ClientFile struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	System  string `json:"system"` // linux, darwin, windows, or debian for its package
	Arch    string `json:"arch"`   // amd64 or arm64
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"` // in hex
}

// A ClientUpload is how much of a file of a release is there.
type ClientUpload struct {
	Received int64 `json:"received"`
}
