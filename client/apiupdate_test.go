package client_test

import (
	"bytes"
	"slices"
	"testing"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/client/clienttest"
)

// TestBring: a file is brought in pieces, and a piece that gets lost is brought again.
func TestBring(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{})
	to := client.NewAPI(dialer(t, signedIn(t, a), client.Options{}))
	defer to.Close()
	file := append([]byte("cut"), make([]byte, 3*api.MaxPiece)...)
	var told []int64
	up := client.Upload{ID: "0011", Size: int64(len(file)), File: bytes.NewReader(file), Told: func(n int64) { told = append(told, n) }}
	got, err := to.Bring(t.Context(), up)
	if err != nil || got.Received != up.Size || got.Version != "1.1.0" {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := []int64{api.MaxPiece, 2 * api.MaxPiece, 3 * api.MaxPiece, up.Size}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	// All of it is there: nothing is brought a second time, and the answer is the same.
	if again, err := to.Bring(t.Context(), up); err != nil || again != got || len(told) != 5 {
		t.Errorf("%+v, %v; told %v", again, err, told)
	}
}
