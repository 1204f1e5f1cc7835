package forward

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// port is a Port in one line.
func port(proto Proto, host string, first, last, vm uint16) Port {
	return Port{proto, netip.MustParseAddr(host), first, last, vm}
}

func TestParse(t *testing.T) {
	const lo = "127.0.0.1"
	for _, tt := range []struct {
		in   string
		want []Port
	}{
		{"8080:80", []Port{port(TCP, lo, 8080, 8080, 80)}},
		{"8080:80/tcp", []Port{port(TCP, lo, 8080, 8080, 80)}},
		{"8080:80/TCP", []Port{port(TCP, lo, 8080, 8080, 80)}},
		{"5353:53/udp", []Port{port(UDP, lo, 5353, 5353, 53)}},
		{"65535:65535", []Port{port(TCP, lo, 65535, 65535, 65535)}},
		// Any port of the host.
		{"80", []Port{port(TCP, lo, 0, 0, 80)}},
		{":80", []Port{port(TCP, lo, 0, 0, 80)}},
		{"0:80", []Port{port(TCP, lo, 0, 0, 80)}},
		{"53/udp", []Port{port(UDP, lo, 0, 0, 53)}},
		{"0.0.0.0::80", []Port{port(TCP, "0.0.0.0", 0, 0, 80)}},
		{"[::1]::80", []Port{port(TCP, "::1", 0, 0, 80)}},
		{"80-82", []Port{port(TCP, lo, 0, 0, 80), port(TCP, lo, 0, 0, 81), port(TCP, lo, 0, 0, 82)}},
		// Addresses.
		{"0.0.0.0:8080:80", []Port{port(TCP, "0.0.0.0", 8080, 8080, 80)}},
		{"[::1]:8080:80", []Port{port(TCP, "::1", 8080, 8080, 80)}},
		{"[::]:8080:80/udp", []Port{port(UDP, "::", 8080, 8080, 80)}},
		{"[::ffff:127.0.0.2]:8080:80", []Port{port(TCP, "127.0.0.2", 8080, 8080, 80)}},
		{"[fe80::1%eth0]:8080:80", []Port{port(TCP, "fe80::1%eth0", 8080, 8080, 80)}},
		// Ranges.
		{"8000-8002:80-82", []Port{port(TCP, lo, 8000, 8000, 80), port(TCP, lo, 8001, 8001, 81), port(TCP, lo, 8002, 8002, 82)}},
		{"8000-8000:80", []Port{port(TCP, lo, 8000, 8000, 80)}},
		{"8000-8001:53-54/udp", []Port{port(UDP, lo, 8000, 8000, 53), port(UDP, lo, 8001, 8001, 54)}},
		{"8000-9000:80", []Port{port(TCP, lo, 8000, 9000, 80)}},
		{"[::1]:65534-65535:65534-65535", []Port{port(TCP, "::1", 65534, 65534, 65534), port(TCP, "::1", 65535, 65535, 65535)}},
		{"1-65535:80", []Port{port(TCP, lo, 1, 65535, 80)}},
	} {
		got, err := Parse(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Parse(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                       `port in the VM ""`,
		"8080:":                  `port in the VM ""`,
		"80:0":                   `port in the VM "0"`,
		"80:0-5":                 `port in the VM "0-5"`,
		"80:65536":               `port in the VM "65536"`,
		"80:+80":                 `port in the VM "+80"`,
		"80:http":                `port in the VM "http"`,
		"65536:80":               `host port "65536"`,
		"x:80":                   `host port "x"`,
		"0-5:80":                 `host port "0-5"`,
		"5-4:80":                 `host port "5-4"`,
		"5-:80":                  `host port "5-"`,
		"-5:80":                  `host port "-5"`,
		" 80:80":                 `host port " 80"`,
		"8000-8001:80-82":        "the host's range has 2 ports and the VM's 3",
		"8000:80-82":             "the host's range has 1 ports and the VM's 3",
		"8000-8003:80-82":        "the host's range has 4 ports and the VM's 3",
		"1-1001:1-1001":          "1001 ports and at most 1000",
		"1-65535":                "65535 ports and at most 1000",
		"host:80:80":             `"host" is not an IP address`,
		"127.0.0.1:80":           "127.0.0.1::80",
		"127.0.0.300:80:80":      `"127.0.0.300" is not an IP address`,
		"::1:8080:80":            "in brackets",
		"2001:db8::1:8080:80":    "in brackets",
		"[::1:8080:80":           "not closed",
		"[::1]:80":               "[::1]::80",
		"[::1]":                  "[::1]::80",
		"[]:80:80":               `"" is not an IP address`,
		"[127.0.0.1]:80:80":      "not an IP address",
		"[::1]:1:2:3":            "HOST:VM",
		"80:80/sctp":             `"sctp" cannot be published, only tcp and udp`,
		"80:80/":                 `"" cannot be published`,
		"80:80/tcp/udp":          `"tcp/udp" cannot be published`,
		"80:80 /tcp":             `port in the VM "80 "`,
		"8080:80,9090:90":        `"8080" is not an IP address`,
		"1:2:3:4":                "too many colons",
		"0.0.0.0:1-1001:1-1001":  "at most 1000",
		"18446744073709551617:1": "host port",
	} {
		got, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--publish") {
			t.Errorf("Parse(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

// What is read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"8080:80", "80", "[::1]:1-3:4-6/udp", "0.0.0.0:1-9:80", "[fe80::1%e]::80", "::1:80:80", "[", "80-79", "0:80/sctp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := Parse(s)
		if err != nil {
			return
		}
		if len(ports) == 0 || len(ports) > MaxPorts {
			t.Fatalf("%q gives %d ports", s, len(ports))
		}
		for _, p := range ports {
			if p.VMPort == 0 || p.First > p.Last || p.First == 0 && p.Last != 0 || !p.Host.IsValid() || p.Host.Is4In6() || p.Proto != TCP && p.Proto != UDP {
				t.Fatalf("%q gives %+v", s, p)
			}
			again, err := Parse(p.String())
			if err != nil || len(again) != 1 || again[0] != p {
				t.Fatalf("%q gives %v, which reads as %v, %v", s, p, again, err)
			}
		}
	})
}

func TestExposed(t *testing.T) {
	have := []Port{port(TCP, "0.0.0.0", 8080, 8080, 80), port(UDP, "127.0.0.1", 0, 0, 8001)}
	got, others, err := Exposed([]string{"53/tcp", "53/udp", "443", "80/tcp", "80/udp", "8000-8002/udp", "8002/udp", "7/sctp"}, have)
	want := []Port{
		port(TCP, "127.0.0.1", 0, 0, 53), port(UDP, "127.0.0.1", 0, 0, 53), port(TCP, "127.0.0.1", 0, 0, 443),
		port(UDP, "127.0.0.1", 0, 0, 80), port(UDP, "127.0.0.1", 0, 0, 8000), port(UDP, "127.0.0.1", 0, 0, 8002),
	}
	if err != nil || !reflect.DeepEqual(got, want) || !slices.Equal(others, []string{"7/sctp"}) {
		t.Errorf("got %v, others %v, %v; want %v", got, others, err, want)
	}
	for _, s := range []string{"99999/tcp", "9-8", "0/tcp", "http/tcp", ""} {
		if got, _, err := Exposed([]string{s}, nil); err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func TestCheck(t *testing.T) {
	parse := func(specs ...string) (ports []Port) {
		for _, s := range specs {
			p, err := Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, p...)
		}
		return ports
	}
	for _, specs := range [][]string{
		{},
		{"8080:80", "8081:80"},
		{"8080:80", "8080:80/udp"},
		{"8080:80", "127.0.0.2:8080:80"},
		{"0.0.0.0:8080:80", "[::]:8080:80"},
		{"127.0.0.1:8080:80", "[::1]:8080:80"},
		{"0:80", "0:80"},
		{"8080:80", "8080-8090:80", "8080-8090:81"},
		{"1-1000:1-1000"},
	} {
		if err := Check(parse(specs...)); err != nil {
			t.Errorf("%q: %v", specs, err)
		}
	}
	for _, specs := range [][]string{
		{"8080:80", "8080:80"},
		{"8080:80", "8080:81"},
		{"8080:80", "0.0.0.0:8080:81"},
		{"[::]:8080:80", "[::1]:8080:81"},
		{"8080:80/udp", "127.0.0.1:8080:80/udp"},
		{"8070-8080:70-80", "8080-8081:1-2"},
	} {
		if err := Check(parse(specs...)); err == nil || !strings.Contains(err.Error(), "8080 of the host") {
			t.Errorf("%q: %v, want a conflict about port 8080", specs, err)
		}
	}
	if err := Check(parse("1-1000:1-1000", "80")); err == nil || !strings.Contains(err.Error(), "at most 1000") {
		t.Errorf("1001 ports: %v", err)
	}
}
