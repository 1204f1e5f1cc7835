//go:build linux

package main

import (
	"os"
	"testing"
)

func TestRedisRates(t *testing.T) {
	rates, err := redisRates("\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"2112.5\",\"1.0\"\n\"GET\",\"2753\",\"0.9\"\n")
	if err != nil || rates["SET"] != 2112.5 || rates["GET"] != 2753 {
		t.Errorf("the rates are %v, %v", rates, err)
	}
	for _, out := range []string{"", "\"test\",\"rps\"\n\"SET\",\"1\"\n", "\"SET\"\n", "Error: no route\n", "\"SET"} {
		if _, err := redisRates(out); err == nil {
			t.Errorf("%q has rates", out)
		}
	}
}

func TestCPUTime(t *testing.T) {
	dir := t.TempDir()
	stat := "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 10\n"
	if err := os.WriteFile(dir+"/stat", []byte(stat), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := cpuSeconds(dir); err != nil || s != 3 {
		t.Errorf("250 and 50 ticks are %v s, %v", s, err)
	}
	if err := os.WriteFile(dir+"/stat", []byte("7 (a) S 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cpuSeconds(dir); err == nil {
		t.Error("a stat that is cut has a time")
	}
	if _, err := (netPIDs{app: os.Getpid(), vmm: os.Getpid()}).read(nil); err != nil {
		t.Error(err)
	}
	if _, err := findPIDs(os.Getpid()); err == nil {
		t.Error("a process without children has a VMM")
	}
}
