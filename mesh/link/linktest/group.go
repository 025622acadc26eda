package linktest

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// member is a Socket that somebody receives from, as one of a link.Group.
type member struct {
	*Socket
	done chan struct{} // closed when the receiver has ended
}

// Open is what Open of a link.Group is: receive is given what arrives at addr.
func (n *Network) Open(addr netip.AddrPort, receive func(b []byte, t link.Train)) (link.Sender, error) {
	s, err := n.Listen(addr)
	if err != nil {
		return nil, err
	}
	m := &member{s, make(chan struct{})}
	go m.read(receive)
	return m, nil
}

func (m *member) read(receive func([]byte, link.Train)) {
	defer close(m.done)
	b := make([]byte, link.MaxTrain)
	for {
		t, err := m.Receive(b)
		if err != nil {
			return
		}
		receive(b[:t.Len], t)
	}
}

// Close implements link.Sender, and waits for the receiver.
func (m *member) Close() error {
	err := m.Socket.Close()
	<-m.done
	return err
}
