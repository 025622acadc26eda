package registry

import "fmt"

// words are the names of the bits, in the order they are listed.
func (Roles) words() [4]string { return [4]string{"voter", "gateway", "agent", "witness"} }

// Names are the words for a set of roles, in a fixed order.
func (r Roles) Names() []string {
	names := []string{}
	for bit, name := range r.words() {
		if r&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// ParseRoles reads role names; an unknown one is ErrInvalid and lists the known.
func ParseRoles(names []string) (r Roles, err error) {
	words := r.words()
next:
	for _, name := range names {
		for bit, word := range words {
			if name == word {
				r |= 1 << bit
				continue next
			}
		}
		return 0, &Error{Code: ErrInvalid.Code, Detail: fmt.Sprintf("unknown role %q (known: %v)", name, words)}
	}
	return r, nil
}
