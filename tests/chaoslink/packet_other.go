//go:build !linux

package main

import (
	"context"
	"errors"
)

func packet(context.Context, []string) error {
	return errors.New("packets are carried on Linux only")
}
