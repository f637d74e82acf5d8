//go:build !race

package client_test

const bulk = 64 << 20
