package client

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// atRest is a client with two slices, welcomed by an arbiter that knows parking, and at
// rest from then on.
func atRest(t *testing.T) (f *fixture, s []*slice) {
	t.Helper()
	f = newFixture(t)
	s = []*slice{f.slice(0, 1), f.slice(1, 1)}
	for _, one := range s {
		one.pair.Ends = int64(100 * time.Hour)
	}
	f.welcomed(true)
	f.rests(TickEvery, s...)
	return f, s
}

// welcomed gives the client a connection and a session.
func (f *fixture) welcomed(parks bool) {
	f.Helper()
	control := f.connect()
	welcomed{control, protocol.Welcome{Session: registry.SessionID{255}, Parks: parks, Headless: 900}}.apply(f.Client)
	f.hear(&protocol.Client{Up: &protocol.SliceRef{}})
}

// asksToPark says how often it asked, until now.
func (f *fixture) asksToPark() (n int) {
	for _, m := range f.said() {
		if m.Park != nil {
			n++
		}
	}
	return n
}

// rests lets time pass while slices' agents are heard.
func (f *fixture) rests(d time.Duration, heard ...*slice) {
	f.Helper()
	for ; d > 0; d -= TickEvery {
		f.clock.Add(int64(TickEvery))
		for _, s := range heard {
			s.pulse.heard(f.config.Now())
			f.hears(s)
		}
		f.tick()
		f.publishIfDirty()
	}
}

// parks takes the client to where it has parked.
func (f *fixture) parks(s ...*slice) {
	f.Helper()
	f.rests(ParkAfter+time.Second, s...)
	if f.asksToPark() == 0 {
		f.Fatal("it does not ask to park")
	}
	controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{Mark: 9}}}.apply(f.Client)
	if f.control != nil || f.parking.mark != 9 || !f.parking.rests.Load() {
		f.Fatal("it does not park")
	}
}

// asked is the kinds of probes that came to an agent since the last call, by any gateway.
func (f *fixture) asked(s *slice) (kinds []byte) {
	f.Helper()
	for gateway := range f.gateways {
		for _, body := range f.arrived(gateway, s) {
			kinds = append(kinds, body[0])
		}
	}
	return kinds
}

// word is an agent's answer.
func (f *fixture) word(s *slice, age time.Duration) {
	f.Helper()
	reply, _, _ := probe.AnswerParked(probe.AskParked(s.pulse.sequence, f.config.Now(), 9), probe.PathGood, 0, age)
	controlMessage{s.key, reply}.apply(f.Client)
}

// TestClientParksAtRest: after a minute, once, or sooner if it had no traffic since it came;
// not by an arbiter that does not know of it, with traffic, or with a slice that is not in use.
func TestClientParksAtRest(t *testing.T) {
	for _, c := range []struct {
		stays, resumed bool
		after          time.Duration
	}{{true, true, ParkAfter}, {true, false, ParkAfter}, {false, false, ParkUnused}, {false, true, ParkAgain}} {
		f, s := atRest(t)
		f.parking.stays, f.session.resumed = c.stays, c.resumed
		f.rests(c.after/2, s...)
		if f.asksToPark() != 0 {
			t.Errorf("%+v: it asks too early", c)
		}
		f.rests(c.after/2, s...)
		if n := f.asksToPark(); n != 1 {
			t.Errorf("%+v: it asks %d times", c, n)
		}
	}
	for name, disturb := range map[string]func(*fixture, []*slice){
		"an older arbiter":    func(f *fixture, _ []*slice) { f.session.welcome.Parks = false },
		"a short headless":    func(f *fixture, _ []*slice) { f.session.welcome.Headless = 60 },
		"a slice is silent":   func(f *fixture, s []*slice) { s[1].condemned = true },
		"not heard there yet": func(f *fixture, s []*slice) { s[1].pulse.trial = true },
		"a slice is dropped":  func(f *fixture, s []*slice) { s[1].retireAt = f.config.Now() + time.Hour },
	} {
		f, s := atRest(t)
		heard := s
		if disturb(f, s); !s[1].proven() {
			heard = s[:1] // or it would be as it should be again
		}
		f.rests(2*ParkAfter, heard...)
		if n := f.asksToPark(); n != 0 {
			t.Errorf("%s: it asks %d times", name, n)
		}
	}
}

