//go:build linux

package mounts

import (
	"context"
	"errors"
	"strings"
	"testing"

	"bake/internal/agent/dm"
	"bake/internal/wire"
)

func TestWindow(t *testing.T) {
	const size = 1 << 20
	for name, c := range map[string]struct {
		offset, size int64
		want         dm.Linear
		words        string
	}{
		"all":            {0, size, dm.Linear{Name: "rootfs", Length: 2048}, ""},
		"middle":         {64 << 10, 128 << 10, dm.Linear{Name: "rootfs", Start: 128, Length: 256}, ""},
		"last sector":    {size - 512, 512, dm.Linear{Name: "rootfs", Start: 2047, Length: 1}, ""},
		"beyond":         {size - 512, 1024, dm.Linear{}, "truncated"},
		"far beyond":     {size + 512, 512, dm.Linear{}, "truncated"},
		"overflow":       {1<<63 - 512, 1<<63 - 512, dm.Linear{}, "truncated"},
		"negative":       {-512, 512, dm.Linear{}, "whole sectors"},
		"negative size":  {0, -512, dm.Linear{}, "whole sectors"},
		"no size":        {512, 0, dm.Linear{}, "whole sectors"},
		"half a sector":  {256, 512, dm.Linear{}, "whole sectors"},
		"sector and ...": {512, 513, dm.Linear{}, "whole sectors"},
	} {
		got, err := window(wire.Rootfs{Device: "/dev/vda", Offset: c.offset, Size: c.size}, size)
		if c.words == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.words)
		}
	}
}

func TestWaitForDevice(t *testing.T) {
	if err := WaitForDevice(t.Context(), "/dev/null"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WaitForDevice(ctx, "/dev/no-such"); err == nil || !strings.Contains(err.Error(), "/dev/no-such did not appear") {
		t.Errorf("a device that is missing: %v", err)
	}
	if err := WaitForDevice(t.Context(), "/dev/null/x"); err == nil {
		t.Error("a path through a device is no error")
	}
}

func TestMountImageRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		r     wire.Rootfs
		words string
	}{
		"type":      {wire.Rootfs{Type: "ntfs", Device: "/dev/vda"}, "erofs, squashfs or ext4"},
		"no device": {wire.Rootfs{Type: "ext4"}, "names no device"},
		"no block":  {wire.Rootfs{Type: "ext4", Device: "/dev/null", Size: 512}, "no block device"},
	} {
		if err := MountImage(t.Context(), c.r); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := MountEphemeral(t.Context(), wire.Ephemeral{Device: "/dev/null", Type: "btrfs"}); err == nil || !strings.Contains(err.Error(), "must be ext4") {
		t.Errorf("an ephemeral disk of another type: %v", err)
	}
}

func TestKnown(t *testing.T) {
	if !Known("proc") || Known("no-such-filesystem") || Known("nodev") {
		t.Error("the list of the kernel's filesystems is read wrongly")
	}
}

func TestExplainMount(t *testing.T) {
	if err := explainMount(errors.New("x")); err.Error() != "x" {
		t.Errorf("%v", err)
	}
}
