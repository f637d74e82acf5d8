package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"time"
)

// A segment is a file of the log.
type segment struct {
	first uint64 // the number of its first line
	size  int64
	began time.Time // of its first line
}

func (s segment) name() string { return segmentName(s.first) }

func segmentName(first uint64) string { return fmt.Sprintf("audit-%020d.jsonl", first) }

var segmentForm = regexp.MustCompile(`^audit-([0-9]{20})\.jsonl$`)

// maxSegments bounds a listing. Retention keeps logs far below it.
const maxSegments = 1 << 20

// listSegments returns the segments of a folder in order, without the times at which they began.
func listSegments(fsys fs.FS) ([]segment, error) {
	entries, err := fs.ReadDir(fsys, ".") // sorted by name, and so by first line
	if err != nil {
		return nil, err
	}
	if len(entries) > maxSegments {
		return nil, fmt.Errorf("more than %d files", maxSegments)
	}
	var segments []segment
	for _, entry := range entries {
		match := segmentForm.FindStringSubmatch(entry.Name())
		if match == nil {
			continue
		}
		first, err := strconv.ParseUint(match[1], 10, 64)
		if err != nil {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // retention has taken it meanwhile
		}
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment{first: first, size: info.Size()})
	}
	return segments, nil
}

var (
	errTorn  = errors.New("the file ends in the middle of this line: it is being written, its writer was killed, or the end was cut off")
	errEmpty = errors.New("the segment is empty")
	errLong  = fmt.Errorf("longer than the %d bytes of a line", maxLine)
)

// lines reads a file line by line.
type lines struct {
	r   *bufio.Reader
	n   int   // lines read
	end int64 // where the latest of them ends
}

func readLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine)} }

// next returns a line without its newline, valid until the following call; io.EOF after the last; errTorn where bytes
// without a newline follow it.
func (l *lines) next() ([]byte, error) {
	b, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		l.n++
		l.end += int64(len(b))
		return b[:len(b)-1], nil
	case err == io.EOF && len(b) > 0:
		return nil, errTorn
	case err == bufio.ErrBufferFull:
		return nil, l.long()
	}
	return nil, err
}

// ended reports whether nothing follows the latest line, which is not valid any more.
func (l *lines) ended() bool {
	_, err := l.r.Peek(1)
	return err == io.EOF
}

// long says whether a line of more than maxLine bytes ends at all.
func (l *lines) long() error {
	for {
		switch _, err := l.r.ReadSlice('\n'); err {
		case nil:
			return errLong
		case io.EOF:
			return errTorn
		case bufio.ErrBufferFull:
		default:
			return err
		}
	}
}