// TestUnusedClientParksSooner: not if something began to move meanwhile, nor if an agent
// called it: one that lies could have it resume all the time.
func TestUnusedClientParksSooner(t *testing.T) {
	begin := map[string]func(*fixture, []*slice){
		"it had traffic": func(f *fixture, _ []*slice) { f.parking.stirs(f.config.Now(), Trickle+1, 0) },
		"it was called":  func(f *fixture, s []*slice) { controlMessage{s[0].key, []byte{probe.KindCall}}.apply(f.Client) },
		"nothing":        func(*fixture, []*slice) {},
	}
	for name, begins := range begin {
		f, s := atRest(t)
		f.parking.stays = true // until it has parked
		f.parks(s...)
		begins(f, s)
		f.come("test")
		f.welcomed(true)
		f.rests(ParkUnused, s...)
		if asks := f.asksToPark() != 0; asks != (name == "nothing") {
			t.Errorf("%s: it asks to park: %v", name, asks)
		}
	}
	f, s := atRest(t)
	f.config.ParkAfter = time.Second
	if f.rests(2*time.Second, s...); f.asksToPark() == 0 {
		t.Error("it rests for longer than all may")
	}
	p := parking{moved: 5}
	if !p.rested(ParkUnused, ParkUnused, Trickle+5) || p.rested(ParkUnused-1, ParkUnused, 5) || p.rested(ParkUnused, ParkUnused, Trickle+6) {
		t.Error("it parks while traffic begins, or not at rest")
	}
}

// TestParkingInVain: who is refused asks ever less often, and so does whom an agent that is
// silent when it is asked brings back each time; not who was parked for long.
func TestParkingInVain(t *testing.T) {
	f, s := atRest(t)
	asks := 0
	for range 30 {
		f.rests(time.Minute, s...)
		asks += f.asksToPark()
	}
	if asks > 14 || asks < 5 { // 180 times, each ten seconds, before
		t.Errorf("refused, it asks %d times in half an hour", asks)
	}
	f, s = atRest(t)
	comes := 0
	for until := f.config.Now() + 30*time.Minute; f.config.Now() < until; {
		f.rests(TickEvery, s...)
		if f.asksToPark() == 0 {
			continue
		}
		controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{Mark: 9}}}.apply(f.Client)
		f.rests(ParkedTurn, s...)
		f.condemn(s[:1], s[1], "silent")
		if f.parking.mark != 0 {
			t.Fatal("it does not come")
		}
		s[0].condemned = false
		f.welcomed(true)
		comes++
	}
	if comes > 16 || comes < 5 { // 64 before
		t.Errorf("it comes %d times in half an hour", comes)
	}
	controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{Mark: 9}}}.apply(f.Client)
	f.rests(ParkVainMost, s...)
	f.asksToPark()
	controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{Mark: 9}}}.apply(f.Client)
	f.rests(ParkBriefly, s...)
	f.come("test")
	f.welcomed(true)
	if f.rests(ParkAgain+time.Second, s...); f.asksToPark() != 1 {
		t.Error("after a long rest it does not ask as soon as others do")
	}
}

// TestParkedClientSaysSo: to each agent, at once, and as another once it comes.
func TestParkedClientSaysSo(t *testing.T) {
	f, s := atRest(t)
	for _, one := range s {
		f.asked(one)
	}
	f.parks(s...)
	for _, one := range s {
		if kinds := f.asked(one); len(kinds) == 0 || kinds[len(kinds)-1] != probe.KindParked {
			t.Errorf("slice %d asks by %v", one.key.number, kinds)
		}
	}
	controlMessage{s[0].key, []byte{probe.KindCall}}.apply(f.Client)
	if f.parking.mark != 0 || f.parking.rests.Load() || len(f.redial) != 1 {
		t.Fatal("it does not come when it is called")
	}
	for _, one := range s {
		if kinds := f.asked(one); len(kinds) == 0 || kinds[len(kinds)-1] != probe.KindProbe {
			t.Errorf("slice %d asks by %v", one.key.number, kinds)
		}
	}
}

