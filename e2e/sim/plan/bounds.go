package plan

import "time"

// disks says that a fault takes what a node had written.
func (k Kind) disks() bool { return k == OldDisk || k == EmptyDisk || k == LostWrites }

// wide says that a fault is of no node alone.
func (k Kind) wide() bool { return k == Loss || k == Delay || k == Restart }

// minority is how many voters may be wrong for good.
func (s Shape) minority() int { return (s.Voters - 1) / 2 }

// fits says whether a fault may happen beside those that were drawn.
func (d *drawing) fits(f Fault) bool {
	if f.Other.Client && f.Other.Number >= d.Shape.Clients {
		return false
	}
	if f.Kind.wide() || f.Who.Client {
		return d.alone(f)
	}
	return d.alone(f) && (!f.Kind.disks() || d.diskMayGo(f)) && (f.Kind != Clock || d.clockMayGo(f)) && d.awayFromDisks(f)
}

// alone says that nothing of the same kind happens to all, nor anything to the same one,
// at that time.
func (d *drawing) alone(f Fault) bool {
	for _, o := range d.Faults {
		if !overlap(f, o, 0) {
			continue
		}
		same := f.Kind == o.Kind && f.Kind.wide() || !f.Kind.wide() && !o.Kind.wide() && (f.Who == o.Who || f.touches(o.Who) || o.touches(f.Who))
		// Nobody is killed or put back while all are.
		restart := f.Kind == Restart && (o.Kind.ends() || o.Kind == Stop) || o.Kind == Restart && (f.Kind.ends() || f.Kind == Stop)
		if same || restart {
			return false
		}
	}
	return f.Kind != Restart || d.awayFromDisks(f)
}

// ends says that a fault ends processes.
func (k Kind) ends() bool { return k == Kill || k == PowerOff || k == Restart || k.disks() }

// touches says that a cut between two is also of this one.
func (f Fault) touches(w Who) bool { return (f.Kind == Part || f.Kind == PartOneWay) && f.Other == w }

// diskMayGo says that a minority's disks alone go in a plan, each by itself.
func (d *drawing) diskMayGo(f Fault) bool {
	gone := make(map[Who]bool)
	for _, o := range d.Faults {
		if o.Kind.disks() {
			gone[o.Who] = true
		}
		if !o.Kind.wide() && !o.Who.Client && o.Who != f.Who && overlap(f, o, DiskApart) || o.Kind == Restart && overlap(f, o, DiskApart) {
			return false
		}
	}
	gone[f.Who] = true
	return len(gone) <= d.Shape.minority()
}

// clockMayGo says that a minority's clocks alone are wrong at once.
func (d *drawing) clockMayGo(f Fault) bool {
	wrong := 1
	for _, o := range d.Faults {
		if o.Kind == Clock && overlap(f, o, 0) {
			wrong++
		}
	}
	return wrong <= d.Shape.minority()
}

// awayFromDisks says that no other node's disk goes about that time.
func (d *drawing) awayFromDisks(f Fault) bool {
	for _, o := range d.Faults {
		if o.Kind.disks() && (o.Who != f.Who || f.Kind.wide()) && overlap(f, o, DiskApart) && !d.Shape.Beyond {
			return false
		}
	}
	return true
}

// overlap says that two faults are less than that apart.
func overlap(a, b Fault, apart time.Duration) bool {
	return a.At < b.End()+apart && b.At < a.End()+apart
}
