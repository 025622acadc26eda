package client

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestReplacedEpochsKeepNobody: after a restart of all nodes each slice has other keys, and the
// older ones wait for late packets for longer than it takes to park.
func TestReplacedEpochsKeepNobody(t *testing.T) {
	f, s := atRest(t)
	f.session.resumed = true
	fresh := []*slice{f.slice(0, 2), f.slice(1, 2)}
	for _, one := range fresh {
		f.supersede(one.key, f.config.Now())
	}
	f.rests(ParkAgain, fresh...)
	if f.slices[s[0].key] == nil {
		t.Fatal("the older epochs are forgotten already: this test shows nothing")
	}
	if n := f.asksToPark(); n != 1 {
		t.Errorf("it asks %d times", n)
	}
}

// TestBackAndParkedWithoutABeat: who came back and moves nothing parks before either end beats, but
// not before the arbiter has said that its slices are up.
func TestBackAndParkedWithoutABeat(t *testing.T) {
	f, s := atRest(t)
	f.session.resumed, f.control.up = true, false
	if f.rests(ParkAgain+TickEvery, s...); f.asksToPark() != 0 {
		t.Error("it asks an arbiter that has not marked its slices yet")
	}
	f.hear(&protocol.Client{Up: &protocol.SliceRef{}})
	if f.rests(ParkAgain/2, s...); f.asksToPark() != 0 {
		t.Error("it does not rest first")
	}
	if f.rests(ParkAgain/2, s...); f.asksToPark() != 1 {
		t.Error("it does not ask")
	}
	if ParkAgain+LookEvery/2 > loop.ClientEvery {
		t.Errorf("it rests for %v, and a beat is due after %v", ParkAgain, loop.ClientEvery)
	}
}

// TestTrickleOfWhoIsBack: it parks after a second, and is not judged by what it moves in one.
func TestTrickleOfWhoIsBack(t *testing.T) {
	f, _ := atRest(t)
	f.session.resumed = true
	if over := f.trickleOver(); over != TrickleLeast {
		t.Errorf("judged over %v", over)
	}
	f.session.resumed = false
	if over := f.trickleOver(); over != TrickleOver {
		t.Errorf("who logged in is judged over %v", over)
	}
}

// backWith is a client with two slices whose arbiter has just granted both anew, and the Confirms
// of its agents.
func backWith(t *testing.T) (f *fixture, confirms [2]confirm) {
	t.Helper()
	f, _ = atRest(t)
	f.said()
	f.connect()
	var offers [2]agreement
	welcome := protocol.Welcome{Session: f.session.welcome.Session, Parks: true, Headless: 900}
	for number := range offers {
		offers[number] = f.offer(uint8(number), 2, nil)
		welcome.Slices = append(welcome.Slices, offers[number].offer)
		welcome.Slices[number].Share = append([]byte(nil), offers[number].offer.Share...)
	}
	f.welcome(welcome)
	for number, a := range offers {
		agent, err := mka.NewAgent(a.offer.Grant, f.arbiter.Public(), &a.share, a.secret, a.agent, mka.Fence{})
		f.ok(err)
		answer, _, err := agent.Accept(f.slices[sliceKey{uint8(number), 2}].accept)
		f.ok(err)
		confirms[number] = confirm{answer}
	}
	return f, confirms
}

// upsSaid is which slices the arbiter was told of since, and of which epochs.
func (f *fixture) upsSaid() (all []sliceKey) {
	for _, m := range f.said() {
		if m.Up != nil {
			all = append(all, sliceKey{m.Up.Number, m.Up.Epoch})
		}
	}
	return all
}

// TestWhoIsBackTellsAllAtOnce: nothing of the epochs that were replaced, and of the others once
// all are keyed: two messages in one write, where it was four in four.
func TestWhoIsBackTellsAllAtOnce(t *testing.T) {
	f, confirms := backWith(t)
	if all := f.upsSaid(); len(all) != 0 {
		t.Errorf("of replaced epochs it says %v", all)
	}
	f.turn(confirms[0])
	if all := f.upsSaid(); len(all) != 0 {
		t.Errorf("while another is keyed it says %v", all)
	}
	f.turn(confirms[1])
	if all := f.upsSaid(); len(all) != 2 || all[0] != (sliceKey{0, 2}) || all[1] != (sliceKey{1, 2}) {
		t.Errorf("it says %v", all)
	}
	if f.tick(); len(f.upsSaid()) != 0 {
		t.Error("it says it twice")
	}
}

// TestNobodyWaitsToTell longer than for a tick, nor at all with something to send, or at a login.
func TestNobodyWaitsToTell(t *testing.T) {
	for name, c := range map[string]struct {
		hurries func(*fixture)
		ticks   bool
	}{
		"at rest":    {func(*fixture) {}, true},
		"sends":      {(*fixture).hostSends, false},
		"it logs in": {func(f *fixture) { f.session.ready = false }, false},
	} {
		f, confirms := backWith(t)
		c.hurries(f)
		f.turn(confirms[0])
		if c.ticks {
			f.tick()
		}
		if all := f.upsSaid(); len(all) != 1 || all[0] != (sliceKey{0, 2}) {
			t.Errorf("%s: it says %v", name, all)
		}
	}
}
