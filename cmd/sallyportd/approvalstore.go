package main

import (
	"context"
	"errors"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/store"
)

// approvalStore is the database as the approvals want it.
type approvalStore struct{ *store.Store }

// mostApprovals is how many requests are looked at.
const mostApprovals = 10_000

// Approvals implements auth.ApprovalStore.
func (s approvalStore) Approvals(ctx context.Context, since time.Time) ([]auth.Approval, error) {
	all, err := s.Store.Approvals(ctx, since, mostApprovals)
	list := make([]auth.Approval, 0, len(all))
	for _, a := range all {
		one := auth.Approval{ID: a.ID, User: a.User, Device: a.Device, Target: a.Target, VNet: a.VNet, Protocol: a.Protocol, Reason: a.Reason, Asked: a.Asked,
			Expires: a.Expires, Decided: a.Decided, Approved: a.Decision == store.Approved, By: a.By, Why: a.Why}
		if len(a.Groups) > 0 {
			one.Group = a.Groups[0]
		}
		list = append(list, one)
	}
	return list, approvalFault(err)
}

// Ask implements auth.ApprovalStore.
func (s approvalStore) Ask(ctx context.Context, a auth.Approval) error {
	return approvalFault(s.Store.Ask(ctx, store.Approval{ID: a.ID, User: a.User, Device: a.Device, Target: a.Target, VNet: a.VNet, Protocol: a.Protocol,
		Groups: []string{a.Group}, Reason: a.Reason, Asked: a.Asked, Expires: a.Expires}))
}

// Decide implements auth.ApprovalStore.
func (s approvalStore) Decide(ctx context.Context, a auth.Approval) error {
	decision := store.Denied
	if a.Approved {
		decision = store.Approved
	}
	_, err := s.Store.Decide(ctx, a.ID, decision, a.By, a.Why, a.Decided, a.Expires)
	return approvalFault(err)
}

// Withdraw implements auth.ApprovalStore.
func (s approvalStore) Withdraw(ctx context.Context, a auth.Approval) error {
	return approvalFault(s.EndApproval(ctx, a.ID, a.Expires))
}

// Watch implements auth.ApprovalStore.
func (s approvalStore) Watch(ctx context.Context, f func() error) error {
	return s.Store.Watch(ctx, func(c store.Change) error {
		if c.Subject != store.OfApproval && c.Subject != "" {
			return nil
		}
		return f()
	})
}

// approvalFault is an error of the database as the approvals want it.
func approvalFault(err error) error {
	switch {
	case errors.Is(err, store.ErrConflict):
		return auth.ErrDecided
	case errors.Is(err, store.ErrNotFound):
		return auth.ErrApprovalUnknown
	}
	return controlFault(err)
}