// TestWhatBringsAParkedClient: all that it would have said over its connection.
func TestWhatBringsAParkedClient(t *testing.T) {
	for name, happens := range map[string]func(*fixture, []*slice){
		"a slice is condemned":  func(f *fixture, s []*slice) { f.condemn(s[:1], s[1], "silent") },
		"keys are over":         func(f *fixture, s []*slice) { s[0].pair.Ends = 1; f.superviseKeys(f.config.Now()) },
		"its gateway is left":   func(f *fixture, s []*slice) { f.leaveGateway(f.config.Now(), "silent"); f.rests(LookEvery) },
		"it stood still":        func(f *fixture, _ []*slice) { f.restart(f.config.Now()) },
		"its network changed":   func(f *fixture, _ []*slice) { f.hurry(moved) },
		"a slice is gone":       func(f *fixture, s []*slice) { s[1].retireAt = f.config.Now() + time.Hour; f.rests(LookEvery, s[0]) },
		"no agent has word":     func(f *fixture, s []*slice) { f.rests(11*time.Minute, s...) },
		"nothing for six hours": func(f *fixture, s []*slice) { f.parking.since -= ParkMost; f.rests(LookEvery, s...) },
	} {
		f, s := atRest(t)
		f.parks(s...)
		if happens(f, s); f.parking.mark != 0 || f.parking.rests.Load() {
			t.Errorf("%s: it does not come", name)
		}
	}
}

// TestParkedClientStays: as long as some agent has word of an arbiter, whatever the others
// have, it goes on beyond its headless time.
func TestParkedClientStays(t *testing.T) {
	f, s := atRest(t)
	f.parks(s...)
	for range 90 {
		f.rests(20*time.Second, s...)
		f.word(s[0], 5*time.Second)
		f.word(s[1], probe.NoWord)
	}
	select {
	case err := <-f.failed:
		t.Fatal(err)
	default:
	}
	if f.parking.mark == 0 {
		t.Fatal("it came for nothing")
	}
	if age := f.config.Now() - f.wordAt; age != 5*time.Second {
		t.Errorf("the last word is %v old", age)
	}
	f.word(s[0], time.Hour)
	if age := f.config.Now() - f.wordAt; age != 5*time.Second {
		t.Errorf("an older word makes it %v old", age)
	}
}

// TestParkedClientAsksInTurns: one slice each ParkedTurn, each slice each ParkedEach, and
// what NATs keep of each slice's port is used as often; ten minutes are some thirty
// questions, not a hundred and twenty.
func TestParkedClientAsksInTurns(t *testing.T) {
	f, s := atRest(t)
	s = append(s, f.slice(2, 1))
	s[2].pair.Ends = s[0].pair.Ends
	f.parks(s...)
	for _, one := range s {
		f.sizesKnown(one)
	}
	f.received(0)
	asked, at, kept := map[uint32]int{}, map[uint32]time.Duration{}, 0
	begun := f.config.Now()
	for now := begun; now < begun+10*time.Minute; now = f.config.Now() {
		f.rests(TickEvery, s...)
		f.heard(now) // an agent's word of an arbiter
		for _, d := range f.received(0) {
			spi, ok := esp.ParseSPI(d)
			if !ok {
				kept++
				continue
			}
			if last := max(at[spi], begun); now-last > ParkedEach {
				t.Errorf("%v since a slice was asked", now-last)
			}
			asked[spi]++
			at[spi] = now
		}
	}
	for _, one := range s {
		if n := asked[one.grant.SPI]; n < 9 || n > 11 {
			t.Errorf("slice %d is asked %d times", one.key.number, n)
		}
	}
	if kept < 56 || kept > 62 {
		t.Errorf("NATs are told %d times to keep the ports of those that are not asked", kept)
	}
}

