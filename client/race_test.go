//go:build race

package client_test

// bulk is what is moved where much is meant: less under the race detector, which makes it twenty times as dear.
const bulk = 16 << 20
