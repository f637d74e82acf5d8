package appliance

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/frame"
)

// Clients is what people download the client as. Refusals are a frame.Reason's.
type Clients interface {
	// List is what there is.
	List() ([]api.ClientFile, error)

	// File opens one of them.
	File(name string) (*os.File, api.ClientFile, error)

	// Put takes a piece of a file. Where the piece does not begin at what there is, nothing changes, and the answer says
	// what there is. With the last of a release, which says what belongs to it, list is what is there then.
	Put(name, sha256 string, offset, size int64, piece io.Reader) (received int64, list []api.ClientFile, err error)
}

// errNoClients is the answer where there is nothing to download from.
var errNoClients = frame.Refuse("E_CLIENT_UNKNOWN", "this appliance keeps no files of the client", "ask an administrator for it")

// clients is what there is, for who is no guest: a guest has a browser and one target.
func (c call) clients() (Clients, error) {
	if _, guest := c.gateway.linkOf(c.peer.Device); guest {
		return nil, frame.Refuse("E_DENIED", "a guest needs no client", "open the link's target in this browser")
	}
	if c.gateway.Clients == nil {
		return nil, errNoClients
	}
	return c.gateway.Clients, nil
}

func (c call) listClients() (any, error) {
	all, err := c.clients()
	if err != nil {
		return nil, err
	}
	return all.List()
}

// downloadClient answers with a file.
func (c call) downloadClient() (any, error) {
	all, err := c.clients()
	if err != nil {
		return nil, err
	}
	left, err := c.gateway.downloads.begin(c.peer.User)
	if err != nil {
		return nil, err
	}
	file, is, err := all.File(c.PathValue("name"))
	if err != nil {
		left()
		return nil, err
	}
	return &download{file, is.Name, is.SHA256, left}, nil
}

// downloads are those that go on, which may take long where somebody's line is slow. Its zero value is none.
type downloads struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by user
}

const (
	maxDownloads   = 128
	maxDownloadsOf = 4
)

// begin counts one in, until left is called.
func (d *downloads) begin(user string) (left func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxDownloads || d.of[user] >= maxDownloadsOf {
		return nil, frame.Refuse("E_BUSY", "too many downloads go on", "wait until one has ended")
	}
	if d.of == nil {
		d.of = map[string]int{}
	}
	d.all++
	d.of[user]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all--
		if d.of[user]--; d.of[user] == 0 {
			delete(d.of, user)
		}
	}, nil
}

func (c call) uploadClient() (any, error) {
	all, err := c.clients()
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	offset, badOffset := strconv.ParseInt(q.Get("offset"), 10, 64)
	size, badSize := strconv.ParseInt(q.Get("size"), 10, 64)
	if badOffset != nil || badSize != nil || offset < 0 || offset >= size {
		return nil, frame.Refuse("E_USAGE", "a piece needs name, sha256, offset and size", "")
	}
	received, list, err := all.Put(q.Get("name"), q.Get("sha256"), offset, size, c.Body)
	if err != nil {
		return nil, err
	}
	if list != nil {
		e := ofCaller(audit.ClientsChanged, c.peer)
		e.Object, e.Detail = list[0].Version, map[string]string{"files": strconv.Itoa(len(list)), "sha256": q.Get("sha256")}
		c.gateway.record(e)
		c.gateway.Log.Info("other files of the client are offered", "version", list[0].Version, "files", len(list), "by", c.peer.User)
	}
	return api.ClientUpload{Received: received}, nil
}

// A download is an answer that is a file and not JSON. Its name is one that needs no quoting.
type download struct {
	*os.File
	name, sum string
	left      func() // is called when it has ended
}

// serve writes the file, or the part of it that was asked for.
func (d *download) serve(w http.ResponseWriter, r *http.Request) {
	defer d.left()
	defer d.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("ETag", `"`+d.sum+`"`)
	info, err := d.Stat()
	if err != nil {
		reply(w, nil, err)
		return
	}
	http.ServeContent(w, r, d.name, info.ModTime(), d)
}
