package registry

import (
	"iter"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
)

// Sessions are those that a state lists, in the order of their IDs. To copy the struct is
// to copy the list.
type Sessions struct {
	whole sorted.Map[SessionID, *Session] // the active ones, and any that past can't say
	past  sorted.Map[SessionID, *past]
}

func newSessions() Sessions {
	return Sessions{
		whole: sorted.New[SessionID, *Session](SessionID.Compare), past: sorted.New[SessionID, *past](SessionID.Compare),
	}
}

// Len is how many there are.
func (s Sessions) Len() int { return s.whole.Len() + s.past.Len() }

// Has reports whether a session is listed.
func (s Sessions) Has(id SessionID) bool { return s.whole.Has(id) || s.past.Has(id) }

// Get is a session; nil if it is not listed.
func (s Sessions) Get(id SessionID) *Session {
	ses, _ := s.Find(id)
	return ses
}

// Find is a session, and whether it is listed.
func (s Sessions) Find(id SessionID) (ses *Session, ok bool) {
	if ses, ok = s.whole.Find(id); ok {
		return ses, true
	}
	if p := s.past.Get(id); p != nil {
		return new(remade).session(id, p), true
	}
	return nil, false
}

// All are the sessions by ID. Each that is over is made for this look.
func (s Sessions) All() iter.Seq2[SessionID, *Session] {
	return s.each(func() *remade { return new(remade) })
}

// passing are All for who keeps none: those that are over are made one in place of the other.
func (s Sessions) passing() iter.Seq2[SessionID, *Session] {
	at := new(remade)
	return s.each(func() *remade { return at })
}

func (s Sessions) each(at func() *remade) iter.Seq2[SessionID, *Session] {
	return func(yield func(SessionID, *Session) bool) {
		for id, is := range s.merged() {
			if is.past != nil {
				is.whole = at().session(id, is.past)
			}
			if !yield(id, is.whole) {
				return
			}
		}
	}
}

// IDs are those of all, in order.
func (s Sessions) IDs() iter.Seq[SessionID] {
	return func(yield func(SessionID) bool) {
		for id := range s.merged() {
			if !yield(id) {
				return
			}
		}
	}
}

// Active are the sessions that are not over, by ID.
func (s Sessions) Active() iter.Seq2[SessionID, *Session] {
	return func(yield func(SessionID, *Session) bool) {
		for id, ses := range s.whole.All() {
			if ses.State == SessionActive && !yield(id, ses) {
				return
			}
		}
	}
}

// Put lists a session, or another version of it.
func (s *Sessions) Put(id SessionID, ses *Session) {
	if ses.settled() {
		s.whole.Delete(id)
		s.past.Put(id, ses.past())
		return
	}
	s.past.Delete(id)
	s.whole.Put(id, ses)
}

// Delete takes a session off the list.
func (s *Sessions) Delete(id SessionID) {
	s.whole.Delete(id)
	s.past.Delete(id)
}

// either is a session in one of its two forms.
type either struct {
	whole *Session
	past  *past
}

func (s Sessions) merged() iter.Seq2[SessionID, either] {
	return func(yield func(SessionID, either) bool) {
		next, stop := iter.Pull2(s.past.All())
		defer stop()
		over, p, more := next()
		for id, ses := range s.whole.All() {
			for ; more && over.Compare(id) < 0; over, p, more = next() {
				if !yield(over, either{past: p}) {
					return
				}
			}
			if !yield(id, either{whole: ses}) {
				return
			}
		}
		for ; more; over, p, more = next() {
			if !yield(over, either{past: p}) {
				return
			}
		}
	}
}
