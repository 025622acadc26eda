package loop

// Apart does what needs much stack, as a handshake does, on a goroutine of its own, and
// waits for it. The one that stays with a connection keeps, for days, what it ever needed.
func Apart(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	<-done
}
