package store

import (
	"context"
	"time"
)

// The decisions about a request.
const (
	Approved = "approved"
	Denied   = "denied"
)

// An Approval is a request that waits for somebody's yes.
type Approval struct {
	ID       string
	User     string
	Device   string
	Target   string // with its port
	VNet     string
	Protocol string
	Reason   string   // that the person gives; may be empty
	Groups   []string // whose members may decide
	Asked    time.Time
	Expires  time.Time // of the request while it is open, of what it allows afterwards

	Decision string // Approved or Denied; empty while it waits
	By       string
	Why      string
	Decided  time.Time
}

const approvalColumns = "id, person, device, target, protocol, approvers, asked, expires, decision, decided_by, why, decided, vnet, reason"

func scanApproval(row scanner) (a Approval, err error) {
	err = row.Scan(&a.ID, &a.User, &a.Device, &a.Target, &a.Protocol, nameList{&a.Groups}, stamp{&a.Asked}, stamp{&a.Expires},
		&a.Decision, &a.By, &a.Why, stamp{&a.Decided}, &a.VNet, &a.Reason)
	return a, err
}

// Ask adds a request.
func (s *Store) Ask(ctx context.Context, a Approval) error {
	return s.change(ctx, "ask for approval", func(c *change) error {
		c.note(OfApproval, a.ID)
		_, err := c.exec("INSERT INTO approvals ("+approvalColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
			a.ID, a.User, a.Device, a.Target, a.Protocol, names(a.Groups), micros(a.Asked), micros(a.Expires), a.Decision, a.By, a.Why, micros(a.Decided), a.VNet, a.Reason)
		return err
	})
}

// Approval returns a request, or ErrNotFound.
func (s *Store) Approval(ctx context.Context, id string) (Approval, error) {
	return one(ctx, s, "read the approval", scanApproval, "SELECT "+approvalColumns+" FROM approvals WHERE id = $1", id)
}

// Approvals returns the requests that were made since a time, the latest first, at most limit.
func (s *Store) Approvals(ctx context.Context, since time.Time, limit int) ([]Approval, error) {
	return list(ctx, s, "read the approvals", scanApproval,
		"SELECT "+approvalColumns+" FROM approvals WHERE asked >= $1 ORDER BY asked DESC, id LIMIT $2", micros(since), limit)
}

// EndApproval has what a request allows end at a time. ErrConflict means that it allows nothing any more.
func (s *Store) EndApproval(ctx context.Context, id string, at time.Time) error {
	return s.change(ctx, "withdraw the approval", func(c *change) error {
		c.note(OfApproval, id)
		return c.must(ErrConflict, "UPDATE approvals SET expires = $1 WHERE id = $2 AND decision = $3 AND expires > $1", micros(at), id, Approved)
	})
}

// Decide decides a request, once, and says until when that holds. ErrConflict means that it is decided or has expired.
// Whether the person may decide it is the caller's to know.
func (s *Store) Decide(ctx context.Context, id, decision, by, why string, now, until time.Time) (a Approval, err error) {
	err = s.change(ctx, "decide the request", func(c *change) error {
		n, err := c.exec("UPDATE approvals SET decision = $1, decided_by = $2, why = $3, decided = $4, expires = $5 WHERE id = $6 AND decision = '' AND expires > $4",
			decision, by, why, micros(now), micros(until), id)
		if err != nil {
			return err
		}
		if a, err = scanApproval(c.row("SELECT "+approvalColumns+" FROM approvals WHERE id = $1", id)); err != nil {
			return err
		}
		if n == 0 {
			return ErrConflict
		}
		c.note(OfApproval, id)
		return nil
	})
	return a, err
}
