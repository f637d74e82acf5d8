package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	saltSize = 16
	sumSize  = 32
)

// What a stored hash may ask for. A database that somebody else could write to must not make a login take a gigabyte.
const (
	maxText   = 256
	minMemory = 8         // KiB a lane, of Argon2 itself
	maxMemory = 64 * 1024 // KiB
	maxPasses = 8
	maxLanes  = 4
	minSum    = 16
	maxSum    = 64
	minSalt   = 8
	maxSalt   = 64
)

// params are what a hash costs.
type params struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

// weaker reports whether p costs less than now in any way.
func (p params) weaker(now params) bool {
	return p.memory < now.memory || p.passes < now.passes || p.lanes < now.lanes
}

// A hash is what is kept of a password.
type hash struct {
	params
	salt []byte
	sum  []byte
}

// b64 is the PHC string format's: no padding, and no second spelling of the same bytes.
var b64 = base64.RawStdEncoding.Strict()

// String returns the hash in the PHC string format.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

var errNoHash = errors.New("what is stored as a password is not an argon2id hash in the PHC string format")

// parse reads the PHC string format. It takes what String writes and nothing else.
func parse(text string) (hash, error) {
	if len(text) > maxText || strings.ContainsAny(text, "\r\n") { // which base64 would skip
		return hash{}, errNoHash
	}
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return hash{}, errNoHash
	}
	costs := strings.Split(fields[3], ",")
	if len(costs) != 3 {
		return hash{}, errNoHash
	}
	var h hash
	memory, err1 := cost(costs[0], "m=", maxMemory)
	passes, err2 := cost(costs[1], "t=", maxPasses)
	lanes, err3 := cost(costs[2], "p=", maxLanes)
	if err := errors.Join(err1, err2, err3); err != nil {
		return hash{}, err
	}
	h.params = params{memory: memory, passes: passes, lanes: uint8(lanes)}
	if memory < minMemory*lanes {
		return hash{}, fmt.Errorf("a stored password hash says m=%d, less than %d a lane", memory, minMemory)
	}
	var err error
	if h.salt, err = b64.DecodeString(fields[4]); err != nil || len(h.salt) < minSalt || len(h.salt) > maxSalt {
		return hash{}, errNoHash
	}
	if h.sum, err = b64.DecodeString(fields[5]); err != nil || len(h.sum) < minSum || len(h.sum) > maxSum {
		return hash{}, errNoHash
	}
	return h, nil
}

// cost reads one parameter, from 1 to most, in the only way that String writes it.
func cost(field, name string, most uint32) (uint32, error) {
	digits, ok := strings.CutPrefix(field, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, errNoHash
	}
	if n < 1 || n > uint64(most) {
		return 0, fmt.Errorf("a stored password hash says %s%d; 1 to %d is allowed", name, n, most)
	}
	return uint32(n), nil
}
