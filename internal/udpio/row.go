package udpio

// rowLen is how many datagrams a Row gathers.
const rowLen = 64

// A Row gathers datagrams for one socket after another and sends those in a
// row for the same one together. The zero value with Failed set is ready. It is for
// one goroutine.
type Row[T any] struct {
	// Failed is called for what could not be sent, with the tag it was added
	// with; see [Socket.Send].
	Failed func(tag T, d Datagram, err error)

	socket    Socket
	datagrams []Datagram
	tags      []T
}

// Add sends d by the next Flush at the latest, until when its payload must stay.
func (r *Row[T]) Add(s Socket, d Datagram, tag T) {
	if s != r.socket || len(r.datagrams) == rowLen {
		r.Flush()
		r.socket = s
	}
	r.datagrams = append(r.datagrams, d)
	r.tags = append(r.tags, tag)
}

// Flush sends what was added.
func (r *Row[T]) Flush() {
	if len(r.datagrams) == 0 {
		return
	}
	r.socket.Send(r.datagrams, r.failed)
	clear(r.datagrams)
	clear(r.tags)
	r.datagrams, r.tags, r.socket = r.datagrams[:0], r.tags[:0], nil
}

func (r *Row[T]) failed(i int, err error) { r.Failed(r.tags[i], r.datagrams[i], err) }
