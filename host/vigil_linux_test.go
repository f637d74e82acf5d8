package host

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// briefly makes a parent impatient.
func briefly(p *Parent) { p.HungAfter = 2 * time.Second }

// replaced waits until another worker serves, and says how long that took.
func (r *rig) replaced(pid int) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for deadline := begin.Add(20 * time.Second); time.Now().Before(deadline); {
		if next, err := strconv.Atoi(r.ask("pid")); err == nil && next != pid {
			return time.Since(begin)
		}
	}
	r.t.Fatalf("worker %d was not replaced", pid)
	return 0
}

// A worker that hangs is killed and another one serves: when it is stopped, when its self-test does not pass, and when
// that does not even return.
func TestHungWorkerIsReplaced(t *testing.T) {
	r := startWith(t, t.TempDir(), Plan{}, briefly)
	for _, how := range []string{"", "failing", "stuck"} {
		pid := r.pid()
		time.Sleep(2 * time.Second) // it has answered that it starts
		r.want("", "serving %s", how)
		if how == "" {
			r.logs("state=serving")
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		if took := r.replaced(pid); took < time.Second || took > 10*time.Second {
			t.Errorf("%s: replaced after %v", how, took)
		}
		r.logs(`cause="worker hung: no answer for 2s"`)
	}
}

// A worker that lives is left in peace: with trouble that is not its own, with a self-test that passes later, while the
// start or the drain takes its time, and when the machine has slept.
func TestWorkerThatLivesIsLeftInPeace(t *testing.T) {
	r := startWith(t, t.TempDir(), Plan{Grace: 10 * time.Second}, briefly)
	pid := r.pid()
	time.Sleep(5 * time.Second) // it does not say that it serves
	for _, how := range []string{"troubled", "recovering"} {
		r.want("", "serving %s", how)
		time.Sleep(4 * time.Second)
	}
	r.logs("state=troubled")
	r.logs("state=serving")
	if now := r.pid(); now != pid {
		t.Errorf("worker %d was replaced by %d", pid, now)
	}
	r.ask("drain 5s")
	begin := time.Now()
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	if err := r.wait(); err != nil || time.Since(begin) < 5*time.Second {
		t.Errorf("drained after %v: %v", time.Since(begin), err)
	}
	if r.log.has("worker killed") {
		t.Error("it was killed")
	}
}

// A worker that never has enough of draining is killed, though it says that it lives.
func TestDrainEnds(t *testing.T) {
	r := startWith(t, t.TempDir(), Plan{Grace: time.Second}, briefly)
	r.ask("drain 1h")
	begin := time.Now()
	r.stop()
	r.logs("state=draining")
	err := r.wait()
	if took := time.Since(begin); err != nil || took < 3*time.Second || !r.log.has("worker not drained") {
		t.Errorf("ended after %v: %v", took, err)
	}
}

func TestVigil(t *testing.T) {
	now := time.Now()
	v := vigil{hungAfter: 15 * time.Second}
	tick := func(d time.Duration) (ask, hung bool) { now = now.Add(d); return v.tick(now) }
	seconds := func(n int) (asks int, hung bool) {
		for range n {
			ask, h := tick(time.Second)
			if ask {
				asks++
			}
			hung = hung || h
		}
		return asks, hung
	}
	if asks, hung := seconds(120); asks != 1 || hung {
		t.Errorf("at the start: asked %d times, hung %t", asks, hung)
	}
	if _, hung := seconds(2); !hung {
		t.Error("never answered, and not hung")
	}
	if v.answered(request{Alive: 7, State: serving}) || !v.answered(request{Alive: 1, State: starting}) || v.answered(request{Alive: 1, State: starting}) {
		t.Error("answers are taken for what they are not")
	}
	if asks, _ := seconds(1); asks != 1 {
		t.Error("a worker that starts is not asked at once")
	}
	v.answered(request{Alive: 2, State: serving})
	if asks, _ := seconds(4); asks != 0 {
		t.Error("a worker that serves is asked all the time")
	}
	if asks, hung := seconds(15); asks != 1 || hung {
		t.Errorf("asked %d times, hung %t", asks, hung)
	}
	if _, hung := tick(time.Second); !hung {
		t.Error("silent for 15 seconds, and not hung")
	}

	// A machine that sleeps does not make its worker hang.
	v = vigil{hungAfter: 15 * time.Second}
	tick(0)
	v.answered(request{Alive: 1, State: serving})
	seconds(6)
	if _, hung := tick(8 * time.Hour); hung {
		t.Error("hung after a night")
	}
}
