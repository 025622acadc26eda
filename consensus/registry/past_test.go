package registry

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// said gives every field, and every one below it, a value of its own.
func said(v reflect.Value, next *uint64) {
	*next++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(*next)})))
			return
		}
		for i := range v.NumField() {
			said(v.Field(i), next)
		}
	case reflect.Array:
		for i := range v.Len() {
			said(v.Index(i), next)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			said(v.Index(i), next)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		said(v.Elem(), next)
	case reflect.String:
		v.SetString("word " + string(rune('a'+*next%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(-int64(*next))
	default:
		v.SetUint(*next % 250)
	}
}

// over is a session that is over, of which everything is said.
func over() *Session {
	ses, next := &Session{}, uint64(0)
	said(reflect.ValueOf(ses).Elem(), &next)
	ses.State, ses.Retiring, ses.Holding = SessionEnded, nil, Holding{}
	for i := range ses.Slices {
		ses.Slices[i].State = SliceVoid
	}
	return ses
}

// TestPastSaysAll: a session that is over comes back with every field, also those that
// somebody adds to it.
func TestPastSaysAll(t *testing.T) {
	at := new(remade) // in place of another one, of which nothing stays
	for name, change := range map[string]func(*Session){
		"all said":       func(*Session) {},
		"little said":    func(ses *Session) { *ses = Session{ID: ses.ID, State: SessionEnded} },
		"empty lists":    func(ses *Session) { ses.Leases, ses.Slices, ses.Hello = []netip.Addr{}, []Slice{}, []byte{} },
		"both families":  func(ses *Session) { ses.Leases[1] = netip.MustParseAddr("fd00::1") },
		"mapped address": func(ses *Session) { ses.Leases[1] = netip.MustParseAddr("::ffff:10.0.0.1") },
		"no address":     func(ses *Session) { ses.Leases[1] = netip.Addr{} },
		"large numbers": func(ses *Session) {
			ses.Bytes, ses.Bandwidth, ses.Slices[2].Index, ses.Slices[2].SPI = 1<<64-1, 1<<63, 1<<64-1, 1<<32-1
			ses.Certificate.Ends = 1<<63 - 1
		},
	} {
		ses := over()
		change(ses)
		if back := at.session(ses.ID, ses.past()); !ses.settled() || !reflect.DeepEqual(back, ses) {
			t.Errorf("%s: settled %v\n%+v\n%+v", name, ses.settled(), ses, back)
		}
	}
}

// TestUnsettledStaysWhole: what past can't say is not packed.
func TestUnsettledStaysWhole(t *testing.T) {
	for name, change := range map[string]func(*Session){
		"active":   func(ses *Session) { ses.State = SessionActive },
		"retiring": func(ses *Session) { ses.Retiring = ses.Slices[:1] },
		"none":     func(ses *Session) { ses.Retiring = []Slice{} },
		"tracked":  func(ses *Session) { ses.Tracked = true },
		"held":     func(ses *Session) { ses.Holders = []Holder{{}} },
		"blind":    func(ses *Session) { ses.Blind = 1 },
		"up":       func(ses *Session) { ses.Slices[1].State = SliceUp },
		"zone":     func(ses *Session) { ses.Leases[0] = netip.MustParseAddr("fe80::1%eth0") },
	} {
		ses, list := over(), newSessions()
		list.Put(ses.ID, over())
		change(ses)
		list.Put(ses.ID, ses)
		if list.Get(ses.ID) != ses || list.Len() != 1 {
			t.Errorf("%s: %+v", name, list.Get(ses.ID))
		}
	}
}

// TestListOfBoth: sessions of both kinds are listed in one order, and one has one form.
func TestListOfBoth(t *testing.T) {
	list, want := newSessions(), []SessionID(nil)
	for i := range 40 {
		want = append(want, session(i))
		ses := &Session{ID: session(i), State: SessionActive}
		list.Put(ses.ID, ses)
		if i%3 != 1 {
			list.Put(ses.ID, &Session{ID: ses.ID, State: SessionEnded})
		}
	}
	var all, active []SessionID
	var kept []*Session
	for id, ses := range list.All() {
		kept = append(kept, ses)
		if all = append(all, id); ses.ID != id || (ses.State == SessionEnded) != (len(all)%3 != 2) {
			t.Errorf("session %s is %+v", id, ses)
		}
	}
	for id := range list.Active() {
		active = append(active, id)
	}
	if !slices.Equal(all, want) || !slices.Equal(slices.Collect(list.IDs()), want) || len(active) != 13 || list.Len() != 40 {
		t.Fatalf("%d sessions, %d active: %v", list.Len(), len(active), all)
	}
	for i, ses := range kept {
		if ses.ID != want[i] {
			t.Errorf("session %s became %s", want[i], ses.ID)
		}
	}
	for range list.All() {
		break // its reader may leave early
	}
	list.Delete(session(0))
	list.Delete(session(1))
	if list.Has(session(0)) || list.Has(session(1)) || list.Get(session(2)) == nil || list.Len() != 38 {
		t.Errorf("%d left", list.Len())
	}
}
