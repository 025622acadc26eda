package registry

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"testing"
)

// anything fills a value, all that it points to included. Half of what may be left out is.
func anything(r *rand.Rand, v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		texts := []string{"10.80.0.9", "fd00::9", "::ffff:10.0.0.1", "fe80::1%<&>"}
		v.Set(reflect.ValueOf(anyOf(r, netip.Addr{}, netip.MustParseAddr(anyOf(r, texts...)))))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(anyOf(r, netip.Prefix{}, prefix("10.80.0.0/14"), prefix("fd00::/64"))))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			anything(r, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			anything(r, v.Index(i))
		}
		if r.IntN(2) == 0 {
			v.SetZero()
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		for i := range v.Len() {
			anything(r, v.Index(i))
		}
		if r.IntN(4) == 0 {
			v.SetZero()
		}
	case reflect.Pointer:
		if r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			anything(r, v.Elem())
		}
	case reflect.String:
		v.SetString(anyOf(r, "", "up", "a/b c~", `a "b" \ c`, "<a&b>", "\u2028ä\x00\x7f", "\xff", "line\n"))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int64:
		v.SetInt(anyOf(r, 0, -1, r.Int64()))
	default:
		v.SetUint(anyOf(r, 0, 1, r.Uint64()>>(64-v.Type().Bits()))) // panics at a kind that no row has yet
	}
}

func anyOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// asJSON compares what a pen writes of a row with what encoding/json does.
func asJSON[T any](t *testing.T, row func(*pen, *T)) {
	r, p := rand.New(rand.NewPCG(3, 4)), newPen(0)
	for range 2_000 {
		v := new(T)
		anything(r, reflect.ValueOf(v).Elem())
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		p.raw = p.raw[:0]
		if row(p, v); p.err != nil || string(p.raw) != string(want) {
			t.Fatalf("%T: %v\n%s\n%s", v, p.err, p.raw, want)
		}
	}
}

// TestRowsAreAsJSON: every member of every row is there, and each as encoding/json writes it.
func TestRowsAreAsJSON(t *testing.T) {
	asJSON(t, (*pen).session)
	asJSON(t, (*pen).lease)
	asJSON(t, (*pen).client)
	asJSON(t, (*pen).certificate)
	asJSON(t, (*pen).command)
}

// written is a mesh of so many sessions, of which two thirds are over, as it is after a day:
// each word said, and as many commands remembered as ever are.
func written(t testing.TB, sessions int, version byte) *State {
	f := many(t, sessions)
	for i := range sessions {
		f.in(i, i/4)
		if i%3 != 0 {
			f.out(i)
		}
	}
	f.s.Enlarged = version == streamVersion
	return f.s
}

// mostMade is how many bytes of garbage a snapshot may make for each session, most of them
// those of the SPIs that its agents used.
const mostMade = 128

// TestSnapshotMakesLittle: the garbage of one does not grow with what there is.
func TestSnapshotMakesLittle(t *testing.T) {
	const few, many = 500, 1_500
	for _, version := range []byte{4, streamVersion} {
		made := func(sessions int) int64 {
			s := written(t, sessions, version)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := WriteSnapshot(io.Discard, s); err != nil || s.version() != version {
				t.Fatalf("version %d, %v", s.version(), err)
			}
			runtime.ReadMemStats(&after)
			return int64(after.TotalAlloc - before.TotalAlloc)
		}
		base, all := made(few), made(many)
		each := (all - base) / (many - few)
		t.Logf("version %d: %d bytes made for %d sessions, %d for each of the next %d", version, base, few, each, many-few)
		if each > mostMade {
			t.Errorf("version %d: %d bytes made for each session, at most %d", version, each, mostMade)
		}
	}
}

// BenchmarkSnapshot is what writing one of 3,000 sessions costs.
func BenchmarkSnapshot(b *testing.B) {
	for _, codec := range []struct {
		name    string
		version byte
	}{{"object", 4}, {"stream", streamVersion}} {
		s := written(b, 3_000, codec.version)
		b.Run(codec.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := WriteSnapshot(io.Discard, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
