package masquerade

// reason is why a flow did not begin.
type reason int

const (
	fine       reason = iota
	notOffered        // the mesh does not offer the destination
	unreached         // the destination refused, or did not answer
	tooMany
	tooManyOfClient
	twice  // a datagram of a flow that is beginning
	ending // this process stops
	reasons
)

// String is the reason's name among the counters.
func (r reason) String() string {
	return [reasons]string{"fine", "not-offered", "unreached", "flows", "flows-of-client", "flow-begins", "ending"}[r]
}
