package appliance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// Access is the versions of the access files, where they are kept in a database.
type Access interface {
	// Version returns a version with its files, that in force for 0, or ErrNoVersion.
	Version(ctx context.Context, number int64) (AccessVersion, error)
	// Versions returns the latest versions without their files.
	Versions(ctx context.Context, limit int) ([]AccessVersion, error)
	// Read reads files as those of this appliance.
	Read(access.Files) (*access.Rules, error)
	// Apply puts a version in force after the expected one and does what it says to accounts, or nothing: ErrVersion says
	// that another is in force. When it returns this appliance goes by it.
	Apply(ctx context.Context, expected int64, v AccessVersion, accounts []access.AccountChange) (number int64, err error)
}

// An AccessVersion is a version as it is kept.
type AccessVersion struct {
	Number  int64
	Created time.Time
	By      string
	Comment string
	Hash    []byte
	Files   access.Files
}

// The errors of Access, and of those who ask for versions.
var (
	ErrVersion   = frame.Refuse("E_CONFLICT", "somebody has changed the access files meanwhile", "run it again, and look at what changes now")
	ErrNoVersion = frame.Refuse("E_VERSION_UNKNOWN", "there is no such version of the access files", "sallyport admin access list shows them")

	errAccessFiles = frame.Refuse("E_ACCESS_FILES", "this appliance reads its access files from its own disk",
		"change them there, or set access: database in its configuration")
)

// versions returns where the access files are kept, if that is a database.
func (c call) versions() (Access, error) {
	if c.gateway.Access == nil {
		return nil, errAccessFiles
	}
	return c.gateway.Access, nil
}

// maxVersions bounds a list of versions.
const maxVersions = 200

func (c call) accessList() (any, error) {
	versions, err := c.versions()
	if err != nil {
		return nil, err
	}
	all, err := versions.Versions(c.Context(), maxVersions)
	if err != nil {
		return nil, err
	}
	list := []api.AccessVersion{}
	for _, v := range all {
		list = append(list, v.listed())
	}
	return list, nil
}

func (v AccessVersion) listed() api.AccessVersion {
	return api.AccessVersion{Version: v.Number, Created: v.Created.UTC(), By: v.By, Comment: v.Comment, Hash: access.HashText(v.Hash), Files: v.Files}
}

func (c call) accessShow() (any, error) {
	versions, err := c.versions()
	if err != nil {
		return nil, err
	}
	number, err := versionNumber(c.PathValue("version"))
	if err != nil {
		return nil, err
	}
	v, err := versions.Version(c.Context(), number)
	if err != nil {
		return nil, err
	}
	return v.listed(), nil
}

// versionNumber reads a version's number; active is 0.
func versionNumber(text string) (int64, error) {
	if text == "active" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, ErrNoVersion
	}
	return n, nil
}

// accessDiff compares two versions.
func (c call) accessDiff() (any, error) {
	versions, err := c.versions()
	if err != nil {
		return nil, err
	}
	var things [2][]policy.Thing
	for i, key := range []string{"from", "to"} {
		number, err := versionNumber(c.URL.Query().Get(key))
		if err != nil {
			return nil, err
		}
		v, err := versions.Version(c.Context(), number)
		if err != nil {
			return nil, err
		}
		rules, err := versions.Read(v.Files)
		if err != nil {
			return nil, frame.Refuse("E_ACCESS_FAULTS", fmt.Sprintf("version %d has faults on this appliance, as it is configured now: %v", v.Number, firstFault(err)), "")
		}
		things[i] = rules.Things
	}
	return changesOf(access.Diff(things[0], things[1])), nil
}

func firstFault(err error) error {
	var faults policy.Faults
	if errors.As(err, &faults) && len(faults) > 0 {
		return faults[0]
	}
	return err
}

func changesOf(changes []access.Change) []api.AccessChange {
	list := []api.AccessChange{}
	for _, c := range changes {
		one := api.AccessChange{Action: c.Action, Kind: c.Kind, Name: c.Name, Keys: []api.AccessKey{}}
		for _, k := range c.Keys {
			one.Keys = append(one.Keys, api.AccessKey(k))
		}
		list = append(list, one)
	}
	return list
}

// maxAccessAsk bounds a request with access files: base64 makes them longer by a third.
const maxAccessAsk = access.MaxTotal/3*4 + 64<<10

// apply compares files with those in force and, unless it is a dry run, puts them there.
func (c call) apply(ask api.ApplyAccess) (any, error) {
	versions, err := c.versions()
	if err != nil {
		return nil, err
	}
	if err := auth.CheckLabel("comment", ask.Comment); err != nil {
		return nil, err
	}
	files, err := c.filesOf(versions, &ask)
	if err != nil {
		return nil, err
	}
	if !ask.DryRun { // of two here, the second finds the first one's version before it writes anything
		c.gateway.applying.Lock()
		defer c.gateway.applying.Unlock()
	}
	was, err := versions.Version(c.Context(), 0)
	if err != nil && !errors.Is(err, ErrNoVersion) {
		return nil, err
	}
	p, err := c.gateway.planAccess(c.peer, versions, was, files)
	if err != nil || len(p.Faults) > 0 || ask.DryRun {
		return p.AccessPlan, err
	}
	switch {
	case ask.Expected != was.Number:
		return nil, ErrVersion
	case p.NeedsForce && !ask.Force:
		return nil, frame.Refuse("E_LOCKOUT", p.Warnings[0], "use --force if that is what you want")
	}
	packed := files.Pack()
	v := AccessVersion{Created: time.Now(), By: c.peer.User, Comment: ask.Comment, Hash: access.Hash(packed), Files: files}
	e := c.ofAccess(was.Number+1, v)
	e.Detail["summary"] = access.Summary(p.changes)
	if p.NeedsForce {
		e.Detail["force"] = "true"
	}
	if err := c.gateway.demand(e); err != nil { // what gives a right is written first
		return nil, err
	}
	if p.Taken, err = versions.Apply(c.Context(), was.Number, v, p.accounts); err != nil {
		reason := reasonOf(err)
		e.Code, e.Why = string(reason.Code), reason.Sentence
		c.gateway.record(e)
		return nil, err
	}
	c.gateway.Log.Info("access version taken", "version", p.Taken, "by", c.peer.User, "hash", access.HashText(v.Hash), "changes", access.Summary(p.changes))
	return p.AccessPlan, nil
}

// ofAccess is the event of a version that the caller puts in force.
func (c call) ofAccess(number int64, v AccessVersion) audit.Event {
	e := ofCaller(audit.AccessChanged, c.peer)
	e.By, e.Object, e.Why = c.peer.User, fmt.Sprintf("version %d", number), v.Comment
	e.Detail = map[string]string{"version": strconv.FormatInt(number, 10), "hash": access.HashText(v.Hash)}
	return e
}

// filesOf are the files that a request is about.
func (c call) filesOf(versions Access, ask *api.ApplyAccess) (access.Files, error) {
	switch {
	case ask.Rollback == 0:
		return ask.Files, nil
	case len(ask.Files) > 0:
		return nil, frame.Refuse("E_USAGE", "files do not go with a version to go back to", "give one or the other")
	case ask.Rollback < 0:
		return nil, ErrNoVersion
	}
	v, err := versions.Version(c.Context(), ask.Rollback)
	if err == nil && ask.Comment == "" {
		ask.Comment = fmt.Sprintf("back to version %d", ask.Rollback)
	}
	return v.Files, err
}
