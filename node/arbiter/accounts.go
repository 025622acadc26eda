package arbiter

import (
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/said"
)

// accounts is what each client of the registry, under all its sessions together, may
// ask of this term: who has logged in is known, but not therefore friendly. Names are
// those of logins that were right, so there are no more of them than clients; or of
// members.
type accounts struct {
	mu     sync.Mutex // protects what follows, and the buckets of each
	byName map[string]*account
}

// account is the allowances of one client.
type account struct {
	places chan struct{} // in the loop's queue
	logins bucket        // that were right, and resumptions
	lines  said.Line     // of the log
}

// of finds a client's account, or opens it.
func (s *accounts) of(name string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = make(map[string]*account)
	}
	if s.byName[name] == nil {
		s.byName[name] = &account{places: make(chan struct{}, MaxSaidEach)}
	}
	return s.byName[name]
}

// enter counts a right login or resumption, each of which is a commit; if there were too
// many, it says in how long one may be.
func (s *accounts) enter(name string, now time.Duration) (wait time.Duration) {
	one := s.of(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return one.logins.take(now, LoginsFree, LoginsRate)
}

// line reports whether something that a client caused may be logged, and how many
// lines before it were not.
func (s *accounts) line(name string, now time.Duration) (unsaid int, ok bool) {
	one := s.of(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return one.lines.Say(now, LinesFree, LinesRate)
}

// bucket is an allowance that fills up again; the zero one is full.
type bucket struct {
	used float64
	at   time.Duration
}

// take uses one of most, of which rate come back each second; if there is none, it
// takes nothing and says in how long there is.
func (b *bucket) take(now time.Duration, most, rate float64) (wait time.Duration) {
	used := max(0, b.used-max(0, now-b.at).Seconds()*rate)
	if used+1 > most {
		return max(1, time.Duration((used+1-most)/rate*float64(time.Second))) // or it were a yes
	}
	b.used, b.at = used+1, now
	return 0
}
