package relay

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// cpu is the time that the process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkModes compares ways to carry a bulk transfer between TCP, outside,
// and the host's end of vsock: in frames as Join does, by the same buffers
// without frames, and with splice(2), which cannot say how a connection ends.
// The CPU seconds are those of source and sink, too.
func BenchmarkModes(b *testing.B) {
	const chunk = 64 << 10
	for _, dir := range []string{"down", "up"} {
		for _, mode := range []string{"frames", "pooled", "splice"} {
			b.Run(dir+"/"+mode, func(b *testing.B) {
				outside, near := tcpPair(b)
				ua, ub := unixPair(b)
				for _, c := range []net.Conn{outside, near} {
					_ = c.SetDeadline(time.Time{})
				}
				go func() {
					switch mode {
					case "frames":
						_ = Join(context.Background(), NewStream(ua), near)
					case "pooled":
						_ = Join(context.Background(), ua, near)
					case "splice":
						if dir == "down" {
							_, _ = io.Copy(ua, near)
							ua.Close()
						} else {
							_, _ = io.Copy(near, ua)
							near.Close()
						}
					}
				}()
				var w io.Writer
				var r io.Reader
				out := make([]byte, chunk)
				if dir == "down" {
					w, r = outside, ub
				} else {
					w, r = ub, outside
					if mode == "frames" {
						binary.BigEndian.PutUint32(out, chunk-4)
					}
				}
				b.SetBytes(chunk)
				before := cpu()
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, chunk)
					for n := 0; n < b.N*(chunk-16); {
						k, err := r.Read(buf)
						if err != nil {
							return
						}
						n += k
					}
				}()
				b.ResetTimer()
				for range b.N {
					if _, err := w.Write(out); err != nil {
						b.Fatal(err)
					}
				}
				<-done
				b.StopTimer()
				b.ReportMetric((cpu()-before).Seconds()/(float64(b.N)*chunk/1e9), "cpu-s/GB")
			})
		}
	}
}
