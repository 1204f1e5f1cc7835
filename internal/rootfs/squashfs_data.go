package rootfs

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// squashFile is where the contents of a file went.
type squashFile struct {
	start    int64    // of its first block
	blocks   []uint32 // stored size of each, with squashRawBlock; 0 is a hole
	sparse   int64    // bytes in holes
	fragment uint32   // squashNone, or the fragment block of the rest
	offset   uint32   // in the fragment block
}

// squashJob is one block on its way: read in order, compressed by any worker,
// written in order.
type squashJob struct {
	in    []byte
	out   []byte // what to store, unless raw
	raw   bool   // in doesn't get smaller
	hole  bool
	file  *squashFile // of a file's block; nil for a fragment block
	block int         // of the file
	done  chan struct{}
}

// writeData writes the contents of all files and returns where they end.
func (s *squash) writeData(ctx context.Context, w io.WriterAt) (int64, error) {
	dup, err := duplicates(ctx, s.list, 1)
	if err != nil {
		return 0, err
	}
	s.files = make(map[*Inode]*squashFile)
	g, ctx := errgroup.WithContext(ctx)
	depth := 2 * s.opts.Workers
	work := make(chan *squashJob, depth)
	order := make(chan *squashJob, depth)
	free := make(chan *squashJob, depth+s.opts.Workers+2)
	for range cap(free) {
		free <- &squashJob{done: make(chan struct{}, 1)}
	}
	r := squashReader{ctx: ctx, s: s, work: work, order: order, free: free}
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return r.run(dup)
	})
	for range s.opts.Workers {
		g.Go(func() error {
			enc, err := newSquashEncoder(s.opts.BlockSize)
			if err != nil {
				return err
			}
			defer enc.Close()
			var buf []byte
			for j := range work {
				j.hole = j.file != nil && isZero(j.in)
				if !j.hole {
					buf = enc.EncodeAll(j.in, buf[:0])
					if j.raw = len(buf) >= len(j.in); !j.raw {
						j.out = append(j.out[:0], buf...)
					}
				}
				j.done <- struct{}{}
			}
			return nil
		})
	}
	end := int64(squashSuperSize)
	g.Go(func() error {
		for j := range order {
			select {
			case <-j.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := s.store(w, j, &end); err != nil {
				return err
			}
			free <- j
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return end, nil
}

// store writes one finished block.
func (s *squash) store(w io.WriterAt, j *squashJob, end *int64) error {
	if j.file != nil && j.block == 0 {
		j.file.start = *end
	}
	if j.hole {
		j.file.blocks[j.block] = 0
		j.file.sparse += int64(len(j.in))
		return nil
	}
	data, size := j.out, uint32(len(j.out))
	if j.raw {
		data, size = j.in, uint32(len(j.in))|squashRawBlock
	}
	if j.file != nil {
		j.file.blocks[j.block] = size
	} else {
		s.fragments = append(s.fragments, squashFragment{*end, size})
	}
	if _, err := w.WriteAt(data, *end); err != nil {
		return err
	}
	*end += int64(len(data))
	return nil
}

// squashReader cuts files into blocks, in the order of the inodes.
type squashReader struct {
	ctx   context.Context // of this one image
	s     *squash
	work  chan<- *squashJob
	order chan<- *squashJob
	free  <-chan *squashJob
	o     opener
	frag  *squashJob // the fragment block being filled
	next  int        // number of it
}

func (r *squashReader) run(dup map[*Inode]*Inode) error {
	defer r.o.close()
	for _, n := range r.s.list {
		if !n.IsRegular() {
			continue
		}
		if first := dup[n]; first != nil {
			r.s.files[n] = r.s.files[first]
			continue
		}
		if err := r.file(n); err != nil {
			return err
		}
	}
	return r.flushFragment()
}

func (r *squashReader) file(n *Inode) error {
	f := &squashFile{fragment: squashNone}
	r.s.files[n] = f
	if n.Size == 0 {
		return nil
	}
	ra, off, err := r.o.open(n)
	if err != nil {
		return err
	}
	size := int64(r.s.opts.BlockSize)
	f.blocks = make([]uint32, n.Size/size)
	for i := range f.blocks {
		j, err := r.job()
		if err != nil {
			return err
		}
		j.in = j.in[:size]
		j.file, j.block = f, i
		if err := readFull(ra, j.in, off+int64(i)*size); err != nil {
			return err
		}
		if err := r.send(j); err != nil {
			return err
		}
	}
	rest := n.Size % size
	if rest == 0 {
		return nil
	}
	if r.frag != nil && int64(len(r.frag.in))+rest > size {
		if err := r.flushFragment(); err != nil {
			return err
		}
	}
	if r.frag == nil {
		if r.frag, err = r.job(); err != nil {
			return err
		}
		r.frag.file = nil
	}
	start := len(r.frag.in)
	f.fragment, f.offset = uint32(r.next), uint32(start)
	r.frag.in = r.frag.in[:start+int(rest)]
	return readFull(ra, r.frag.in[start:], off+n.Size-rest)
}

func (r *squashReader) flushFragment() error {
	if r.frag == nil {
		return nil
	}
	j := r.frag
	r.frag = nil
	r.next++
	return r.send(j)
}

// job waits for a buffer.
func (r *squashReader) job() (*squashJob, error) {
	select {
	case j := <-r.free:
		if j.in == nil {
			j.in = make([]byte, r.s.opts.BlockSize)
		}
		j.in = j.in[:0]
		return j, nil
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

func (r *squashReader) send(j *squashJob) error {
	for _, c := range []chan<- *squashJob{r.order, r.work} {
		select {
		case c <- j:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	return nil
}