// sizesKnown has nothing left to be found out of how large a slice's packets may be.
func (f *fixture) sizesKnown(s *slice) {
	for now := f.config.Now(); !s.sizing.search.Settled(); now += time.Second {
		for _, size := range s.sizing.search.Step(pmtu.Tick{Now: now, Heard: now, Patience: time.Second}) {
			s.sizing.search.Pass(size, now)
		}
	}
	f.tick()
	s.sizing.heard = s.sizing.say
}

// TestSilenceInTurns: a gateway that dies is noticed in the next turn, an agent in its own.
func TestSilenceInTurns(t *testing.T) {
	for _, c := range []struct {
		name   string
		dead   int // of two slices
		within time.Duration
	}{{"an agent", 1, 2 * ParkedTurn}, {"the gateway", 2, ParkedTurn}} {
		f, s := atRest(t)
		f.parks(s...)
		f.rests(time.Second, s...)
		began := f.config.Now()
		for f.parking.mark != 0 && f.config.Now() < began+2*ParkedEach {
			f.rests(TickEvery, s[c.dead:]...)
		}
		if took := f.config.Now() - began; took > c.within+2*time.Second {
			t.Errorf("%s: it comes after %v", c.name, took)
		}
	}
}

// TestTrafficBringsAParkedClient: a trickle does not.
func TestTrafficBringsAParkedClient(t *testing.T) {
	p := &parking{}
	for i, moved := range []uint64{0, 1, Trickle, 2 * Trickle, 3*Trickle + 1, 3*Trickle + 2, 7} {
		if stirs := p.stirs(time.Duration(i+1)*TrickleOver, moved, TrickleOver); stirs != (i == 4) {
			t.Errorf("after %d bytes: %v", moved, stirs)
		}
	}
	if p.stirs(p.looked+TrickleOver-1, 100*Trickle, TrickleOver) {
		t.Error("judged by less than its time")
	}
}

// TestParkedTooLate: who has something going when it is let go says so, and stays.
func TestParkedTooLate(t *testing.T) {
	f, s := atRest(t)
	f.rests(ParkAfter+time.Second, s...)
	f.asksToPark()
	s[1].condemned = true
	controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{Mark: 9}}}.apply(f.Client)
	if f.control == nil || f.parking.mark != 0 {
		t.Fatal("it parks with a slice that is silent")
	}
	if len(f.said()) == 0 {
		t.Error("its arbiter takes it for parked when the connection breaks")
	}
}

// TestDialerRests: as long as the client is parked, whatever hurries it, and not longer.
func TestDialerRests(t *testing.T) {
	f, s := atRest(t)
	f.parks(s...)
	f.redial <- again // of earlier
	done := make(chan bool)
	go func() { done <- f.rest(context.Background()) }()
	select {
	case <-done:
		t.Fatal("it dials")
	case <-time.After(20 * time.Millisecond):
	}
	f.come("test")
	if !<-done {
		t.Error("it did not rest")
	}
	if f.rest(context.Background()) {
		t.Error("it rests, and is not parked")
	}
}

// knows gives the client so many gateways; the first is in use.
func (f *fixture) knows(count int) (all []netip.AddrPort) {
	all = append(all, f.Client.gateways.at(f.Client.gateways.current))
	for n := 1; n < count; n++ {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 100 + byte(n)}), 6484))
	}
	f.Client.gateways.replace(all, all[0])
	return all
}

