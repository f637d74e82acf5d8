package frame

// Say sends a whole frame, such as an optional one.
func (s *Stream) Say(frame []byte) { s.owe(frame) }

// Holds is how many bytes of slabs the flow has for what is not acknowledged, and for what is not taken.
func (s *Stream) Holds() (replay, spill int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.spill.len() {
		spill += len(s.spill.at(i).mem)
	}
	return s.held, spill
}
