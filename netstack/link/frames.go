package link

import "context"

// Frames are read and written beside a stack; see Aside.
type Frames interface {
	ReadFrame(ctx context.Context, p []byte) (int, error)
	WriteFrame(p []byte) error
}