// TestGatewayIsToStop: a parked client whose agent says so goes to the next, stays parked,
// and takes that one last of all.
func TestGatewayIsToStop(t *testing.T) {
	f, s := atRest(t)
	all := f.knows(3)
	f.parks(s...)
	controlMessage{s[0].key, probe.Leaving([]netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:1")})}.apply(f.Client)
	if f.Client.gateways.at(f.Client.gateways.current) != all[0] || f.Client.gateways.count() != 3 {
		t.Fatal("it leaves its gateway for one that it does not know")
	}
	f.tick()
	for range 2 { // each agent says it
		controlMessage{s[0].key, probe.Leaving(all[:1])}.apply(f.Client)
	}
	f.tick()
	if got := f.Client.gateways.list(); f.Client.gateways.at(f.Client.gateways.current) != all[1] || !slices.Equal(got, []netip.AddrPort{all[1], all[2], all[0]}) {
		t.Errorf("it uses %v of %v", f.Client.gateways.at(f.Client.gateways.current), got)
	}
	if f.parking.mark == 0 {
		t.Error("it comes, and knows another")
	}
	for _, one := range s {
		f.word(one, time.Second) // heard by the new one
	}
	if f.rests(2*MoveWithin, s...); f.parking.mark == 0 {
		t.Error("it comes after it has moved")
	}
}

// TestFewGatewaysAreLeft: it comes before it knows one alone; and where the next one does
// not lead to its agents.
func TestFewGatewaysAreLeft(t *testing.T) {
	f, s := atRest(t)
	all := f.knows(2)
	f.parks(s...)
	controlMessage{s[0].key, probe.Leaving(all[:1])}.apply(f.Client)
	if f.parking.mark != 0 || f.Client.gateways.at(f.Client.gateways.current) != all[1] {
		t.Error("it knows one gateway, and does not ask for others")
	}
	if f.parkAfter() != ParkAfter {
		t.Error("an agent that says so again and again has it come as often")
	}
	f, s = atRest(t)
	all = f.knows(3)
	f.parks(s...)
	f.turn(controlMessage{s[0].key, probe.Leaving(all[:1])}) // an event, or one at rest looks no sooner than it has moved
	if f.rests(MoveWithin / 2); f.parking.mark == 0 {
		t.Error("it does not wait until its agents answer by the next one")
	}
	if f.rests(MoveWithin/2 + 2*TickEvery); f.parking.mark != 0 {
		t.Error("it stays where it is not heard")
	}
}

// TestParkedClientMoves to the next gateway when its own is silent, and stays parked: once, if it
// knows others enough and is heard by that.
func TestParkedClientMoves(t *testing.T) {
	for name, c := range map[string]struct {
		gateways, left int
		heard          bool
		after          time.Duration
		parked         bool
	}{
		"heard by the next":       {3, 1, true, 2 * MoveWithin, true},
		"not yet heard":           {3, 1, false, LeftWithin / 2, true},
		"not heard":               {3, 1, false, LeftWithin + 2*TickEvery, false},
		"the next one silent too": {3, 2, false, 2 * TickEvery, false},
		"one other is known":      {2, 1, false, 2 * TickEvery, false},
	} {
		f, s := atRest(t)
		all := f.knows(c.gateways)
		f.parks(s...)
		for n := range c.left {
			if n > 0 {
				f.rests(LeftWithin / 2)
			}
			f.leaveGateway(f.config.Now(), "silent")
		}
		f.calm.is = false // as after the event that it was
		if !c.heard {
			s = nil
		}
		for _, one := range s {
			f.word(one, time.Second)
		}
		if f.rests(c.after, s...); (f.parking.mark != 0) != c.parked {
			t.Errorf("%s: parked %t", name, f.parking.mark != 0)
		}
		if at := f.Client.gateways.at(f.Client.gateways.current); c.heard && at != all[1] {
			t.Errorf("%s: it goes by %v", name, at)
		}
	}
	f, _ := atRest(t)
	f.knows(3)
	f.leaveGateway(f.config.Now(), "silent")
	if f.rests(TickEvery); f.parking.calm != f.config.Now() {
		t.Error("one that has a connection is calm while it moves")
	}
}

// TestLyingAgentTakesNoGatewayAway: whom agents lead to one gateway, which may be the liar's
// own, comes by that, and by the others if it is let down there.
func TestLyingAgentTakesNoGatewayAway(t *testing.T) {
	f, s := atRest(t)
	all := f.knows(4)
	f.parks(s...)
	for n, one := range all[:3] {
		if f.parking.mark == 0 {
			t.Fatalf("it comes after %d", n)
		}
		controlMessage{s[0].key, probe.Leaving(all[3:])}.apply(f.Client) // it does not come by that one
		controlMessage{s[0].key, probe.Leaving([]netip.AddrPort{one})}.apply(f.Client)
		f.tick()
	}
	if got := f.Client.gateways.list(); f.parking.mark != 0 || f.Client.gateways.at(f.Client.gateways.current) != all[3] || len(got) != 4 {
		t.Errorf("mark %d, it uses %v of %v", f.parking.mark, f.Client.gateways.at(f.Client.gateways.current), got)
	}
	if len(f.parking.closing) > 0 {
		t.Errorf("what was said before it came counts: %v", f.parking.closing)
	}
}

// TestGatewaysOfTheArbiter: who is connected does not take an agent's word on them.
func TestGatewaysOfTheArbiter(t *testing.T) {
	f, s := atRest(t)
	all := f.knows(3)
	controlMessage{s[0].key, probe.Leaving(all[:1])}.apply(f.Client)
	if f.Client.gateways.at(f.Client.gateways.current) != all[0] || f.Client.gateways.count() != 3 {
		t.Error("it leaves a gateway")
	}
}

// TestParkedClientThatIsAskedWhereItIs: by one slice, whose way is another than before. It
// asks by the others, whose ways may be gone, and not again for what it asked itself.
func TestParkedClientThatIsAskedWhereItIs(t *testing.T) {
	f, s := atRest(t)
	s = append(s, f.slice(2, 1))
	s[2].pair.Ends = s[0].pair.Ends
	f.parks(s...)
	f.rests(ParkedTurn, s...)
	for _, one := range s {
		f.asked(one)
	}
	s[0].pulse.askedAt = f.config.Now() // its turn is now
	for range 3 {
		controlMessage{s[0].key, probe.Seen(probe.Token{1})}.apply(f.Client)
	}
	for n, one := range s {
		if kinds := f.asked(one); len(kinds) != min(n, 1) || n > 0 && kinds[0] != probe.KindParked {
			t.Errorf("slice %d asks by %v", n, kinds)
		}
	}
}

// TestWordsThatCount: neither one to a question of before its gateway changed, nor one of the
// future, makes a client take the arbiter for alive.
func TestWordsThatCount(t *testing.T) {
	f, s := atRest(t)
	f.parks(s...)
	f.rests(time.Minute, s...)
	now, was := f.config.Now(), f.wordAt
	reply, _, _ := probe.AnswerParked(probe.AskParked(s[0].pulse.sequence, now+time.Hour, 9), probe.PathGood, 0, 0)
	s[0].pulse.first = s[0].pulse.sequence + 1
	if (controlMessage{s[0].key, reply}).apply(f.Client); f.wordAt != was {
		t.Errorf("an old word counts as of %v", f.wordAt)
	}
	s[0].pulse.first = 0
	if (controlMessage{s[0].key, reply}).apply(f.Client); f.wordAt != now {
		t.Errorf("a word counts as of %v, it is %v", f.wordAt, now)
	}
}

// TestNoMarkIsNoParking: under none it would rest, and never come.
func TestNoMarkIsNoParking(t *testing.T) {
	f, s := atRest(t)
	f.rests(ParkAfter+time.Second, s...)
	if f.asksToPark() == 0 {
		t.Fatal("it does not ask")
	}
	controlReceived{f.control, &protocol.Client{Parked: &protocol.Parked{}}}.apply(f.Client)
	if f.control == nil || f.parking.rests.Load() {
		t.Error("it parks")
	}
}

// TestComesByItsGateway: by the one that carries its data.
func TestComesByItsGateway(t *testing.T) {
	f, s := atRest(t)
	f.knows(3)
	f.parks(s...)
	f.Client.gateways.current = 2
	if f.come("it is called"); f.parking.through.Load() != 2 {
		t.Errorf("it comes by gateway %d", f.parking.through.Load())
	}
}
