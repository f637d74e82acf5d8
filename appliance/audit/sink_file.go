package audit

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// A File is a sink that appends the lines to a file, for a shipper of logs to take them from. A file that is rotated away
// is made again.
type File struct {
	Path string
}

// Open makes the file if there is none.
func (c File) Open() (Sink, error) {
	s := &fileSink{path: c.Path}
	return s, s.open()
}

type fileSink struct {
	path string
	f    *os.File
}

func (s *fileSink) open() (err error) {
	s.f, err = os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return err
}

func (s *fileSink) Send(_ context.Context, records []Record) error {
	info, err := s.follow()
	if err != nil {
		return err
	}
	var b []byte
	for _, r := range records {
		b = append(append(b, r.Line...), '\n')
	}
	if _, err := s.f.Write(b); err != nil {
		// All of it is written again, so nothing half is left.
		return errors.Join(err, s.f.Truncate(info.Size()))
	}
	return s.f.Sync()
}

// follow opens the file again if its path is another's now, and returns what it is before the next write.
func (s *fileSink) follow() (fs.FileInfo, error) {
	if s.f == nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	info, err := s.f.Stat()
	if err != nil {
		return nil, err
	}
	there, err := os.Stat(s.path)
	if err == nil && os.SameFile(info, there) {
		return info, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.f.Stat()
}

func (s *fileSink) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
