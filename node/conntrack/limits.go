package conntrack

// eventBuffer is the kernel's queue of changes that were not heard yet, in
// bytes: about 10,000 new flows at once.
const eventBuffer = 4 << 20
