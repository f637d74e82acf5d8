package client_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"sallyport/client"
	"sallyport/client/clienttest"
)

// Another user of the computer gets no answer, even where the folders would let them in.
func TestAgentOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	home := signedIn(t, clienttest.Start(t, clienttest.Config{}))
	running(t, &client.Agent{Home: home, Version: "v1"})
	socket := socketOf(home)
	for dir := filepath.Dir(socket); dir != os.TempDir(); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o711)
	}
	os.Chmod(socket, 0o666)
	for uid, want := range map[uintptr]bool{0: true, 65534: false} {
		type reply struct {
			b   []byte
			err error
		}
		replies := make(chan reply)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends, and with it who it was
			if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); e != 0 {
				replies <- reply{nil, e}
				return
			}
			c, err := net.Dial("unix", socket)
			if err != nil {
				replies <- reply{nil, err}
				return
			}
			defer c.Close()
			const question = `{"version":"","ask":"status"}`
			io.WriteString(c, "\x00"+string(rune(len(question)))+question)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			b, err := io.ReadAll(c)
			replies <- reply{b, err}
		}()
		r := <-replies
		if errors.Is(r.err, os.ErrPermission) || errors.Is(r.err, os.ErrDeadlineExceeded) || (len(r.b) > 0) != want {
			t.Errorf("user %d gets %q, %v", uid, r.b, r.err)
		}
	}
}
