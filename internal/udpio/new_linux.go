package udpio

// New makes a Poller, the best of this system.
func New() (Poller, error) { return newEpoll() }
